"Which features matter: heads, selection, rankings and the paper's masking."
from .head import Head, Prediction, Question
from .selection import Ranking, absent_features, select_features
from .rankings import RANKINGS, RankingMethod, add_effects, rank_features
from .stability import Stability, ranking_stability
from .masking import TOZ, TRR, TZZ, ImputationStrategy, impute, similarity
from . import surrogate  # noqa: F401, their methods

__all__ = ["Head", "ImputationStrategy", "Prediction", "Question", "RANKINGS", "Ranking", "RankingMethod", "Stability", "TOZ", "TRR", "TZZ",
           "absent_features", "add_effects", "impute", "rank_features", "ranking_stability", "select_features", "similarity"]
