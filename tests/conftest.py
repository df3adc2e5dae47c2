"Settings of the tests: no figure window, one thread for each library, and the browser's checks apart (`python tests/test_browser.py`)."
import os

import pytest

os.environ["MPLBACKEND"] = "Agg"
collect_ignore = ["test_browser.py"]
if os.name != "posix": collect_ignore.append("test_faults.py")  # it fills disks and forks


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    "Imported here and below, since the process that only deals the tests out needs none of it."
    import torch
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def forest():
    "The paper's forest on thirty drawn logos; a test file that needs another one has its own."
    from embcam.images import make_logos
    from embcam.model import EmbeddingClassifier
    from embcam.network import Backbone
    return EmbeddingClassifier(Backbone(size=96), n_features=20, progress=False).fit(make_logos(30, seed=0, progress=False))


@pytest.fixture(scope="module")
def linear(forest):
    "A logistic regression on all features of the same images."
    from embcam.model import EmbeddingClassifier, logistic_head
    classifier = EmbeddingClassifier(forest.backbone, logistic_head(), "all", progress=False)
    return classifier.fit(forest.background_, forest.labels_)
