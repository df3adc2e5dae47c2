"""Figure 5 for one picture (3 strategies; 4 layers and combined: 15 maps), embcam against the grad-cam package in a loop.

python benchmarks/figure5_speed.py [REPEATS]

Both sides run in turn in one process on the same frozen network, so noise of the machine falls on both. Printed are the
median seconds of each side, their ratio, and the largest difference of the layer maps before scaling.
"""
import copy
import statistics
import sys
import time
import warnings

import numpy as np
import torch
from pytorch_grad_cam import GradCAM

from embcam.cam import CosineTarget, activation_maps, combine, package_maps
from embcam.data import make_logos
from embcam.embedding import Backbone
from embcam.masking import TOZ, TRR, TZZ, impute

torch.set_num_threads(2)
warnings.filterwarnings("ignore", ".*untrained weights")
backbone = Backbone("resnet18")
picture = make_logos(4, seed=0, progress=False).images[0]
embedding = backbone.trace(picture).embedding
selected = np.argsort(-embedding)[:51]
targets = [CosineTarget(impute(embedding, selected[:13], selected, strategy)) for strategy in (TOZ, TZZ, TRR)]
theirs = copy.deepcopy(backbone.network)  # its hooks stay on it
modules = [getattr(theirs, layer) for layer in backbone.target_layers]


def embcam_maps():
    "One forward pass, one batched backward pass, maps of the picture's size."
    trace = backbone.trace(picture)
    maps = {layer: [trace.frame.to_picture(m) for m in ms] for layer, ms in activation_maps(trace, targets).items()}
    return maps | {"combined": [combine([maps[layer][i] for layer in backbone.target_layers]) for i in range(3)]}


def package_loop(cams=[]):
    "What a careful user of grad-cam writes: objects made once, one call per strategy for each layer and for all four."
    if not cams: cams += [GradCAM(theirs, [module]) for module in modules] + [GradCAM(theirs, modules)]
    x = backbone.prepare(picture)[0][None].requires_grad_()
    return [[cam(x, [target])[0] for target in targets] for cam in cams]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(repeats=15):
    embcam_maps(), package_loop()  # warm up
    mine, loop = zip(*[(seconds(embcam_maps), seconds(package_loop)) for _ in range(repeats)])
    ratios = [b/a for a, b in zip(mine, loop)]
    trace = backbone.trace(picture)
    a, b = activation_maps(trace, targets), package_maps(trace, targets, "gradcam")
    worst = max(np.abs(a[layer] - b[layer].numpy()).max()/np.abs(b[layer].numpy()).max() for layer in a)
    print(f"embcam {statistics.median(mine):.3f} s, grad-cam {statistics.median(loop):.3f} s: {statistics.median(ratios):.1f} times as fast "
          f"(least {min(ratios):.1f}, most {max(ratios):.1f}, {repeats} pairs); layer maps differ by {worst:.1e}")


if __name__ == "__main__": main(*map(int, sys.argv[1:2]))
