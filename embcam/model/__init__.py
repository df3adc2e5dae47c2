"Network, selection and estimator as one model, and its files."
from .tables import EmbeddingTable, load_table
from .model_files import ModelError
from .scoring import auc_roc
from .heads import HEADS, lda_head, logistic_head, paper_forest, svm_head
from .head_choice import HeadChoice, choose_head
from .models import EmbeddingClassifier, EmbeddingModel

__all__ = ["EmbeddingClassifier", "EmbeddingModel", "EmbeddingTable", "HEADS", "HeadChoice", "ModelError", "auc_roc", "choose_head",
           "lda_head", "load_table", "logistic_head", "paper_forest", "svm_head"]
