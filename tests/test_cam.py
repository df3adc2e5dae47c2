"Edge cases of embcam.cam: parity with the grad-cam package, tokens, threads, empty maps."
import gc
import io
import threading
import weakref
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import families
from families import untrained
from embcam.maps import CosineTarget, EnergyTarget, LayerMaps, LinearTarget, activation_maps, feature_maps
from embcam.maps.methods import GRADIENT_METHODS
from embcam.maps.cam import grid_maps
from embcam.maps.cells import cell_evidence, is_traced
from embcam.images.layer_maps import combine, evidence, heat
from embcam.maps.methods import _weighted_sum, layer_gradients
from embcam.maps.package import package_maps
from embcam.network import Backbone

IMAGE = np.kron(np.random.default_rng(0).integers(0, 256, (9, 7, 3)), np.ones((10, 10, 1))).astype(np.uint8)  # coloured squares


def probe(trace): return LinearTarget(np.random.default_rng(0).normal(size=len(trace.embedding)))
def difference(a, b): return np.abs(a - b).max()/np.abs(b).max()


@pytest.fixture(scope="module")
def resnet(): return untrained("resnet18", size=96)


@pytest.fixture(scope="module")
def trace(resnet): return resnet.trace(IMAGE)


@pytest.fixture(scope="module")
def vit(): return untrained(families.vit(), size=64).trace(IMAGE)


# targets

@pytest.mark.parametrize("target, message", [
    (CosineTarget(np.full(4, np.nan)), "NaN"), (CosineTarget(np.ones(3)), r"\(3,\)"),
    (LinearTarget(np.full(4, np.inf)), "NaN or infinite"), (LinearTarget(np.ones(3)), r"\(3,\)")])
def test_targets_refuse_what_does_not_fit(target, message):
    with pytest.raises(ValueError, match=message): target.gradient(np.ones(4))


def test_parallel_in_float32_is_parallel():
    e = np.random.default_rng(0).random(512)
    assert CosineTarget(np.float32(e)).why_empty(e) == "the reference has the embedding's own direction"
    assert (EnergyTarget().why_empty(0*e), LinearTarget(0*e).why_empty(e)) == ("the embedding is zero", "all weights are zero")


# parity

@pytest.mark.parametrize("arch", ["densenet121", "squeezenet1_1", "mobilenet_v3_small", "regnet_y_400mf", "swin_t"])
def test_gradcam_equals_the_package_in_every_family(arch):
    there = untrained(arch, size=64).trace(IMAGE)
    theirs = package_maps(there, [probe(there)], "gradcam")
    for layer, m in grid_maps(there, [probe(there)]).items(): assert difference(m, theirs[layer].numpy()) < 1e-5, layer


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "xgradcam", "layercam"])
def test_four_methods_equal_the_package(trace, vit, method):
    theirs = package_maps(trace, [probe(trace)], method)
    for layer, m in grid_maps(trace, [probe(trace)], method).items(): assert difference(m, theirs[layer].numpy()) < 1e-5, layer
    if method == "gradcam":
        theirs = package_maps(vit, [probe(vit)], method)
        for layer, m in grid_maps(vit, [probe(vit)], method).items(): assert difference(m, theirs[layer].numpy()) < 1e-5, layer


def test_gradcam_plusplus_follows_its_formula(trace):
    "The package adds 1e-6 to the denominator, which swamps the small gradients of an embedding's target."
    target = CosineTarget(np.arange(512.)**4)
    G = layer_gradients(trace, [target.gradient(trace.embedding)])["layer2"][0].double().numpy()
    A = trace.activations["layer2"][0].detach().double().numpy()
    alpha = np.divide(G**2, 2*G**2 + G**3*A.sum((1, 2), keepdims=True), out=np.zeros_like(G), where=G != 0)
    formula = ((alpha*np.maximum(G, 0)).sum((1, 2))[:, None, None]*A).sum(0)
    assert difference(grid_maps(trace, [target], "gradcam++")["layer2"][0], formula) < 1e-5


def test_eigengradcam_equals_the_package_up_to_its_sign(trace):
    theirs = package_maps(trace, [probe(trace)], "EigenGradCAM")
    for layer, (m,) in grid_maps(trace, [probe(trace)], "eigengradcam").items():
        assert min(difference(sign*m, theirs[layer][0].numpy()) for sign in (1, -1)) < 1e-4, layer


@pytest.mark.parametrize("method", ["gradcamelementwise", "eigencam", "kpca_cam", "fem", "randomcam", "ablationcam", "scorecam"])
def test_other_classes_of_the_package_run_on_tokens(vit, method):
    with redirect_stderr(io.StringIO()): maps = activation_maps(vit, probe(vit), method)  # their progress bars
    for m in maps.toward.values(): assert m.shape == (4, 4) and np.isfinite(m).all()
    assert np.array_equal(maps["combined"], activation_maps(vit, probe(vit), method)["combined"])  # seeded


def test_the_package_leaves_numpys_generator_alone(trace):
    before = np.random.get_state()[1].copy()
    activation_maps(trace, probe(trace), "randomcam")
    assert np.array_equal(np.random.get_state()[1], before)


def test_methods_without_a_single_layer_are_refused(trace):
    with pytest.raises(ValueError, match="fullgrad"): activation_maps(trace, probe(trace), "fullgrad")
    with pytest.raises(ValueError, match="called"): activation_maps(trace, type("T", (), {"gradient": lambda self, e: e})(), "eigencam")


# networks

@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_the_callers_mode_does_not_matter(mode):
    "SqueezeNet works in place behind its layers, too."
    backbone = untrained("squeezenet1_1", size=64)
    outside = grid_maps(there := backbone.trace(IMAGE), [probe(there)])
    with mode(): inside = grid_maps(there := backbone.trace(IMAGE), [probe(there)])
    for layer in outside: assert np.array_equal(inside[layer], outside[layer])


def test_hooks_of_others_that_cannot_be_batched(resnet, trace):
    from pytorch_grad_cam import GradCAM
    vectors = np.random.default_rng(0).normal(size=(3, 512))
    alone = layer_gradients(trace, vectors)
    with GradCAM(resnet.network, [resnet.network.layer3]): beside = layer_gradients(resnet.trace(IMAGE), vectors)
    for layer in alone: assert (alone[layer] - beside[layer]).abs().max() <= 1e-5*alone[layer].abs().max()


def test_hirescam_is_zero_behind_a_layernorm(vit):
    "Euler: the gradient of a function that ignores a token's length is perpendicular to the token."
    *_, last = vit.activations
    G = layer_gradients(vit, [probe(vit).weights])[last][0]
    products = G*vit.activations[last][0].detach()
    assert (products.sum(0).abs()/products.abs().sum(0)).max() < 1e-4
    assert grid_maps(vit, [probe(vit)], "gradcam")[last].any()


class Brightness(nn.Module):
    "Three features: the average red, green and blue."
    def __init__(self):
        super().__init__()
        self.patches = nn.AvgPool2d(8)

    def forward(self, x): return self.patches(x).mean((2, 3))


def bright_square(shape, middle, patch):
    "A grey image with a white square, two patches high and wide."
    rows, columns = (np.abs(np.arange(n) + .5 - m) < side for n, m, side in zip(shape, middle, patch))
    return np.where(rows[:, None] & columns, 255, 128).astype(np.uint8)[..., None].repeat(3, 2)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop", "native"])
@pytest.mark.filterwarnings("ignore:.*one layer that can carry a map")
def test_a_map_of_brightness_points_at_the_bright_square(resize):
    "Pixel for pixel, wherever it lies, whatever the shape of the image, and however it was resized."
    eye = Backbone(Brightness(), size=128, resize=resize)
    for shape in (128, 128), (120, 75), (90, 240), (61, 400), (500, 333):
        frame = eye.trace(np.zeros((*shape, 3), np.uint8)).frame
        (y0, x0, y1, x1), (top, left, bottom, right) = frame.shown, frame.inside
        patch = 8*(y1 - y0)/(bottom - top), 8*(x1 - x0)/(right - left)  # of the network's input, in pixels of the image
        for middle in np.random.default_rng(0).uniform(frame.shown[:2], frame.shown[2:], (5, 2)):
            found = activation_maps(eye.trace(bright_square(shape, middle, patch)), LinearTarget(np.ones(3)))["patches"]
            peak = np.array(np.unravel_index(found.argmax(), shape)) + .5
            assert (np.abs(peak - middle) <= patch).all()


# maps

FAMILIES = {
    "vit": (families.vit, 64), "swin": (families.swin, 64), "convnext": (families.convnext, 64), "maxvit": (families.maxvit, 112),
    **{name: (partial(families.of_timm, name, depth=4), size) for name, size in (
        ("deit_tiny_patch16_224", 224), ("vit_small_patch16_dinov3", 256), ("cait_xxs24_224", 224), ("eva02_tiny_patch14_224", 224))},
    **{name: (partial(families.of_timm, name), 224) for name in ("vit_tiny_patch16_224", "convnextv2_atto", "pvt_v2_b0")}}


@pytest.mark.parametrize("make, size", FAMILIES.values(), ids=FAMILIES)
def test_focus_answers_every_class_of_every_family(make, size):
    trace = untrained(make(), size=size).trace(IMAGE)
    e, rng = trace.embedding, np.random.default_rng(0)
    W = rng.normal(size=(4, len(e)))
    targets = [LinearTarget(w, e - .1*w) for w in W - W.mean(0)]  # a margin well above the origin's
    assert is_traced(trace)
    shares = cell_evidence(trace, np.stack([t.weights for t in targets]), np.stack([t.origin for t in targets]))
    scores = [t.weights @ (e - t.origin) for t in targets]
    np.testing.assert_allclose(shares.sum((1, 2)), scores, rtol=1e-4)
    assert all(share.std() > 0 for share in shares)
    maps = activation_maps(trace, targets, "focus")
    assert all(m["combined"].any() for m in maps)
    alike = [np.corrcoef(a["combined"].ravel(), b["combined"].ravel())[0, 1] for i, a in enumerate(maps) for b in maps[:i]]
    assert max(alike) < .999
    for m in maps:
        sums = [grid.sum(dtype=float) for grid in m.toward.values()]
        np.testing.assert_allclose(sums, sums[0], rtol=1e-3)  # every layer shows the same evidence


def test_reading_leaves_the_network_as_it_was(vit):
    w = probe(vit).weights
    attend = torch.nn.functional.scaled_dot_product_attention
    first, again = cell_evidence(vit, w), cell_evidence(vit, w)
    assert (first == again).all() and torch.nn.functional.scaled_dot_product_attention is attend
    assert not any(module._forward_hooks for module in vit.network.modules())


def test_what_cannot_be_traced_is_said():
    backbone = untrained("timm/xcit_nano_12_p16_224")  # its attention runs over channels
    trace = backbone.trace(IMAGE)
    both = [probe(trace), LinearTarget(-probe(trace).weights)]  # Grad-CAM decides where to look
    assert not is_traced(trace) and any(m["combined"].any() for m in activation_maps(trace, both, "focus"))
    with pytest.raises(ValueError, match="cannot be traced to places"): cell_evidence(trace, probe(trace).weights)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_many_targets_at_once_are_each_alone(trace, method):
    targets = [LinearTarget(v) for v in np.random.default_rng(0).normal(size=(11, 512))]
    for layer, m in grid_maps(trace, targets, method).items():
        alone = grid_maps(trace, targets[9:10], method)[layer][0]
        assert np.abs(m[9] - alone).max() <= 1e-4*np.abs(alone).max()


@pytest.mark.parametrize("method", [*GRADIENT_METHODS, "eigencam"])
def test_a_target_without_gradient_draws_nothing(trace, method):
    quiet, loud = activation_maps(trace, [CosineTarget(trace.embedding), probe(trace)], method)
    assert not any(m.any() for m in [*quiet.values(), *quiet.signed.values()]) and set(quiet.evidence.values()) == {0.}
    assert method == "focus" or loud["combined"].any()  # a gate may be closed everywhere


def test_one_sided_methods_are_asked_twice(trace):
    for method in "layercam", "gradcam++":
        maps, opposite = activation_maps(trace, [probe(trace), LinearTarget(-probe(trace).weights)], method)
        for layer in maps.layers:
            against = maps.against[layer]
            assert np.allclose(against, opposite.toward[layer], rtol=1e-4, atol=1e-6*against.max())
    maps = activation_maps(trace, probe(trace), "hirescam")
    for layer in maps.layers: assert np.array_equal(maps.against[layer], -maps.toward[layer])


def test_one_target_many_targets_no_target(trace):
    assert isinstance(activation_maps(trace, probe(trace)), LayerMaps)
    assert [type(m) for m in activation_maps(trace, [probe(trace)])] == [LayerMaps]
    assert activation_maps(trace, []) == []


def test_layer_maps_are_a_mapping(trace):
    maps = activation_maps(trace, probe(trace), "layercam")
    assert list(maps) == ["combined", *trace.activations] == list(maps.signed) and len(maps) == len(maps.signed) == 5
    assert "combined" in maps and "layer9" not in maps
    with pytest.raises(KeyError): maps["layer9"]
    for both, low in (maps, 0), (maps.signed, -1):
        for m in both.values(): assert m.shape == IMAGE.shape[:2] and m.dtype == np.float32 and low <= m.min() and m.max() <= 1
    small = maps.limited(30)
    assert small["combined"].shape == small.signed["layer1"].shape == (30, 23)
    assert maps.evidence == small.evidence


def test_layers_that_show_nothing_are_left_out(trace):
    maps = activation_maps(trace, probe(trace))
    size = np.abs(maps.toward["layer1"])
    half = replace(maps, toward=maps.toward | {"layer1": -size}, against=maps.against | {"layer1": size})
    mean = np.mean([maps[layer] for layer in maps.layers[1:]], axis=0, dtype=np.float32)
    assert np.array_equal(half["combined"], mean/mean.max())
    assert half.evidence["layer1"] == 0
    assert half.evidence["combined"] == pytest.approx(np.mean([half.evidence[layer] for layer in maps.layers]))


def test_limits_make_maps_comparable(trace):
    maps = activation_maps(trace, probe(trace))
    limits = {layer: 2*float(m.max()) for layer, m in maps.toward.items()}
    limited = replace(maps, limits=limits)
    for layer in maps.layers: assert np.array_equal(limited[layer], heat(trace.frame.to_image(maps.toward[layer]), limits[layer]))
    assert limited["combined"].max() <= .5 + 1e-6
    assert not replace(maps, limits=dict.fromkeys(limits, 0.))["combined"].any()


def test_signed_maps_of_one_sided_methods_are_hirescam(trace):
    one, both = (activation_maps(trace, probe(trace), method) for method in ("layercam", "hirescam"))
    for layer in one: assert np.allclose(one.signed[layer], both.signed[layer], atol=1e-4)


def test_scaling_of_empty_maps():
    for empty in np.zeros((2, 2)), -np.eye(2):
        assert evidence(empty) == heat(empty).max() == combine([empty]).max() == 0
    assert combine([np.eye(2), -np.eye(2)], signed=True).max() == 0


def test_rounding_is_not_drawn():
    A, W = torch.rand(64, 3, 3), torch.rand(1, 64, 3, 3)
    assert not _weighted_sum(W - (W*A).sum(1, keepdim=True)/(A*A).sum(0)*A, A).any()


# features

def test_features_of_several_stages_have_their_own_layer():
    backbone = Backbone(size=64, pooled="stages")
    there = backbone.trace(IMAGE)
    ids = np.array([3, backbone.n_features - 1, backbone.n_features//2])
    maps = feature_maps(there, ids)
    units = np.eye(backbone.n_features)
    by_gradient = grid_maps(replace(there, activations=dict(there.activations)), [LinearTarget(units[f]) for f in ids])
    assert list(maps) == list(there.activations)
    for layer, m in maps.items(): assert np.allclose(m, by_gradient[layer], atol=1e-5*max(np.abs(m).max(), 1e-9)), layer


def test_feature_maps_of_some_layers(trace):
    some = feature_maps(trace, [3, 90], layers=["layer2"])
    assert list(some) == ["layer2"] and np.array_equal(some["layer2"], feature_maps(trace, [3, 90])["layer2"])
    by_gradient = grid_maps(trace, [LinearTarget(np.eye(512)[3])], "layercam")["layer4"]
    assert np.allclose(feature_maps(trace, [3], "layercam")["layer4"], by_gradient, atol=1e-6)
    for wrong in [512], [-1]:
        with pytest.raises(ValueError, match="no feature"): feature_maps(trace, wrong)


# nothing is left behind, and threads

def test_a_trace_is_freed_and_no_hook_stays(resnet):
    there = resnet.trace(IMAGE)
    for method in "layercam", "eigencam": activation_maps(there, probe(there), method)
    alive = weakref.ref(there.output)
    del there
    gc.collect()
    assert alive() is None
    assert not any(m._forward_hooks or m._backward_hooks for m in resnet.network.modules())


def test_threads_do_not_see_each_others_activations(resnet):
    "Methods of the grad-cam package hook the network: another thread that runs it meanwhile must not be recorded."
    backbone, other = resnet.uncached(), IMAGE[::-1, ::-1].copy()
    there = backbone.trace(IMAGE)
    alone, embedded, stop = grid_maps(there, [probe(there)], "eigencam"), backbone.embed([other], progress=False), threading.Event()
    wrong = []

    def embed():
        while not stop.is_set(): wrong.append(not np.array_equal(backbone.embed([other], progress=False), embedded))
    thread = threading.Thread(target=embed)
    thread.start()
    try: beside = [grid_maps(there, [probe(there)], "eigencam") for _ in range(10)]
    finally: stop.set(), thread.join()
    assert wrong and not any(wrong)
    for maps in beside:
        for layer in alone: assert np.array_equal(maps[layer], alone[layer])
