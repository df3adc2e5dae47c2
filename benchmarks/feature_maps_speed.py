"""100 feature maps at four layers, against calls of the grad-cam package for one layer each.

python benchmarks/feature_maps_speed.py [RUNS]

Both are timed side by side in one run, alternating: ResNet-18 at 224 px, untrained (the time does not depend on the weights).
"""
import sys
import time
import warnings

import numpy as np
from pytorch_grad_cam import GradCAM

from embcam.maps import LinearTarget, feature_maps
from embcam.network import Backbone

warnings.filterwarnings("ignore", ".*untrained")
runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
backbone = Backbone("resnet18", None)
image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
x, modules = backbone.prepare(image)[0][None], dict(backbone.network.named_modules())


def ours(): return feature_maps(backbone.trace(image), range(100))


def package(calls=4):
    "One layer and one feature a call, the four layers in turn."
    for call in range(calls):
        with GradCAM(backbone.network, [modules[backbone.target_layers[call % 4]]]) as cam:
            cam(x.clone().requires_grad_(), [LinearTarget(np.eye(512)[call])])


ours(), package()
times = []
for _ in range(runs):
    start = time.perf_counter()
    ours()
    middle = time.perf_counter()
    package()
    times.append((middle - start, (time.perf_counter() - middle)/4))
calls = np.array([mine/one for mine, one in times])
print(f"100 feature maps x 4 layers: {np.median(times, 0)[0]:.2f} s, as long as {np.median(calls):.1f} calls of grad-cam (least "
      f"{calls.min():.1f}, most {calls.max():.1f})")
