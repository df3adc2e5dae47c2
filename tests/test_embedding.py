"Edge cases of embcam.embedding: frames, caches, traces, every kind of network, embeddings of several stages, recipes, threads."
import copy
import json
import threading
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from sklearn.base import BaseEstimator, clone
from torch import nn

import families
from families import untrained
from embcam.network import Backbone, DiskCache, Frame, Trace, WeightsError
from embcam.network import embedding as room
from embcam.network.cache import prefetch
from embcam.network.layers import PooledStages, as_grid, patch_grid, record_activations

IMAGE = np.kron(np.random.default_rng(0).integers(0, 256, (9, 7, 3)), np.ones((10, 10, 1))).astype(np.uint8)  # coloured squares
IMAGES = [IMAGE, IMAGE[::-1].copy(), 255 - IMAGE]


def own():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture(scope="module")
def resnet(): return untrained(size=64)


@pytest.fixture(scope="module")
def lite(): return Backbone(size=64)


# frames

@pytest.mark.parametrize("image_size, size",
                         [((1, 1), (32, 32)), ((100, 300), (128, 320)), ((400, 500), (416, 512)), ((400, 2000), (128, 512))])
def test_native_frames(image_size, size): assert Frame.place(image_size, 512, "native", unit=32).size == size


@pytest.mark.parametrize("way", ["squash", "letterbox", "crop", "native"])
@pytest.mark.parametrize("image_size", [(1, 1), (5, 500), (37, 198), (224, 224)])
def test_frames_of_any_size(way, image_size):
    frame = Frame.place(image_size, 64, way, unit=8)
    square, padding = frame.square(np.full((*image_size, 3), 200, np.uint8))
    assert square.shape == (*frame.size, 3) and (square[~padding] == 200).all() and not square[padding].any()
    back = frame.to_image(np.ones((4, 4)))
    seen = np.isclose(back, 1, atol=1e-6)
    assert back.shape == image_size
    assert back.dtype == np.float32
    assert (seen | (back == 0)).all()
    assert seen.any()
    assert (way == "crop" or seen.all())


def test_squashed_maps_are_torch_s():
    grid = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.tensor(grid)[None, None], size=(50, 80), mode="bilinear",
                                             align_corners=False)[0, 0].numpy()
    assert np.allclose(Frame.place((50, 80), 224).to_image(grid), theirs, atol=1e-5)


def test_smaller_frames():
    assert Frame.place((3000, 6000), 224, "crop").limited(600) == Frame.place((300, 600), 224, "crop")
    assert Frame.place((30, 60), 224).limited(600) == Frame.place((30, 60), 224)
    assert Frame.place((1, 5000), 224).limited(100).image_size == (1, 100)


def test_unknown_preparation():
    with pytest.raises(ValueError, match="resize='stretch': choose 'squash'"): Frame.place((5, 5), 224, "stretch")
    with pytest.raises(ValueError, match="resize='stretch'"): Backbone(resize="stretch")
    with pytest.raises(ValueError, match="interpolation='cubic': choose nearest"): Backbone(interpolation="cubic")


# caches

def test_disk_cache(tmp_path):
    cache = DiskCache(tmp_path/"a"/"b")
    cache["x"], cache["y"] = np.float32([1, 2]), np.float32([3])
    assert sorted(DiskCache(tmp_path/"a"/"b")) == ["x", "y"] and repr(cache).endswith("2 embeddings")
    for damaged in b"", b"broken", b"\x93NUMPY":
        (tmp_path/"a"/"b"/"x.npy").write_bytes(damaged)
        assert "x" not in cache and cache.get("x") is None
    cache["x"] = np.float32([5])
    assert cache["x"] == 5 and not list((tmp_path/"a"/"b").glob("*.part"))
    with pytest.raises(KeyError): cache["z"]
    del cache["y"]
    cache.clear()
    assert len(cache) == 0


def test_a_damaged_or_foreign_entry_is_computed_again(tmp_path):
    backbone = untrained(own(), size=32, target_layers=["1"], cache=tmp_path)
    right = backbone.embed([IMAGE], progress=False)
    file, = tmp_path.glob("*.npy")
    for content in np.zeros(3, np.float32), None:
        if content is None: file.write_bytes(b"broken")
        else: np.save(file, content)
        assert np.array_equal(backbone.embed([IMAGE], progress=False), right)
    assert np.array_equal(np.load(file), right[0])


def test_equal_files_are_known_and_changed_ones_are_not(tmp_path):
    for name in "ä", "copy": Image.fromarray(IMAGE).save(tmp_path/f"{name}.png")
    backbone = untrained(own(), size=32, target_layers=["1"])
    a, b = backbone.embed([str(tmp_path/"ä.png"), tmp_path/"copy.png"], batch_size=1, progress=False)
    assert np.array_equal(a, b) and len(backbone.cache) == 1
    Image.fromarray(255 - IMAGE).save(tmp_path/"copy.png")
    assert not np.array_equal(backbone.embed([tmp_path/"copy.png"], progress=False)[0], a) and len(backbone.cache) == 2
    with pytest.raises(Exception, match="missing.png"): backbone.embed([tmp_path/"missing.png"], progress=False)


class CountingCache(dict):
    written = 0

    def update(self, pairs):
        pairs = dict(pairs)
        self.written += len(pairs)
        super().update(pairs)


def test_a_pass_for_cells_keeps_embeddings_for_later():
    "Those that `embed` gives, to the bit; nothing that is known is written again, and nothing of another precision."
    backbone, cache = untrained(size=64), CountingCache()
    alone = backbone.uncached().embed(IMAGES, progress=False)
    for kind, kept in (dict(cache=cache), len(IMAGES)), (dict(cache=CountingCache(), precision="bfloat16"), 0):
        other = backbone._altered(**kind)
        other.usual_cells(IMAGES)
        assert (len(other.cache), other.cache.written) == (kept, kept)
    known = backbone._altered(cache=cache)
    np.testing.assert_array_equal(known.embed(IMAGES, progress=False), alone)
    known.embed_with_cells(IMAGES, progress=False)
    assert cache.written == len(IMAGES)


@pytest.mark.parametrize("cache, kind", [(True, dict), (False, type(None)), ({}, dict)])
def test_kinds_of_cache(cache, kind):
    backbone = untrained(own(), size=32, target_layers=["1"], cache=cache)
    assert type(backbone.cache) is kind and (cache is not backbone.cache or cache == {}) and backbone.uncached().cache is None


def testprefetch_keeps_order_and_stops():
    assert list(prefetch(lambda i: i*i, range(50), workers=3, ahead=2)) == [i*i for i in range(50)]
    asked = []
    results = prefetch(lambda i: asked.append(i) or i, iter(range(1000)), workers=2, ahead=4)
    assert next(results) == 0
    results.close()
    assert len(asked) <= 10
    with pytest.raises(ZeroDivisionError): list(prefetch(lambda i: 1/i, [1, 0, 1]))
    assert list(prefetch(abs, [])) == []


# traces

def test_traces_in_any_mode(resnet):
    E = resnet.embed(IMAGES, progress=False)
    trace = resnet.trace(IMAGE)
    assert isinstance(trace, Trace) and np.allclose(trace.embedding, E[0], rtol=1e-4, atol=1e-5) and trace.embedding.dtype == np.float32
    for mode in torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16):
        with mode(): again, built = resnet.trace(IMAGE), untrained(size=64)
        assert np.array_equal(again.embedding, trace.embedding) and np.array_equal(built.trace(IMAGE).embedding, trace.embedding)
        gradient, = torch.autograd.grad(again.output.sum(), again.activations["layer2"])
        assert gradient.abs().max() > 0
        with mode(): assert np.allclose(resnet.uncached().embed(IMAGES[1:2], progress=False), E[1:2], rtol=1e-4, atol=1e-5)
    assert not any(m._forward_hooks for m in resnet.network.modules()) and not any(p.requires_grad for p in resnet.network.parameters())
    assert np.allclose(trace.activations["layer4"].mean((0, 2, 3)).detach(), trace.embedding, rtol=1e-4, atol=1e-5)


def test_one_image_counts_as_a_list(resnet, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path/"a.png")
    right = resnet.embed([IMAGE], progress=False)
    for image in IMAGE, Image.fromarray(IMAGE), tmp_path/"a.png", str(tmp_path/"a.png"):
        assert np.allclose(resnet.embed(image, progress=False), right, rtol=1e-4, atol=1e-5)
    assert resnet.embed([], progress=False).shape == (0, 512)


# networks

def test_the_default(lite):
    assert (lite.arch, lite.weights, lite.trained, lite.n_features) == ("efficientnet_lite0", "imagenet", True, 1280)
    assert (lite.interpolation, lite.mean, lite.std) == ("bicubic", (.5,)*3, (.5,)*3)
    assert lite.target_layers == ("blocks.1", "blocks.2", "blocks.4", "bn2") and lite.averages == {"bn2": slice(0, 1280)}
    assert Backbone().size == 224 and "Backbone('efficientnet_lite0'): imagenet, sha256 " in repr(lite)


@pytest.mark.filterwarnings("ignore")
def test_what_was_built_by_name_is_surveyed_once(monkeypatch):
    ran = []
    monkeypatch.setattr(room, "_SURVEYS", {})
    monkeypatch.setattr(room, "_survey", lambda *args, do=room._survey: ran.append(args) or do(*args))
    first = Backbone(size=64, pooled="stages")
    with torch.no_grad(): next(first.network.parameters()).mul_(2)
    again = Backbone(size=64, pooled="stages")
    assert len(ran) == 1 and again.anatomy == first.anatomy and again.weights_hash == first.weights_hash
    assert not torch.equal(*(next(backbone.network.parameters()) for backbone in (first, again)))  # networks of their own
    assert (again.embed([IMAGE], progress=False) != first.embed([IMAGE], progress=False)).any()
    others = dict(), dict(pooled=["blocks.6", "blocks.2"]), dict(target_layers="blocks.4"), dict(weights=None, seed=1), dict(weights=None)
    for options in others: Backbone(size=64, **options)
    Backbone(size=96, pooled="stages")
    assert len(ran) == 7
    for _ in range(2): Backbone(size=64, pooled=iter(["blocks.6", "blocks.2"]))  # which is empty afterwards
    for _ in range(2): Backbone(again.network, size=64)  # a module of somebody's own may have changed
    assert len(ran) == 11
    for i in range(70): room._remember_survey(f"{i}", own, own, first.anatomy)
    assert len(room._SURVEYS) == 64


def test_untrained_networks_warn_and_say_so():
    with pytest.warns(UserWarning, match="untrained weights"): backbone = Backbone("squeezenet1_0", weights=None, size=64)
    assert not backbone.trained
    assert backbone.weights == "untrained weights (seed 0)"
    assert untrained(own(), size=32, target_layers="1").trained
    assert untrained("squeezenet1_0", size=64, seed=1).weights_hash != backbone.weights_hash


def test_an_input_too_small_for_stages():
    with pytest.raises(ValueError, match="no stages for images of 1 px: choose a larger size"): Backbone(size=1, pooled="stages")


def test_names_that_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"Without internet: Backbone\(\)"): Backbone("resnet18")
    with pytest.raises(ValueError, match="No network 'resnet19'"): Backbone("resnet19")
    for layers, message in ((["layer5"], "No module 'layer5' in ResNet"), ([], "no layer that can carry a map"),
                            (["layer4", "fc"], "'fc' returns no grid")):
        with pytest.raises(ValueError, match=message): untrained(size=64, target_layers=layers)
    with pytest.raises(ValueError, match=r"must return embeddings of shape \(n, D\)"): Backbone(nn.Conv2d(3, 4, 1), target_layers=[""])
    with pytest.raises(ValueError, match="cannot take images of size=96 px"): Backbone(families.vit(), size=96)


def test_a_module_of_your_own():
    module = own()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = Backbone(module, target_layers=["1"], size=32)
    assert mine.embed(np.zeros((9, 7, 3), np.uint8), progress=False).shape == (1, 8)
    assert mine.averages == {"1": slice(0, 8)}
    assert mine.network is not module
    with pytest.warns(UserWarning, match="float32 copy"): half = Backbone(module.half(), target_layers=["1"], size=32)
    assert half.network[0].weight.dtype == torch.float32 and module[0].weight.dtype == torch.float16
    double = Backbone(own().double(), target_layers=["1"], size=32)
    assert double.trace(IMAGE).output.dtype == torch.float64 and double.embed([IMAGE], progress=False).dtype == np.float32


def test_vision_transformers():
    vit, last = families.vit(layers=12), "encoder.layers.encoder_layer_11"
    with pytest.raises(ValueError, match=f"patch tokens of '{last}' do not reach the embedding; encoder.layers.encoder_layer_1"):
        Backbone(vit, size=64, target_layers=[last])
    backbone = Backbone(vit, size=64)
    trace = backbone.trace(IMAGE)
    assert {a.shape for a in trace.activations.values()} == {(1, 32, 4, 4)} and len(trace.activations) == 4
    assert trace.pooled == {} and backbone.feature_layers is None and backbone.feature_name(7) == "7"  # the class token is no average
    with pytest.raises(ValueError, match="takes images of 64 x 64 px only"): Backbone(vit, size=64, resize="native")


def test_swin_keeps_its_channels_last():
    swin = untrained(families.swin(), size=128)
    assert swin.stages == {"features.1": (32, 32), "features.3": (16, 16), "features.5": (8, 8), "norm": (4, 4)}
    trace = swin.trace(IMAGE)
    assert [a.shape[1] for a in trace.activations.values()] == [16, 32, 64, 128] and trace.pooled == {"norm": slice(0, 128)}
    assert trace.as_grid("norm", torch.zeros(1, 4, 4, 128)).shape == (1, 128, 4, 4)


def test_native_sizes(resnet):
    native = untrained(resize="native", size=256)
    images = [np.random.default_rng(i).integers(0, 255, (*shape, 3), np.uint8)
              for i, shape in enumerate([(1, 1), (40, 200), (500, 100), (40, 200), (37, 198)])]
    together = native.embed(images, batch_size=2, progress=False)
    for image, embedding in zip(images, together): assert np.allclose(native.trace(image).embedding, embedding, rtol=1e-3, atol=1e-4)
    assert [tuple(native.prepare(image)[0].shape[1:]) for image in images] == [(32, 32), (64, 224), (256, 64), (64, 224), (64, 224)]


def test_timm_s_networks():
    atto = untrained("timm/convnext_atto", size=64)
    assert (atto.n_features, atto.interpolation, atto.target_layers) == (320, "bicubic", tuple(f"stages.{i}" for i in range(4)))
    again = Backbone("timm/convnext_atto", atto.network.state_dict(), size=64)
    assert again.trained and np.array_equal(again.embed(IMAGES, progress=False), atto.embed(IMAGES, progress=False))
    tiny = untrained("timm/vit_tiny_patch16_224")
    assert (tiny.mean, tiny.crop, tiny.target_layers) == ((.5,)*3, .9, tuple(f"blocks.{i}" for i in (1, 4, 7, 10)))


def test_averages_do_not_depend_on_the_target_layers():
    early = untrained(size=64, target_layers=["layer2"])
    assert early.averages == {"layer4": slice(0, 512)} and early.feature_layers == ("layer4",)*512
    assert list(early.trace(IMAGE).activations) == ["layer2"]


# several stages

def test_several_stages_of_the_default():
    backbone = Backbone(pooled="stages")
    assert backbone.pooled == ("blocks.3", "blocks.4", "blocks.5", "blocks.6")
    assert backbone.n_features == 80 + 112 + 192 + 320 == len(backbone.feature_layers)
    assert backbone.target_layers == ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
    assert [backbone.feature_name(f) for f in (0, 79, 80, 137, 703)] == ["blocks.3/0", "blocks.3/79", "blocks.4/0", "blocks.4/57",
                                                                         "blocks.6/319"]
    assert "704 features of blocks.3, blocks.4, blocks.5, blocks.6" in repr(backbone)
    with pytest.raises(IndexError): backbone.feature_name(704)


KINDS = {"resnet18": 64, families.swin: 128, "squeezenet1_0": 96, "timm/vit_tiny_patch16_224": 224, "efficientnet_lite0": 64}


@pytest.mark.parametrize("arch", KINDS)
def test_several_stages_of_every_kind(arch):
    backbone, plain = (untrained(arch, pooled=pooled, size=KINDS[arch]) for pooled in ("stages", None))
    trace, network = backbone.trace(IMAGE), plain.network
    assert len(trace.embedding) == backbone.n_features == sum(part.stop - part.start for part in trace.pooled.values())
    assert np.allclose(trace.embedding, backbone.embed([IMAGE], progress=False)[0], rtol=1e-3, atol=1e-4)
    layouts = backbone.network.layouts
    with torch.no_grad(), record_activations(network, backbone.pooled, layouts, patch_grid(network, trace.frame.size)) as grids:
        network(trace.input)
    for layer, part in trace.pooled.items():
        assert np.allclose(grids[layer].mean((0, 2, 3)), trace.embedding[part], rtol=1e-3, atol=1e-4), layer
    assert backbone.feature_layers[trace.pooled[backbone.pooled[1]].start] == backbone.pooled[1]
    assert backbone.weights_hash == plain.weights_hash
    gradients = torch.autograd.grad(trace.output.sum(), list(trace.activations.values()))
    assert all(g.any() for g in gradients) and all(a.shape[1:] == g.shape[1:] for a, g in zip(trace.activations.values(), gradients))


def test_stages_of_your_own_module():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(inplace=True), nn.Flatten(),
                           nn.Linear(384, 5))
    backbone = Backbone(module, size=32, pooled=["1", "3"])
    assert backbone.n_features == 10 and backbone.feature_name(4) == "3/0" and backbone.target_layers == ("1", "3")
    assert backbone.embed(IMAGES, progress=False).shape == (3, 10)


def test_one_pooled_layer_has_plain_names():
    backbone = untrained(size=64, pooled="layer3")
    assert (backbone.pooled, backbone.n_features, backbone.feature_name(57),
            backbone.feature_layers[57]) == (("layer3",), 256, "57", "layer3")
    assert backbone.target_layers == ("relu", "layer1", "layer2", "layer3")  # again four resolutions, the last the pooled one


def test_the_last_layer_is_the_network_s_own_embedding(resnet):
    pooled = untrained(size=64, pooled=["layer4"])
    assert np.allclose(pooled.embed(IMAGES, progress=False), resnet.embed(IMAGES, progress=False), rtol=1e-4, atol=1e-5)
    assert pooled.fingerprint != resnet.fingerprint and pooled.target_layers == resnet.target_layers


@pytest.mark.parametrize("pooled, message", [
    (["layer9"], "No module 'layer9' in ResNet; its stages are layer3, layer4"), (["fc"], "'fc' returns no grid"), ([], "one or more"),
    (["layer4", "layer4"], "each once"), ("stage", "No module 'stage'")])
def test_wrong_pooled_names(pooled, message):
    with pytest.raises(ValueError, match=message): untrained(size=64, pooled=pooled)


def test_a_target_layer_behind_the_pooled_ones_is_refused():
    with pytest.raises(ValueError, match="'layer4' does not reach the embedding; relu, layer1, layer2, layer3 do"):
        untrained(size=64, pooled=["layer3"], target_layers=["layer4"])


def test_the_package_s_maps_with_several_stages():
    trace = Backbone(size=64, pooled="stages").trace(IMAGE)
    with GradCAM(trace.network, [trace.network.get_submodule("blocks.4")]) as cam:
        grid = cam(trace.input.detach().clone().requires_grad_(), [lambda e: e[300]])[0, 8::16, 8::16]
    gradient, = torch.autograd.grad(trace.output[0, 300], trace.activations["blocks.4"])
    ours = (gradient.mean((2, 3), keepdim=True)*trace.activations["blocks.4"]).sum(1)[0].clamp(min=0).detach().numpy()
    assert ours.shape == grid.shape == (4, 4) and np.corrcoef(grid.ravel(), ours.ravel())[0, 1] > .9 if ours.any() else not grid.any()


# recipes, fingerprints and copies

@pytest.mark.parametrize("options", [
    dict(pooled="stages"), dict(pooled=("blocks.6", "blocks.2"), target_layers=["blocks.1"]), dict(resize="letterbox", crop=.9),
    dict(resize="native"),
    dict(mean=np.float32([0, 0, 0]), std=[1, 1, 1], interpolation="bilinear")])
def test_recipes_rebuild_the_backbone(options):
    backbone = Backbone(size=64, **options)
    recipe = json.loads(json.dumps(backbone.recipe))
    again = Backbone.from_recipe(recipe, backbone.network.state_dict(), device="cpu", cache=False)
    assert again.recipe == backbone.recipe and again.fingerprint == backbone.fingerprint and again.cache is None and again.trained
    assert np.array_equal(again.embed([IMAGE], progress=False), backbone.embed([IMAGE], progress=False))


def test_recipes_of_untrained_and_own_networks():
    first = untrained(size=64, seed=3, pooled="stages")
    with pytest.warns(UserWarning, match="untrained"): again = Backbone.from_recipe(first.recipe, None)
    assert again.fingerprint == first.fingerprint
    mine = Backbone(own(), size=32, target_layers=["1"])
    with pytest.raises(ValueError, match="No network 'Sequential'"): Backbone.from_recipe(mine.recipe, None)
    assert Backbone.from_recipe(mine.recipe, mine.network.state_dict(), arch=own()).fingerprint == mine.fingerprint


def test_fingerprints_tell_embeddings_apart():
    variants = [dict(), dict(pooled="stages"), dict(pooled=("blocks.6", "blocks.5")), dict(pooled=("blocks.5", "blocks.6")),
                dict(resize="letterbox"),
                dict(mean=(0, 0, 0)), dict(interpolation="bilinear"), dict(crop=.5)]
    assert len({Backbone(size=64, **options).fingerprint for options in variants}) == len(variants)
    # what is drawn is not what is embedded
    assert Backbone(size=64, target_layers=["blocks.1"]).fingerprint == Backbone(size=64).fingerprint


@pytest.mark.parametrize("pooled", [None, "stages"])
def test_another_network_in_a_copy(pooled):
    backbone = untrained(size=64, pooled=pooled)
    network = copy.deepcopy(backbone.network)
    nn.init.normal_(network.get_submodule("layer3.0.conv1").weight, generator=torch.Generator().manual_seed(0))
    other, before = backbone.with_network(network, "layer3 randomised"), backbone.embed([IMAGE], progress=False)
    assert not np.allclose(other.embed([IMAGE], progress=False), before)
    assert np.array_equal(backbone.uncached().embed([IMAGE], progress=False), before)
    assert (other.weights, other.cache) == ("layer3 randomised", None)
    assert other.weights_hash != backbone.weights_hash and other.fingerprint != backbone.fingerprint
    assert isinstance(other.network, PooledStages) == (pooled is not None)


def test_clones_share_the_backbone(resnet):
    class Holds(BaseEstimator):
        def __init__(self, backbone=None): self.backbone = backbone
    assert clone(Holds(resnet)).backbone is resnet


# threads

@pytest.mark.parametrize("pooled", [None, "stages"])
def test_threads_embed_and_trace_the_same_network(pooled):
    backbone = untrained(size=64, pooled=pooled, cache=False)
    expected, wrong = [backbone.trace(image) for image in IMAGES], []

    def work(i):
        for _ in range(8):
            trace = backbone.trace(IMAGES[i])
            same = all(torch.equal(a, expected[i].activations[layer]) for layer, a in trace.activations.items())
            if not same or not np.array_equal(trace.embedding, expected[i].embedding): wrong.append("trace")
            if not np.allclose(backbone.embed([IMAGES[i]], progress=False)[0], expected[i].embedding, rtol=1e-3, atol=1e-4):
                wrong.append("embed")
    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not wrong and not any(m._forward_hooks for m in backbone.network.modules())


def test_as_grid_of_a_trace_is_the_layer_s(resnet):
    trace = resnet.trace(IMAGE)
    with record_activations(trace.network, ["layer2"]) as raw: trace.network(trace.input)
    assert torch.equal(trace.as_grid("layer2", raw["layer2"]), as_grid(raw["layer2"])[0])


@pytest.mark.parametrize("layer", ["3", "4"])
def test_cells_are_those_of_the_layer_that_was_asked_for(layer):
    "The fast copy folds the batch norm into the convolution before it; the cells of that convolution are its own all the same."
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU()
    network = nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for norm in network[1], network[4]: nn.init.uniform_(norm.running_var, .1, .3)
    backbone = Backbone(network, size=64, target_layers=[layer])
    E, cells = backbone.embed_with_cells(IMAGES, progress=False)
    traces = [backbone.trace(image) for image in IMAGES]
    assert layer in backbone.cell_layers
    channels = slice(None, 12) if backbone.cell_layers[0] == layer else slice(-12, None)
    for found, e, trace in zip(cells[..., channels], E, traces):
        np.testing.assert_allclose(found, trace.activations[layer][0].detach().permute(1, 2, 0), rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(e, trace.embedding, rtol=1e-3, atol=1e-4)


def test_embeddings_beside_cells_are_in_the_precision_that_was_chosen():
    rough = Backbone(size=64, precision="bfloat16")
    np.testing.assert_array_equal(rough.embed_with_cells(IMAGES, progress=False)[0], rough.embed(IMAGES, progress=False))
