"Figures and pages from arrays, strings and dictionaries."
from .plotting import annotate, mask_outline, overlay, ranking_bars, show_map
from . import pages  # noqa: F401, their methods

__all__ = ["annotate", "mask_outline", "overlay", "ranking_bars", "show_map"]
