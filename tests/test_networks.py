"Networks and checkpoints that people bring: wrappers, grey images, other outputs, what cannot be copied, names and keys of training runs."
import argparse
import copy
import threading
import types
import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models.feature_extraction import create_feature_extractor

from embcam.network import Backbone, WeightsError, build_network
from embcam.network.adapt import AdaptedNetwork
from embcam.network.checkpoints import read_weights, weights_hash
from embcam.network.layers import PooledStages
from embcam.network.weights import copy_network

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)


def small(channels=3, flat=True):
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, *[nn.Flatten()]*flat)


class Holder(nn.Module):
    "A module with a network, and a way to answer."
    def __init__(self, answer=lambda net, x: net(x), **held):
        super().__init__()
        self.net, self.answer = small(), answer
        for name, value in held.items(): setattr(self, name, value)

    def forward(self, x): return self.answer(self.net, x)


def embed(network, size=32, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone = Backbone(network, size=size, **options)
        E, trace = backbone.embed([IMAGE], progress=False), backbone.trace(IMAGE)
    assert np.allclose(E[0], trace.embedding, rtol=1e-3, atol=1e-5)
    assert all(torch.autograd.grad(trace.output.sum(), a, retain_graph=True)[0].any() for a in trace.activations.values())
    return backbone, E


RIGHT = embed(small())[1]


# wrappers and outputs

@pytest.mark.parametrize("wrap", [
    lambda net: torch.compile(net, backend="eager"), nn.DataParallel, lambda net: nn.DataParallel(torch.compile(net)),
    lambda net: torch.compile(nn.DataParallel(net))])
def test_wrappers_are_taken_off(wrap):
    backbone, E = embed(wrap(small()))
    assert backbone.arch == "Sequential" and backbone.target_layers == ("2", "4") and np.array_equal(E, RIGHT)
    assert backbone.weights_hash == Backbone(small(), size=32).weights_hash


def test_wrappers_within():
    net = nn.Sequential(OrderedDict(trunk=torch.compile(small()[:5]), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))
    backbone, E = embed(net, target_layers=["trunk.2", "trunk.4"])
    assert np.array_equal(E, RIGHT) and "_orig_mod" in net.trunk._modules
    assert np.array_equal(embed(nn.Sequential(nn.DataParallel(small())), target_layers=["0.module.4"])[1], RIGHT)


def test_compiled_in_place():
    net = small()
    net.compile()
    assert np.array_equal(embed(net)[1], RIGHT) and net._compiled_call_impl is not None


Pair = namedtuple("Pair", "features scores")


@dataclass
class Output:
    pooler_output: torch.Tensor
    last_hidden_state: torch.Tensor
    hidden_states: object = None


class ModelOutput(OrderedDict):
    "As of transformers: a mapping whose keys are attributes as well."


def both(net, x):
    "The last grid and the embedding."
    grid = net[:5](x)
    return grid, net[5:](grid)


ANSWERS = {
    "column": lambda net, x: net(x)[..., None, None], "list": lambda net, x: [net(x)],
    "mapping": lambda net, x: {"embedding": net(x), "loss": None},
    "tuple": both, "nested": lambda net, x: {"a": {"b": (None, net(x)[:, :, None, None])}},
    "named": lambda net, x: (lambda e: Pair(e, e.mean(1, keepdim=True)))(net(x)), "dataclass": lambda net, x: Output(*both(net, x)[::-1]),
    "transformers": lambda net, x: (lambda grid, e: ModelOutput(last_hidden_state=grid.flatten(2).transpose(1, 2),
                                                                pooler_output=e))(*both(net, x)),
    "twice": lambda net, x: (lambda e: {"a": e, "b": e})(net(x))}


@pytest.mark.parametrize("answer", ANSWERS)
def test_one_embedding_in_what_is_returned(answer):
    module = Holder(ANSWERS[answer])
    backbone, E = embed(module)
    assert np.array_equal(E, RIGHT) and backbone.target_layers == ("net.2", "net.4") and backbone.averages == {"net.4": slice(0, 12)}
    assert isinstance(backbone.network, AdaptedNetwork) and list(backbone.network.state_dict()) == list(module.state_dict())
    assert np.allclose(backbone.uncached().embed([IMAGE]*3, progress=False), E, atol=1e-6)


def test_children_without_the_last_one():
    resnet = torchvision.models.resnet18()
    backbone = Backbone(nn.Sequential(*list(resnet.children())[:-1]), size=64)
    assert backbone.n_features == 512 and backbone.target_layers == ("4", "5", "6", "7") and backbone.averages == {"7": slice(0, 512)}
    extractor = create_feature_extractor(torchvision.models.resnet18(), {"avgpool": "embedding"})
    assert Backbone(extractor, size=64).n_features == 512


@pytest.mark.parametrize("answer, message", [
    (lambda net, x: {"a": net(x), "b": net(x)*2},
     r"one and no more: it returns a \(1, 12\), b \(1, 12\). Wrap it: .* such as self.network\(x\)\['a'\]"),
    (lambda net, x: net[:5](x), r"not: it returns a tensor \(1, 12, 8, 8\). Wrap it: .* self.network\(x\).mean\(\(2, 3\)\)"),
    (lambda net, x: net[:5](x).flatten(2).transpose(1, 2), r"not: it returns a tensor \(1, 64, 12\). .* self.network\(x\)\[:, 0\]"),
    (lambda net, x: {}, "not: it returns dict"), (lambda net, x: None, "not: it returns NoneType"),
    (lambda net, x: net(x)[0], "not: it returns a tensor")])
def test_no_single_embedding(answer, message):
    with pytest.raises(ValueError, match=rf"Holder must return embeddings of shape \(n, D\), {message}"): Backbone(Holder(answer), size=32)


def test_layers_may_be_pooled_whatever_is_returned():
    for answer in ANSWERS["mapping"], lambda net, x: {"a": net(x), "b": net(x)*2}, lambda net, x: net[:5](x):
        backbone, E = embed(Holder(answer), pooled=["net.4"])
        assert isinstance(backbone.network, PooledStages) and np.allclose(E, RIGHT, atol=1e-6)


# grey images

def test_grey_images():
    backbone, E = embed(small(1))
    x, _ = backbone.prepare(IMAGE)
    grey = Image.fromarray(IMAGE).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    assert np.allclose(x[0], (np.asarray(grey)/255 - np.mean([.485, .456, .406]))/np.mean([.229, .224, .225]), atol=1e-6)
    assert x.shape == (1, 32, 32)
    net = small(1).eval()
    with torch.no_grad(): assert np.allclose(net(x[None]), E, atol=1e-6)
    assert np.array_equal(backbone.embed([np.asarray(Image.fromarray(IMAGE).convert("L"))], progress=False), E)


@pytest.mark.parametrize("options", [dict(mean=(.5,), std=(.25,)), dict(mean=.5, std=.25), dict(mean=(.4, .5, .6), std=[.25]*3)])
def test_mean_and_std_of_grey_images(options):
    backbone, E = embed(small(1), **options)
    assert np.allclose(backbone.mean, .5) and np.allclose(backbone.std, .25) and len(backbone.mean) == len(backbone.std) == 1
    again = Backbone.from_recipe(backbone.recipe, backbone.network.state_dict(), arch=small(1))
    assert again.fingerprint == backbone.fingerprint and np.array_equal(again.embed([IMAGE], progress=False), E)


@pytest.mark.parametrize("options", [dict(pooled="stages"), dict(resize="native"), dict(resize="letterbox"), dict(resize="crop")])
def test_grey_images_in_every_way(options):
    backbone, E = embed(small(1), **options)
    assert backbone.channels == 1 and E.shape == (1, backbone.n_features)
    assert backbone.with_network(copy.deepcopy(backbone.network), "copy").fingerprint == backbone.fingerprint


def test_one_value_for_three_channels():
    one, three = (Backbone(small(), size=32, mean=mean, std=std) for mean, std in ((.5, .25), ((.5,)*3, (.25,)*3)))
    assert np.array_equal(one.embed([IMAGE], progress=False), three.embed([IMAGE], progress=False))
    for options, message in ((dict(mean=(.5, .5)), r"mean=\(0.5, 0.5\): pass one value, or three"),
                             (dict(std=(1, 1, 0)), "std=.* pass some above 0")):
        with pytest.raises(ValueError, match=message): Backbone(small(), size=32, **options)


@pytest.mark.parametrize("channels", [2, 4, 6, 13])
def test_other_channels_are_an_error(channels):
    with pytest.raises(ValueError, match=f"Sequential takes images of {channels} channels"): Backbone(small(channels), size=32)


def test_a_grey_network_of_one_size():
    net = nn.Sequential(*small(1)[:5], nn.Flatten(), nn.Linear(12*8*8, 5))
    assert embed(net)[1].shape == (1, 5)
    with pytest.raises(ValueError, match="cannot take images of size=64 px .*mat1 and mat2"): Backbone(net, size=64)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(28*28, 64), nn.ReLU(), nn.Unflatten(1, (16, 2, 2)), nn.Conv2d(16, 8, 1),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="Sequential"): Backbone(flat, size=28)  # its first convolution does not see the image


# what cannot be used

def without_grad(net, x):
    with torch.no_grad(): return net(x)


def in_inference_mode(net, x):
    with torch.inference_mode(): return net(x)


INSIDE = [without_grad, in_inference_mode, lambda net, x: net(x.detach())]
BEHIND = [lambda net, x: net(x).detach(), lambda net, x: {"e": net(x).detach()}]  # the layers themselves keep their graph


@pytest.mark.parametrize("answer, options", [
    *[(answer, options) for answer in INSIDE + BEHIND for options in ({}, dict(target_layers=["net.2"]))],
    *[(answer, dict(pooled=["net.4"])) for answer in INSIDE]])
def test_an_embedding_without_a_graph(answer, options):
    with pytest.raises(ValueError, match="Holder returns an embedding without a graph"): Backbone(Holder(answer), size=32, **options)


def test_what_cannot_be_differentiated():
    with pytest.raises(ValueError, match="Holder cannot be differentiated.*in-place"):
        Backbone(Holder(lambda net, x: net(x.sub_(1))), size=32)
    with pytest.raises(ValueError, match="Holder cannot be differentiated.*numpy"):
        Backbone(Holder(lambda net, x: torch.tensor(net(x).numpy())), size=32)


def test_more_than_an_image():
    class Two(nn.Module):
        def forward(self, x, mask): return x
    with pytest.raises(ValueError, match="Two cannot take images of size=32 px .*missing 1 required"): Backbone(Two(), size=32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make",
                         [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 3, 32, 32)),
                          lambda net: nn.Sequential(torch.jit.script(net))])
def test_scripted_modules(make):
    with pytest.raises(ValueError, match="is a scripted or traced Sequential, .* pass the module"): Backbone(make(small()), size=32)


def test_exported_modules():
    with pytest.raises(ValueError, match="GraphModule has no layer that can carry a map"):
        Backbone(torch.export.export(small().eval(), (torch.zeros(1, 3, 32, 32),)).module(), size=32)


def test_modules_without_values():
    with pytest.raises(ValueError, match="0.weight of Sequential has no values yet"):
        Backbone(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten()), size=32)
    with torch.device("meta"), pytest.raises(ValueError, match="0.weight of Sequential is on the meta device"): Backbone(small(), size=32)
    with pytest.raises(ValueError, match="Holder cannot be copied .*lock"): Backbone(Holder(lock=threading.Lock()), size=32)


# the user's own module stays as it is

def normed(make, run):
    net = small()
    make(net[0])
    if run: net(torch.zeros(2, 3, 32, 32)).sum().backward()
    return net


def remembering():
    net = Holder()
    net.cache, net.answers = [net.net(torch.ones(2, 3, 32, 32))], types.SimpleNamespace(last=net.net(torch.ones(1, 3, 32, 32)*2))
    return net


def hooked():
    class Keep:
        def __call__(self, module, args, output): self.output = output
    net, keep = small(), Keep()
    net[3].register_forward_hook(keep.__call__)
    net(torch.zeros(2, 3, 32, 32))
    return net


MODULES = {
    "weight_norm": lambda: normed(nn.utils.weight_norm, True), "spectral_norm": lambda: normed(nn.utils.spectral_norm, True),
    "pruned": lambda: normed(lambda conv: prune.l1_unstructured(conv, "weight", .5), True),
    "both": lambda: normed(lambda conv: nn.utils.weight_norm(prune.l1_unstructured(conv, "bias", .5)), True),
    "parametrized": lambda: normed(parametrizations.weight_norm, True), "remembering": remembering, "hooked": hooked, "plain": small}


def state_of(net):
    "All that a user could miss."
    flags = [(name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for name, m in net.named_modules()]
    return flags, [(name, p.requires_grad, p.is_leaf, id(p), p.grad is None) for name, p in net.named_parameters()], weights_hash(net)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("training", [True, False])
def test_the_user_s_module_is_not_touched(name, training):
    net = MODULES[name]().train(training)
    if name == "plain": net[0].weight.requires_grad_(False)
    before = state_of(net)
    backbone = Backbone(net, size=32)
    E = backbone.embed([IMAGE], progress=False)
    assert np.allclose(E[0], backbone.trace(IMAGE).embedding, atol=1e-5) and state_of(net) == before
    copied = backbone.with_network(copy_network(backbone.network), "copy")  # as the sanity checks do
    assert np.array_equal(copied.embed([IMAGE], progress=False), E) and backbone.weights_hash == before[2]
    with torch.no_grad(): assert np.allclose(copy_network(net)(backbone.prepare(IMAGE)[0][None]), E, atol=1e-5)
    if name != "hooked": net(torch.ones(2, 3, 32, 32)).sum().backward()  # and it can still be trained


# checkpoints

def names(prefix="", within=None):
    "A state dict of the small network, its names changed."
    return {prefix + (within(name) if within else name): tensor + 1 for name, tensor in small().state_dict().items()}


PLAIN = names()
OPTIMIZER = {"state": {i: {"step": torch.tensor(3.), "exp_avg": torch.zeros(8, 3, 3, 3)} for i in range(3)},
             "param_groups": [{"lr": .1, "params": [0, 1, 2]}]}
CHECKPOINTS = {
    **{f"prefix {p}": names(p)
       for p in ("module.", "model.", "backbone.", "encoder.", "_orig_mod.", "net.backbone._orig_mod.", "module._orig_mod.model.",
                 "a.b.c.d.")},
    **{f"key {key}": {"epoch": 3, key: PLAIN, "optimizer": OPTIMIZER}
       for key in ("state_dict", "model", "model_state_dict", "net", "params", "weights", "model_ema")},
    "compiled within": names("", lambda name: "0._orig_mod." + name[2:] if name.startswith("0.") else name),
    "parallel within": names("model.", lambda name: name.replace(".", ".module.", 1)),
    "head": PLAIN | {"head.weight": torch.zeros(7, 12), "fc.bias": torch.zeros(7)},
    "head beside": {"backbone": PLAIN, "head": {"weight": torch.zeros(7, 12)}},
    "optimizer first": {"optimizer": OPTIMIZER, "scheduler": {"last_epoch": 3}, "network": names("module.")},
    "nested": {"run": {"best": {"weights": OrderedDict(names("backbone."))}}}, "list": [names(), OPTIMIZER],
    "half": {name: tensor.half() for name, tensor in PLAIN.items()},
    "averaged": {"n_averaged": torch.tensor(5), **names("module.")},
    "other tensors": {"loss": torch.tensor(.1), "mean": torch.zeros(3), "sd": PLAIN},
    "lightning": {"epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.4.0",
                  "state_dict": names("model.") | {"criterion.weight": torch.ones(4)}, "loops": {},
                  "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(.9), "best_model_path": "a.ckpt"}},
                  "optimizer_states": [OPTIMIZER], "lr_schedulers": [], "hyper_parameters": {"lr": .1}},
    "numbers": {"best": np.float64(.9), "step": np.int64(3), "args": argparse.Namespace(lr=.1, out=Path("runs")), "history": np.arange(3.),
                "state_dict": PLAIN}}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(name, tmp_path):
    torch.save(CHECKPOINTS[name], tmp_path/"run.pt")
    right = build_network(small(), PLAIN)[0]
    for weights in tmp_path/"run.pt", CHECKPOINTS[name] if isinstance(CHECKPOINTS[name], dict) else str(tmp_path/"run.pt"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            network = build_network(small(), weights)[0]
        if name == "half":
            assert all(torch.allclose(a.float(), b.float(), atol=1e-3)
                       for a, b in zip(network.state_dict().values(), right.state_dict().values()))
        else: assert weights_hash(network) == weights_hash(right)


def test_safetensors_with_a_prefix(tmp_path):
    save_file(names("model._orig_mod."), tmp_path/"a.safetensors")
    assert weights_hash(build_network(small(), tmp_path/"a.safetensors")[0]) == weights_hash(build_network(small(), PLAIN)[0])


def test_known_networks_from_training_runs(tmp_path):
    torch.manual_seed(3)
    full = torchvision.models.resnet18(num_classes=7)
    expected = build_network("resnet18", full.state_dict())[0]
    for prefix in "", "module.", "model.", "_orig_mod.", "net.backbone._orig_mod.":
        torch.save({"state_dict": {prefix + name: tensor for name, tensor in full.state_dict().items()}, "epoch": 2}, tmp_path/"run.pth")
        assert weights_hash(build_network("resnet18", tmp_path/"run.pth")[0]) == weights_hash(expected)


def test_the_network_s_own_prefix():
    bare, held = PLAIN, Holder()
    assert weights_hash(build_network(held, bare)[0].net) == weights_hash(build_network(small(), PLAIN)[0])
    assert weights_hash(build_network(nn.DataParallel(torch.compile(held)),
                                      {"model": names("module.net.")})[0].net) == weights_hash(build_network(small(), PLAIN)[0])


@pytest.mark.parametrize("average", ["model_ema", "ema", "state_dict_ema", "teacher", "swa_model"])
def test_averages_of_the_weights_come_second(average, tmp_path):
    torch.save({average: {name: tensor + 1 for name, tensor in PLAIN.items()}, "student": PLAIN}, tmp_path/"run.pt")
    with pytest.warns(UserWarning,
                      match=f"holds this network more than once: 'student.0.weight' and its like are taken, not '{average}.0.weight'"):
        network = build_network(small(), tmp_path/"run.pt")[0]
    assert weights_hash(network) == weights_hash(build_network(small(), PLAIN)[0])
    chosen = build_network(small(), {name: t for name, t in read_weights(tmp_path/"run.pt").items() if name.startswith(average)})[0]
    assert weights_hash(chosen) != weights_hash(network)


@pytest.mark.parametrize("change, message", [
    (lambda x: {name: t for name, t in x.items() if "3." not in name},
     r"2 of 9 tensors missing, 0 of another shape, the first '3.weight', '3.bias'\. Its own names are 'x.0.weight'"),
    (lambda x: x | {"x.0.weight": torch.zeros(8, 1, 3, 3)},
     r"0 of 9 .*, 1 of another shape, the first '0.weight' \(\(8, 1, 3, 3\), not \(8, 3, 3, 3\)\)"),
    (lambda x: {}, "8 of 9 tensors missing, 0 of another shape, the first '0.weight', '0.bias', '1.weight'. It holds no tensors"),
    (lambda x: {"y" + name if name < "x.1" else name: t for name, t in x.items()}, "2 of 9 tensors missing")])
def test_errors_name_what_is_missing(change, message):
    with pytest.raises(WeightsError, match=f"a state dict does not fit this network: {message}"):
        build_network(small(), change(names("x.")))


@pytest.mark.filterwarnings("ignore")
def test_files_that_could_run_code(tmp_path):
    torch.save(small(), tmp_path/"module.pt")
    torch.save({"state_dict": PLAIN, "metric": Holder}, tmp_path/"class.pt")
    torch.jit.save(torch.jit.script(small()), str(tmp_path/"script.pt"))
    messages = {"module.pt": "refused: .* it holds torch.nn.modules.container.Sequential, which could run code. Save",
                "class.pt": "it holds .*Holder", "script.pt": "script.pt is a TorchScript archive"}
    for name, message in messages.items():
        with pytest.raises(WeightsError, match=message): read_weights(tmp_path/name)


def test_hashes_of_the_networks_that_worked_before():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for p in net.parameters(): nn.init.constant_(p, .5)
    backbone = Backbone(net, size=32, target_layers=["1"])
    assert isinstance(backbone.network, nn.Sequential)
    assert backbone.weights_hash.startswith("adf79acfd92cd14f")
    assert backbone.fingerprint.startswith("2c83c2a3a6993bbf")


# embeddings that depend on the batch

class Along(nn.Module):
    "Attention along the batch, as without batch_first."
    def __init__(self):
        super().__init__()
        self.net, self.attention = small(), nn.MultiheadAttention(12, 2)

    def forward(self, x):
        e = self.net(x)[:, None]
        return self.attention(e, e, e, need_weights=False)[0][:, 0]


def without_statistics():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1),
                         nn.ReLU(),
                                               nn.AdaptiveAvgPool2d(1), nn.Flatten())


DEPENDENT = {"statistics": without_statistics, "attention": Along,
             "centred": lambda: Holder(lambda net, x: net(x - x.mean((0, 2, 3), keepdim=True))),
             "one at a time": lambda: Holder(lambda net, x: net(x).view(1, 12))}


@pytest.mark.filterwarnings("ignore:.*one layer that can carry")
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("name", DEPENDENT)
def test_an_embedding_does_not_depend_on_the_batch(name, pooled):
    torch.manual_seed(0)
    network, layer = DEPENDENT[name](), "3" if name == "statistics" else "net.3"
    if pooled and name in ("attention", "one at a time"): pytest.skip("the layer itself knows nothing of the batch")
    with pytest.warns(UserWarning, match="embeds an image alone and in a batch differently.*embcam runs images one by one"):
        backbone = Backbone(network, size=32, pooled=[layer] if pooled else None, target_layers=[layer], cache=False)
    images = [np.random.default_rng(i).integers(0, 30 + 40*i, (40, 40, 3)).astype(np.uint8) for i in range(5)]
    E = backbone.embed(images, progress=False)
    assert np.allclose(E, np.concatenate([backbone.embed([image], progress=False) for image in images]), atol=1e-6)
    assert np.allclose(E[3], backbone.trace(images[3]).embedding, atol=1e-5) and E.std(0).any()


@pytest.mark.filterwarnings("error")
def test_what_does_not_depend_on_the_batch_is_run_as_it_is():
    backbone = Backbone(small(), size=32)
    assert type(backbone.network) is nn.Sequential


def test_an_embedding_that_is_drawn_at_random_is_refused():
    with pytest.raises(ValueError, match="Holder gives one image another embedding each time"):
        Backbone(Holder(lambda net, x: nn.functional.dropout(net(x), training=True)), size=32)


def test_a_batch_norm_that_needs_a_batch_is_named():
    with pytest.raises(ValueError, match="has a batch norm without running statistics, which cannot run on one image alone"):
        Backbone(nn.Sequential(*small(), nn.BatchNorm1d(12, track_running_stats=False)), size=32)
