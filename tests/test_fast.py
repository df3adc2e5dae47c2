"Copies that embed: the same embeddings for every kind of network, what cannot be folded, bfloat16, and predictions that agree."
import gc
import json
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

import families
from families import untrained
from embcam.network import embedding as room, fast as fast_room
from embcam.explanation import Explainer
from embcam.images import make_logos
from embcam.judging.cost import count_passes
from embcam.model import EmbeddingClassifier, ModelError
from embcam.network import Backbone
from embcam.network.checkpoints import weights_hash
from embcam.network.fast import FrozenNorm, choose_precision, fast_network, gradient_network

IMAGES = list(np.random.default_rng(0).integers(0, 256, (3, 60, 50, 3)).astype(np.uint8))


# the same embedding

KINDS = {"resnet18": 64, "squeezenet1_1": 64, "densenet121": 64, "shufflenet_v2_x0_5": 64, families.convnext: 64, families.swin: 64,
         "timm/vit_tiny_patch16_224": 224,
         "timm/tf_efficientnet_lite0": 64, "googlenet": 96, "regnet_x_400mf": 64}


@pytest.mark.parametrize("pooled", [None, "stages"])
@pytest.mark.parametrize("arch", KINDS)
def test_every_kind_of_network(arch, pooled):
    backbone = untrained(arch, size=KINDS[arch], pooled=pooled, cache=False)
    before = weights_hash(backbone.network), [p.stride() for p in backbone.network.parameters()], repr(backbone.network)
    E = backbone.embed(IMAGES, progress=False)
    for image, e in zip(IMAGES, E):
        trace, plain = backbone.trace(image), backbone.trace(image, gradient=False)
        for one in trace, plain: np.testing.assert_allclose(one.embedding, e, rtol=1e-3, atol=1e-4*abs(e).max())
        grids = plain.activations | plain.pooled_grids
        for layer, grid in (trace.activations | trace.pooled_grids).items():
            torch.testing.assert_close(grids[layer], grid.detach(), rtol=1e-2, atol=1e-3*grid.abs().max().item())
    assert (weights_hash(backbone.network), [p.stride() for p in backbone.network.parameters()], repr(backbone.network)) == before
    ran = fast_network(backbone.network)[0], gradient_network(backbone.network)
    assert not any(m._forward_hooks for network in (backbone.network, *ran) for m in network.modules())


def layers(): return nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)


class Pair(nn.Module):
    "A convolution and a batch norm that are used in some other way than one behind the other."
    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        (self.conv, self.norm), self.way = layers(), way
        self.norm.running_mean.normal_(), self.norm.running_var.uniform_(.5, 2), self.norm.weight.data.normal_(1, .5)

    def forward(self, x): return self.way(self, x).relu().mean((2, 3))


def twice(net, x): return (lambda y: net.norm(y) + y)(net.conv(x))
def shared(net, x): return net.norm(net.conv(x)) + net.norm(net.conv(x.flip(3)))
def in_place(net, x): return net.norm(net.conv(x).mul_(2))
def between(net, x): return net.norm(net.conv(x).relu())
def viewing(net, x): return net.norm(net.conv(x)).view(len(x), 8, -1, 1)
def plain(net, x): return net.norm(net.conv(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", [plain, twice, shared, in_place, between, viewing])
@pytest.mark.parametrize("change",
                         [lambda net: net, lambda net: nn.utils.weight_norm(net.conv) and net,
                          lambda net: nn.utils.parametrizations.weight_norm(net.conv) and net,
                                    lambda net: net.double()])
def test_what_cannot_be_folded_is_left(way, change):
    net = change(Pair(way)).eval().requires_grad_(False)
    fast, memory_format = fast_network(net, 32)
    x = torch.randn(4, 3, 32, 32).to(net.norm.weight.dtype)
    with torch.inference_mode(): assert torch.allclose(fast(x.to(memory_format=memory_format)), net(x), rtol=1e-3, atol=1e-4)
    folded = not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    assert folded == (way in (plain, viewing) and isinstance(net.conv._parameters.get("weight"), nn.Parameter))


class Reads(Pair):
    "A network that takes the statistics out of its norm."
    def forward(self, x): return nn.functional.batch_norm(self.conv(x), self.norm.running_mean, self.norm.running_var).relu().mean((2, 3))


def slope(net, x):
    output = net(x := x.clone().requires_grad_())
    return output, *torch.autograd.grad(output.square().sum(), x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", [*map(Pair, (plain, twice, shared, in_place, between, viewing)), Reads(plain)],
                         ids=["plain", "twice", "shared", "in place", "between", "viewing", "read"])
def test_gradients_pass_through_frozen_norms(net):
    for dtype in torch.float32, torch.float64:
        net = net.to(dtype).eval().requires_grad_(False)
        made = gradient_network(net)
        assert type(made.norm) is FrozenNorm and type(net.norm) is nn.BatchNorm2d and gradient_network(net) is made
        for mine, right in zip(slope(made, x := torch.randn(2, 3, 32, 32, dtype=dtype)), slope(net, x)):
            torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-6)
        fast_room._GRADIENT.pop(net)


def test_no_other_norm_is_frozen():
    class Own(nn.BatchNorm2d):
        def forward(self, x): return 2*super().forward(x)
    listened = nn.BatchNorm2d(3)
    listened.register_forward_pre_hook(lambda module, args: None)
    for norm in Own(3), nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3), listened:
        net = nn.Sequential(norm, nn.Flatten()).eval()
        assert gradient_network(net) is net
    plain = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Flatten()).eval()
    assert gradient_network(plain) is not plain
    handle = plain[1].register_forward_hook(lambda module, args, output: None)
    assert gradient_network(plain) is plain  # somebody listens
    handle.remove()
    assert gradient_network(plain) is not plain


def test_what_a_norm_carries_keeps_its_name():
    backbone = Backbone(size=64, target_layers=["blocks.2.0.bn1.act", "bn2.drop"])
    for gradient in True, False:
        trace = backbone.trace(IMAGES[0], gradient)
        shapes = {layer: tuple(grid.shape) for layer, grid in trace.activations.items()}
        assert shapes == {"blocks.2.0.bn1.act": (1, 144, 16, 16), "bn2.drop": (1, 1280, 2, 2)}


def test_norms_of_the_batch_are_left():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert any(isinstance(m, nn.BatchNorm2d) for m in fast_network(net, 16)[0].modules())


def test_a_copy_is_made_once_and_goes_with_its_network():
    net = Pair(plain).eval()
    fast = fast_network(net, 32)[0]
    assert fast is fast_network(net, 32)[0] is not net and fast.norm is not net.norm
    gone = weakref.ref(fast)
    del net, fast
    gc.collect()
    assert gone() is None


def test_another_network_in_a_copy_has_another_copy():
    backbone = Backbone(Pair(plain), size=32, target_layers=["norm"])
    first, other = backbone.embed(IMAGES, progress=False), Pair(plain).eval()
    nn.init.ones_(other.conv.weight)
    assert not np.allclose(backbone.with_network(other, "other").embed(IMAGES, progress=False), first)
    assert np.array_equal(backbone.uncached().embed(IMAGES, progress=False), first)


def test_passes_of_both_are_counted():
    backbone = Backbone(Pair(plain), size=32, target_layers=["norm"], cache=False)
    with count_passes(backbone) as cost:
        backbone.embed(IMAGES, progress=False)
        backbone.trace(IMAGES[0])
    assert cost["forwards"] == 4 and not any(m._forward_hooks for m in (backbone.network, fast_network(backbone.network)[0]))


@pytest.mark.parametrize("way", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("mean, std", [((.485, .456, .406), (.229, .224, .225)), ((.5,), (.25,))])
def test_inputs_are_the_formula_s_to_the_bit(way, mean, std):
    backbone = Backbone(Pair(plain), size=32, target_layers=["norm"], resize=way, mean=mean, std=std)
    x, frame = backbone.prepare(IMAGES[0])
    square, padding = frame.square(IMAGES[0])
    right = (square.astype(np.float32)/255 - np.float32(mean))/np.float32(std)
    right[padding] = 0
    assert np.array_equal(x.numpy(), right.transpose(2, 0, 1)) and x.is_contiguous()


# bfloat16

@pytest.fixture(scope="module")
def logos(): return make_logos(40, seed=0, progress=False).split(seed=0)


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=500), RandomForestClassifier(50, random_state=0)])
def test_one_prediction_in_bfloat16(estimator, logos):
    train, test = logos
    backbone = Backbone(size=64, pooled="stages", precision="bfloat16")
    clf = EmbeddingClassifier(backbone, estimator, progress=False).fit(train)
    explain, predictions = Explainer(clf), clf.predict(test)
    alone = EmbeddingClassifier.from_fitted(backbone.uncached(), clf.estimator_, clf.selected_, clf.background_, clf.labels_, clf.classes_)
    for image, label, p in zip(test.images, predictions, clf.predict_proba(test)):
        ex = explain(image)
        assert ex.prediction == label == alone.predict([image])[0] and np.allclose(list(ex.probabilities.values()), p, atol=1e-6)
    E, exact = backbone.embed(test, progress=False), Backbone(size=64, pooled="stages").embed(test, progress=False)
    cosine = (E*exact).sum(1)/np.linalg.norm(E, axis=1)/np.linalg.norm(exact, axis=1)
    assert .99 < cosine.min() < 1 and E.dtype == np.float32


def test_precision_is_part_of_the_recipe(tmp_path, logos):
    exact, rough = (Backbone(size=64, precision=precision) for precision in ("float32", "bfloat16"))
    assert exact.fingerprint == Backbone(size=64).fingerprint != rough.fingerprint and "bfloat16" in repr(rough)
    assert Backbone.from_recipe(json.loads(json.dumps(rough.recipe)), "auto").fingerprint == rough.fingerprint
    old = {name: value for name, value in exact.recipe.items() if name != "precision"}
    assert Backbone.from_recipe(old, "auto").precision == "float32"
    clf = EmbeddingClassifier(rough, LogisticRegression(max_iter=500), progress=False).fit(logos[0])
    clf.save(tmp_path/"model")
    again = EmbeddingClassifier.load(tmp_path/"model")
    assert again.backbone.precision == "bfloat16" and (again.predict(logos[1]) == clf.predict(logos[1])).all()
    with pytest.raises(ModelError, match="belongs to a backbone with precision bfloat16, not float32"):
        EmbeddingClassifier.load(tmp_path/"model", backbone=exact)
    record = json.loads((tmp_path/"model"/"model.json").read_text())
    assert record["backbone"]["precision"] == "bfloat16"


def test_compile_takes_the_copy_only(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: compiled.append((module, options)))
    backbone = Backbone(size=64)
    assert backbone.compile(mode="max-autotune") is backbone
    assert compiled == [(fast_network(backbone.network, 64)[0], dict(mode="max-autotune"))] and compiled[0][0] is not backbone.network


# Drafts of large JPEGs

@pytest.fixture(scope="module")
def photographs(tmp_path_factory, logos):
    "JPEG files of 1200 x 900 px: upright, turned by EXIF, grey and CMYK."
    folder, turned = tmp_path_factory.mktemp("photographs"), Image.Exif()
    turned[274] = 6
    for i, image in enumerate(logos[0].images[:4]):
        large = Image.fromarray(image).resize((1200, 900), Image.Resampling.BICUBIC)
        large = (large, large.transpose(Image.Transpose.ROTATE_90), large.convert("L"), large.convert("CMYK"))[i]
        large.save(folder/f"{i}.jpg", quality=92, **dict(exif=turned) if i == 1 else {})
    return sorted(folder.iterdir())


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop", "native"])
def test_a_draft_is_the_same_image(photographs, resize):
    whole, draft = (Backbone(size=96, pooled="stages", resize=resize, draft=draft) for draft in (False, True))
    E = draft.embed(photographs, progress=False)
    exact = whole.embed(photographs, progress=False)
    cosine = (E*exact).sum(1)/np.linalg.norm(E, axis=1)/np.linalg.norm(exact, axis=1)
    assert .995 < cosine.min() and not np.array_equal(E, exact)
    for path, e in zip(photographs, E):
        trace, other = draft.trace(path), whole.trace(path)
        assert np.array_equal(trace.image, other.image)
        assert np.allclose(trace.embedding, e, atol=1e-4)
        assert trace.input.shape == other.input.shape
        assert trace.frame.image_size == other.frame.image_size and np.allclose(trace.frame.shown, other.frame.shown)
        assert trace.frame.to_image(np.ones((3, 3))).shape == trace.image.shape[:2]


def test_small_files_and_arrays_are_no_drafts(tmp_path, logos):
    whole, draft = (Backbone(size=96, draft=draft, cache=False) for draft in (False, True))
    image = Image.fromarray(logos[0].images[0]).resize((380, 380))
    image.save(tmp_path/"small.jpg")
    image.resize((1200, 900)).save(tmp_path/"large.png")
    sources = [tmp_path/"small.jpg", tmp_path/"large.png", np.asarray(image.resize((1200, 900)))]
    assert np.array_equal(whole.embed(sources, progress=False), draft.embed(sources, progress=False))


def test_a_draft_is_part_of_the_recipe(tmp_path, logos):
    whole, draft = (Backbone(size=64, draft=draft) for draft in (False, True))
    assert whole.fingerprint == Backbone(size=64).fingerprint != draft.fingerprint and "drafts" in repr(draft)
    EmbeddingClassifier(draft, LogisticRegression(max_iter=500), progress=False).fit(logos[0]).save(tmp_path/"model")
    assert EmbeddingClassifier.load(tmp_path/"model").backbone.draft
    with pytest.raises(ModelError, match="belongs to a backbone with draft True, not False"):
        EmbeddingClassifier.load(tmp_path/"model", backbone=whole)
    record = json.loads((tmp_path/"model"/"model.json").read_text())
    del record["backbone"]["draft"]  # as older models are
    (tmp_path/"model"/"model.json").write_text(json.dumps(record))
    assert not EmbeddingClassifier.load(tmp_path/"model").backbone.draft
    with pytest.raises(ModelError, match="belongs to a backbone with draft False, not True"):
        EmbeddingClassifier.load(tmp_path/"model", backbone=draft)


def test_auto_asks_the_processor(monkeypatch):
    for native, precision in (True, "bfloat16"), (False, "float32"):
        monkeypatch.setattr(fast_room, "native_bfloat16", lambda device, native=native: native)
        assert Backbone(Pair(plain), size=32, target_layers=["norm"], precision="auto").precision == precision
    assert room.choose_precision(Pair(plain).eval(), 32, "auto", torch.device("cpu")) == "float32"


def test_networks_that_do_not_run_in_bfloat16(monkeypatch):
    monkeypatch.setattr(fast_room, "native_bfloat16", lambda device: True)
    net = Pair(lambda net, x: net.norm(net.conv(x)) @ torch.ones(16, 16)).eval()
    assert choose_precision(net, 32, "auto", torch.device("cpu")) == "float32"
    with pytest.raises(ValueError, match="Pair does not run in bfloat16: pass precision='float32'"):
        Backbone(net, size=32, target_layers=["norm"], precision="bfloat16")
    with pytest.raises(ValueError, match="precision='half': choose 'float32', 'bfloat16', 'auto'"):
        Backbone(net, size=32, target_layers=["norm"], precision="half")
