"How good is a map: metrics, baselines, sanity checks, comparisons."
from .metrics import MASK_METRICS
from .faithfulness import FAITHFULNESS, METRICS, embedding_deletion
from .cost import run_explainer
from .baseline_maps import Baseline, RandomFeatures, baselines, random_control
from .sanity import input_stability, randomization_test, shuffled_labels
from .settings import SettingsGrid
from .comparison import Comparison, bootstrap, compare, split_by_hash
from .pointing import grid_pointing
from . import removal  # noqa: F401, their methods

__all__ = ["Baseline", "Comparison", "FAITHFULNESS", "MASK_METRICS", "METRICS", "RandomFeatures", "SettingsGrid", "baselines", "bootstrap",
           "compare", "embedding_deletion", "grid_pointing", "input_stability", "random_control", "randomization_test",
           "run_explainer", "shuffled_labels", "split_by_hash"]
