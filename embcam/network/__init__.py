"A frozen network turns images into embeddings."
from .checkpoints import WeightsError
from .weights import build_network
from ..images.frames import Frame
from .cache import DiskCache
from .embedding import Backbone, Trace
from . import layers, adapt, fast  # noqa: F401, their methods

__all__ = ["Backbone", "DiskCache", "Frame", "Trace", "WeightsError", "build_network"]
