"Network, selection and estimator as one classifier, and its files."
from .tables import EmbeddingTable, load_table
from .model_files import ModelError
from .scoring import auc_roc
from .heads import HEADS, lda_head, logistic_head, paper_forest, svm_head
from .head_choice import HeadChoice, choose_head
from .classifier import EmbeddingClassifier

__all__ = ["EmbeddingClassifier", "EmbeddingTable", "HEADS", "HeadChoice", "ModelError", "auc_roc", "choose_head", "lda_head",
           "load_table", "logistic_head", "paper_forest", "svm_head"]
