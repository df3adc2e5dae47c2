"Is the data set sound, and does the classifier look at what it should?"
from .near_duplicates import find_near_duplicates, group_near_duplicates
from .label_issues import find_label_issues
from .outliers import find_outliers
from .artefacts import Artefact, find_artefacts
from .findings import Audit, audit
from .drift import Drift, find_drift
from .marks import mark_of_artefact, mark_of_box
from .repairing import repair
from . import atlas, audit_page, proof  # noqa: F401, their methods

__all__ = ["Artefact", "Audit", "Drift", "audit", "find_artefacts", "find_drift", "find_label_issues", "find_near_duplicates",
           "find_outliers", "group_near_duplicates", "mark_of_artefact", "mark_of_box", "repair"]
