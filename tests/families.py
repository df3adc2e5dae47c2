"""Networks of every family without trained weights; small members of the large families have layers of the same classes, and no heads."""
import warnings

import timm
import torch
from torch import nn
from torchvision.models import ConvNeXt, MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from embcam.network import Backbone
from embcam.network.layers import headless


def vit(size=64, patch=16, layers=6):
    torch.manual_seed(0)
    return headless(VisionTransformer(size, patch, layers, num_heads=2, hidden_dim=32, mlp_dim=64)).eval()


def swin():
    torch.manual_seed(0)
    return headless(SwinTransformer([4, 4], 16, [1, 1, 2, 1], [1, 2, 2, 4], [4, 4])).eval()


def convnext():
    torch.manual_seed(0)
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 32, 1), CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 1)]
    return headless(ConvNeXt(blocks, layer_scale=.5)).eval()


def maxvit():
    "For images of 112 x 112."
    torch.manual_seed(0)
    return headless(MaxVit((112, 112), 16, 7, [16, 32, 64], [1, 1, 1], 16, 0.)).eval()


def of_timm(name, **less):
    "One of timm's networks with less of something, such as depth=4."
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **less).eval()


def untrained(arch="resnet18", **options):
    "The backbone of a name, a network, or one of the functions above."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(arch, str): return Backbone(arch, weights=None, **options)
        return Backbone(arch if isinstance(arch, nn.Module) else arch(), **options)
