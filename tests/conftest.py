"Settings of the tests: no figure window, one thread for each library, and the browser's checks apart (`python tests/test_browser.py`)."
import os

import matplotlib
import pytest
import torch

from embcam.images import make_logos
from embcam.model import EmbeddingClassifier, logistic_head
from embcam.network import Backbone

matplotlib.use("Agg")
torch.set_num_threads(1)
collect_ignore = ["test_browser.py"]
if os.name != "posix": collect_ignore.append("test_faults.py")  # it fills disks and forks


@pytest.fixture(scope="module")
def forest():
    "The paper's forest on thirty drawn logos; a test file that needs another one has its own."
    return EmbeddingClassifier(Backbone(size=96), n_features=20, progress=False).fit(make_logos(30, seed=0, progress=False))


@pytest.fixture(scope="module")
def linear(forest):
    "A logistic regression on all features of the same images."
    classifier = EmbeddingClassifier(forest.backbone, logistic_head(), "all", progress=False)
    return classifier.fit(forest.background_, forest.labels_)
