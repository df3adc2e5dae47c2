"Edge cases of embcam.layers: families of networks, layouts, hooks and threads, embeddings of several stages."
import copy
import gc
import threading
import weakref
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from timm.models import create_model
from torch import nn

import families
from embcam.network.layers import (PooledStages, as_grid, choose_layers, choose_pooled, find_grids, find_stages, headless, input_stride,
                                   layers_with_gradient, like_network, network_lock, patch_grid, random_input, record_activations)


SMALL = dict(vit=partial(families.vit, size=224, patch=32, layers=12), swin=families.swin, convnext=families.convnext)


def build(name): return SMALL[name]() if name in SMALL else headless(torchvision.models.get_model(name)).eval()


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def layouts(grids): return {name: layout for name, (layout, _) in grids.items()}


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return build("resnet18")


@pytest.fixture(scope="module")
def vit(): return families.vit()


# families

@pytest.mark.parametrize("name, length", dict(
    resnet18=512, squeezenet1_0=512, alexnet=256, vgg11=512, densenet121=1024, mobilenet_v3_small=1024, efficientnet_b0=1280,
    regnet_x_400mf=400,
    shufflenet_v2_x0_5=1024, convnext=64, mnasnet0_5=1280).items())
def test_headless(name, length):
    with torch.no_grad(): assert build(name)(torch.zeros(1, 3, 64, 64)).shape == (1, length)


@pytest.mark.parametrize("name, size, stages", [
    ("resnet18", 224, dict(layer1=56, layer2=28, layer3=14, layer4=7)),
    ("squeezenet1_0", 224, {"features.1": 109, "features.5": 54, "features.10": 27, "features.12": 13}),
    ("vgg11_bn", 64, {"features.13": 16, "features.20": 8, "features.27": 4, "features.28": 2}),
    ("densenet121", 64, {"features.denseblock1": 16, "features.denseblock2": 8, "features.denseblock3": 4, "features.norm5": 2}),
    ("regnet_x_400mf", 64, {f"trunk_output.block{i}": 32 >> i for i in (1, 2, 3, 4)}),
    ("convnext", 64, {"features.1": 16, "features.3": 8, "features.5": 4, "features.7": 2}),
    ("swin", 128, {"features.1": 32, "features.3": 16, "features.5": 8, "norm": 4}),
    ("vit", 224, {f"encoder.layers.encoder_layer_{i}": 7 for i in (1, 4, 7, 10)})])
def test_stages(name, size, stages):
    network = build(name)
    assert find_stages(network, find_grids(network, size)[0], size) == {layer: (side, side) for layer, side in stages.items()}


def test_stages_of_a_network_within_a_network(resnet):
    wrapped = nn.Sequential(nn.Sequential(resnet))
    assert list(find_stages(wrapped, find_grids(wrapped, 64)[0], 64)) == [f"0.0.layer{i}" for i in (1, 2, 3, 4)]


def test_a_block_that_nothing_reads_gives_way_to_the_one_before():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 2, 2), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            y = self.b(self.a(x))
            self.c(y)
            return y.mean((2, 3))
    network = Skips()
    assert list(find_stages(network, find_grids(network, 32)[0], 32)) == ["a", "b"]


# layouts

@pytest.mark.parametrize("shape, layout", [
    ((1, 64, 7, 7), "channels first"), ((1, 7, 7, 64), "channels last"), ((1, 49, 64), "tokens"), ((1, 50, 64), "tokens"),
    ((1, 53, 64), "tokens"),
    ((1, 48, 64), None), ((1, 98, 64), None), ((1, 64), None), ((2, 64, 7, 7), None), ((1, 7, 8, 9), None)])
def test_layout(shape, layout):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.cut, self.put = nn.Conv2d(3, 1, 32, 32), Put(shape)
        def forward(self, x): return self.put(self.cut(x)).flatten()[None]
    found = find_grids(Fixed())[0]
    assert found.get("put", (None,))[0] == layout


class Put(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
    def forward(self, x): return torch.zeros(self.shape)


@pytest.mark.parametrize("layout, shape, patches", [
    ("channels first", (2, 5, 3, 4), (0, 0)), ("channels last", (2, 3, 4, 5), (0, 0)), ("tokens", (2, 12, 5), (3, 4)),
    ("tokens", (2, 17, 5), (3, 4))])
def test_as_grid_and_back(layout, shape, patches):
    output = torch.randn(shape)
    grid, back = as_grid(output, layout, patches)
    assert grid.shape == (2, 5, 3, 4) and torch.equal(back(grid), output)


def test_as_many_channels_as_rows():
    assert find_grids(families.swin(), 64)[0]["features.1"] == ("channels last", (16, 16, 16))


def test_patch_grid():
    assert patch_grid(build("vit"), (224, 160)) == (7, 5)
    assert patch_grid(nn.Conv2d(3, 8, 3), (224, 160)) == patch_grid(nn.Conv2d(3, 8, 1), (224, 160)) == (0, 0)


# hooks and threads

def test_hooks_are_gone(resnet, vit):
    for _ in range(2):
        with pytest.raises(RuntimeError), record_activations(resnet, ["layer1"]): resnet(torch.zeros(1))
        with pytest.raises(AttributeError), record_activations(resnet, ["layer1", "layer9"]): pass
        assert not any(m._forward_hooks for m in resnet.modules())
    find_stages(vit, find_grids(vit, 64)[0], 64)
    assert not any(m._forward_hooks for m in vit.modules())


def test_activations_are_those_before_a_relu_in_place():
    network = small()
    nn.init.constant_(network[0].weight, 0), nn.init.constant_(network[0].bias, -1)
    with record_activations(network, ["0", "1"]) as grids: network(torch.zeros(1, 3, 8, 8))
    assert (grids["0"] == -1).all() and (grids["1"] == 0).all()


def test_one_lock_for_each_network(resnet, vit):
    assert network_lock(resnet) is network_lock(resnet) is not network_lock(vit)
    network = small()
    gone, lock = weakref.ref(network), network_lock(network)
    del network
    gc.collect()
    assert gone() is None and lock is not network_lock(small())


def test_threads_do_not_see_each_others_activations():
    network, wrong = small(), []
    images = [torch.full((1, 3, 16, 16), float(value)) for value in (1, 2, 3)]
    with torch.no_grad(): expected = [network[:2](x) for x in images]

    def look(x, right):
        for _ in range(100):
            with record_activations(network, ["1"]) as grids, torch.no_grad(): network(x)
            if not torch.equal(grids["1"], right): wrong.append(x)
    threads = [threading.Thread(target=look, args=pair) for pair in zip(images, expected)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not wrong


# what can carry a map

def test_grids_say_what_is_wrong(vit):
    with pytest.raises(ValueError, match="VisionTransformer cannot take images of size=96 px"): find_grids(vit, 96)
    with pytest.raises(ValueError, match=r"Conv2d must return embeddings of shape \(n, D\)"): find_grids(nn.Conv2d(3, 4, 1), 8)


def test_random_input_is_the_same_and_of_the_network_s_type(resnet):
    assert torch.equal(random_input(resnet, 1, 3), random_input(resnet, 1, 3))
    assert random_input(nn.Conv2d(3, 4, 1).double(), 2).dtype == torch.float64 and like_network(nn.ReLU()).dtype == torch.float32


def test_layers_without_gradient(vit):
    grids = find_grids(vit, 64)[0]
    row = [f"encoder.layers.encoder_layer_{i}" for i in range(6)]
    assert layers_with_gradient(vit, row, grids, 64) == row[:5]
    with torch.inference_mode(): assert layers_with_gradient(vit, row[:1], grids, 64) == row[:1]

    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
        def forward(self, x): return self.conv(x.detach()).mean((2, 3)).detach()
    assert layers_with_gradient(Deaf(), ["conv"], find_grids(Deaf(), 16)[0], 16) == []


def test_choose_layers(resnet, vit):
    grids = find_grids(resnet, 64)[0]
    stages = find_stages(resnet, grids, 64)
    assert choose_layers(resnet, grids, stages, None, 64) == tuple(stages)
    assert choose_layers(resnet, grids, stages, "layer3.0", 64) == ("layer3.0",)
    wrong = [(["layer5"], "No module 'layer5' in ResNet; its stages are layer1"), (["layer4", "fc"], "'fc' returns no grid"),
             ([], "no layer that can carry")]
    for wanted, message in wrong:
        with pytest.raises(ValueError, match=message): choose_layers(resnet, grids, stages, wanted, 64)
    grids = find_grids(vit, 64)[0]
    with pytest.raises(ValueError, match="patch tokens of 'encoder.layers.encoder_layer_5' do not reach"):
        choose_layers(vit, grids, find_stages(vit, grids, 64), ["encoder.layers.encoder_layer_5"], 64)


def test_one_layer_warns():
    network = small()
    grids = find_grids(network, 32)[0]
    with pytest.warns(UserWarning, match="one layer that can carry a map, '1'"):
        choose_layers(network, grids, find_stages(network, grids, 32), None, 32)


def test_input_stride(resnet, vit):
    for network, size, expected in (resnet, 224, (32, 32)), (small(), 64, (4, 4)):
        grids, n = find_grids(network, size)
        assert input_stride(network, grids, find_stages(network, grids, size), n, size) == expected
    grids, n = find_grids(vit, 64)
    with pytest.raises(ValueError, match="takes images of 64 x 64 px only"): input_stride(vit, grids, find_stages(vit, grids, 64), n, 64)


# several stages

FAMILIES = {"resnet18": (64, ("layer3", "layer4")), "squeezenet1_0": (96, tuple(f"features.{i}" for i in (7, 8, 9, 10, 12))),
            "swin": (128, tuple(f"features.{i}" for i in (4, 5, 6, 7))), "vgg11": (64, tuple(f"features.{i}" for i in (9, 14, 19, 20))),
            "vit": (224, tuple(f"encoder.layers.encoder_layer_{i}" for i in (1, 4, 7, 10)))}


@pytest.mark.parametrize("name", FAMILIES)
def test_pooled_stages_of_every_family(name):
    network, (size, expected) = build(name), FAMILIES[name]
    grids = find_grids(network, size)[0]
    names = choose_pooled(network, grids, "stages", size)
    assert names == expected
    pooled, x = PooledStages(network, names, layouts(grids)), torch.randn(2, 3, size, size)
    with torch.inference_mode():
        embedding = pooled(x)
        with record_activations(network, names, layouts(grids), patch_grid(network, (size, size))) as found: network(x)
    assert torch.equal(embedding, torch.cat([found[n].mean((2, 3)) for n in names], 1))
    assert embedding.shape == (2, sum(grids[n][1][0] for n in names))
    stages = find_stages(pooled, find_grids(pooled, size)[0], size)
    assert list(stages)[-1] == names[-1]  # what comes behind the last pooled layer is not read


def test_stages_of_timm_s_networks():
    network = create_model("tf_efficientnet_lite0", num_classes=0).eval()
    assert choose_pooled(network, find_grids(network)[0], "stages") == ("blocks.3", "blocks.4", "blocks.5", "blocks.6")
    assert list(find_stages(network, find_grids(network)[0])) == ["blocks.1", "blocks.2", "blocks.4", "bn2"]
    vit = create_model("vit_tiny_patch16_224", num_classes=0).eval()
    assert choose_pooled(vit, find_grids(vit)[0], "stages") == ("blocks.1", "blocks.4", "blocks.7", "blocks.10")
    # held by the network itself, not by a module
    assert "cls_token" in PooledStages(vit, ["blocks.1"], {"blocks.1": "tokens"}).state_dict()


def test_pooled_stages_are_the_network_itself(resnet):
    pooled = PooledStages(resnet, ["layer4", "layer2"])
    assert list(pooled.state_dict()) == list(resnet.state_dict())
    assert [n for n, _ in pooled.named_modules()] == [n for n, _ in resnet.named_modules()]
    assert pooled.get_submodule("layer4.1.conv2") is resnet.layer4[1].conv2 and not pooled.training
    x = torch.randn(1, 3, 64, 64)
    other = copy.deepcopy(pooled)
    with torch.inference_mode():
        before = pooled(x)
        nn.init.zeros_(other.get_submodule("layer4.1.bn2").weight)  # a copy's modules are those that it runs
        assert before.shape == (1, 512 + 128) and torch.equal(pooled(x), before) and not torch.equal(other(x), before)


def test_gradients_reach_every_pooled_layer(resnet):
    pooled, names = PooledStages(resnet, ["layer2", "layer4"]), ["layer1", "layer2", "layer3", "layer4"]
    assert layers_with_gradient(pooled, names, find_grids(pooled, 64)[0], 64) == names
    early = PooledStages(resnet, ["layer2"])
    assert layers_with_gradient(early, names, find_grids(early, 64)[0], 64) == names[:2]


def test_the_package_sees_the_embedding(resnet):
    pooled = PooledStages(resnet, ["layer3", "layer4"])
    with GradCAM(pooled, [pooled.get_submodule("layer3")]) as cam: grid = cam(torch.randn(1, 3, 64, 64), [lambda e: e[5]])
    assert grid.shape == (1, 64, 64) and not any(m._forward_hooks for m in resnet.modules())


def test_pooled_names_are_checked(resnet, vit):
    grids = find_grids(resnet, 64)[0]
    assert choose_pooled(resnet, grids, "layer2", 64) == ("layer2",)
    assert choose_pooled(resnet, grids, ["layer4", "layer1"], 64) == ("layer4", "layer1")
    for wanted, message in (([], "one or more"), (["layer1", "layer1"], "each once"), (["layer9"], "No module 'layer9'"),
                            (["fc"], "'fc' returns no grid")):
        with pytest.raises(ValueError, match=message): choose_pooled(resnet, grids, wanted, 64)
    with pytest.raises(ValueError, match="'encoder.dropout.x'"): choose_pooled(vit, find_grids(vit, 64)[0], ["encoder.dropout.x"], 64)


def test_batches_are_pooled_image_by_image(vit):
    grids = find_grids(vit, 64)[0]
    pooled, x = PooledStages(vit, ["encoder.layers.encoder_layer_2"], layouts(grids)), torch.randn(3, 3, 64, 64)
    with torch.inference_mode(): assert np.allclose(pooled(x), torch.cat([pooled(row[None]) for row in x]), atol=1e-5)


# layers that run more than once

class Shared(nn.Module):
    "A trunk of two layers that runs as often as `way` asks, a pool and a last layer that run once."
    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(inplace=True))
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.act, self.last = nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, 2, 1)

    def forward(self, x): return self.way(self, x).mean((2, 3))


PARTLY = {"mirror": lambda net, x: net.trunk(x) + net.trunk(x.flip(3)).flip(3),
          "two scales": lambda net, x: net.last(net.trunk(x)) + net.trunk(nn.functional.avg_pool2d(x, 2)),
          "three": lambda net, x: net.trunk(x) + net.trunk(x.rot90(1, (2, 3))) + net.trunk(x.flip(2))}
WHOLE = {"in a row": lambda net, x: net.block(net.block(net.trunk(x))),
         "one activation": lambda net, x: net.act(net.last(net.act(net.block(net.trunk(x))))),
         "the same twice": lambda net, x: net.trunk(x) + net.trunk(x), "unread": lambda net, x: (net.trunk(x.flip(3)), net.trunk(x))[1]}


@pytest.mark.parametrize("name", PARTLY)
def test_layers_that_show_a_part_are_refused_and_left_out(name):
    network = Shared(PARTLY[name]).eval()
    grids = find_grids(network, 32)[0]
    assert not {"trunk", "trunk.0", "trunk.1"} & {*layers_with_gradient(network, list(grids), grids, 32)}
    stages = find_stages(network, grids, 32)
    for layer in "trunk", "trunk.1":
        with pytest.raises(ValueError, match=f"'{layer}' of Shared runs . times for one image.*choose a layer that runs once"):
            choose_layers(network, grids, stages, layer, 32)
    with pytest.raises(ValueError, match="'trunk' of Shared runs"): choose_pooled(network, grids, ["trunk"], 32)
    if not stages:
        with pytest.raises(ValueError, match="of Shared runs . times for one image"): choose_layers(network, grids, stages, None, 32)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", WHOLE)
def test_layers_that_run_again_and_show_everything(name):
    network = Shared(WHOLE[name]).eval()
    grids = find_grids(network, 32)[0]
    assert set(layers_with_gradient(network, list(grids), grids, 32)) == {*grids}
    assert choose_layers(network, grids, find_stages(network, grids, 32), list(grids), 32) == tuple(grids)


def test_what_follows_two_looks_carries_the_map():
    network = Shared(lambda net, x: net.last(net.trunk(x) + net.trunk(x.flip(3)).flip(3))).eval()
    grids = find_grids(network, 32)[0]
    assert list(find_stages(network, grids, 32)) == ["last"]
