"Figures and pages from arrays, strings and dictionaries."
from .plotting import annotate, color_bar, explanation_figure, mask_outline, overlay, ranking_bars, show_map
from . import pages  # noqa: F401, their methods

__all__ = ["annotate", "color_bar", "explanation_figure", "mask_outline", "overlay", "ranking_bars", "show_map"]
