"How good is a map: metrics, baselines, sanity checks, comparisons."
from .metrics import MASK_METRICS
from .faithfulness import FAITHFULNESS, METRICS, embedding_deletion
from . import cost  # noqa: F401, its names are imported from there
from .baseline_maps import Baseline, RandomFeatures, baselines
from .sanity import input_stability, randomization_test, shuffled_labels
from . import settings  # noqa: F401, its names are imported from there
from .comparison import Comparison, compare, split_by_hash
from .pointing import grid_pointing
from .shortcuts import planted_shortcut
from . import removal  # noqa: F401, their methods

__all__ = ["Baseline", "Comparison", "FAITHFULNESS", "MASK_METRICS", "METRICS", "RandomFeatures", "baselines", "compare",
           "embedding_deletion", "grid_pointing", "input_stability", "planted_shortcut", "randomization_test", "shuffled_labels",
           "split_by_hash"]
