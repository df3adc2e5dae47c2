"""Figure 5 for one image (3 strategies; 4 layers and combined: 15 maps), embcam against the grad-cam package in a loop.

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

from embcam import TOZ, TRR, TZZ, Backbone, make_logos
from embcam.maps import CosineTarget, activation_maps
from embcam.maps.cam import grid_maps
from embcam.maps.package import package_maps
from embcam.ranking import impute

torch.set_num_threads(2)
warnings.filterwarnings("ignore", ".*untrained weights")
backbone = Backbone("resnet18", None)
image = make_logos(4, seed=0, progress=False).images[0]
embedding = backbone.trace(image).embedding
selected = np.argsort(-embedding)[:51]
targets = [CosineTarget(impute(embedding, selected[:13], selected, strategy)) for strategy in (TOZ, TZZ, TRR)]
theirs = copy.deepcopy(backbone.network)  # its hooks stay on it
modules = [getattr(theirs, layer) for layer in backbone.target_layers]


def embcam_maps():
    "One forward pass, one batched backward pass, maps of the image's size."
    return [dict(maps) for maps in activation_maps(backbone.trace(image), targets)]


CAMS = [GradCAM(theirs, [module]) for module in modules] + [GradCAM(theirs, modules)]


def package_loop():
    "What a careful user of grad-cam writes: objects made once, one call per strategy for each layer and for all four."
    x = backbone.prepare(image)[0][None].requires_grad_()
    return [[cam(x, [target])[0] for target in targets] for cam in CAMS]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(repeats=15):
    embcam_maps(), package_loop()  # warm up
    mine, loop = zip(*[(seconds(embcam_maps), seconds(package_loop)) for _ in range(repeats)])
    ratios = [b/a for a, b in zip(mine, loop)]
    trace = backbone.trace(image)
    a, b = grid_maps(trace, targets), package_maps(trace, targets, "gradcam")
    worst = max(np.abs(a[layer] - b[layer].numpy()).max()/np.abs(b[layer].numpy()).max() for layer in a)
    print(f"embcam {statistics.median(mine):.3f} s, grad-cam {statistics.median(loop):.3f} s: {statistics.median(ratios):.1f} times as "
          f"fast "
          f"(least {min(ratios):.1f}, most {max(ratios):.1f}, {repeats} pairs); layer maps differ by {worst:.1e}")


if __name__ == "__main__": main(*map(int, sys.argv[1:2]))
