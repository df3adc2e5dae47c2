"Why did the classifier say that, and where in the image?"
from .builders import Fixed, Imputed, Logit, Signed
from .reliability import Trust
from .records import Explainer, Explanation
from .showing import explanation_grid
from .paper import similarity_table, strategy_grid, sweep
from . import making, saving  # noqa: F401, their methods

__all__ = ["Explainer", "Explanation", "Fixed", "Imputed", "Logit", "Signed", "Trust", "explanation_grid", "similarity_table",
           "strategy_grid", "sweep"]
