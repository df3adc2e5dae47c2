"""Which network, which head: the AUC on held-out images of networks that work without internet.

python benchmarks/networks.py FOLDER [--squeezenet FILE] [--seeds 10] [--logos 880] [--out nbs/results/networks.csv]

FOLDER holds classes in subfolders, such as photographs of circuit boards (DeepPCB); the second set is the drawn logos. Each network is
embedded once. Two heads are trained on three quarters of the embeddings and judged on the rest: the paper's forest of 300 balanced trees
on the sqrt(N) best features, and a standardised, balanced logistic regression (C = 0.1) on all. Columns: network, embedding, head, and the
mean AUC ROC (one-vs-rest) over the seeds for each set. FILE holds SqueezeNet's ImageNet weights. About 15 minutes on one core.
"""
import argparse
import sys
import warnings

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embcam.images import load_folder, make_logos
from embcam.model import EmbeddingClassifier, auc_roc, paper_forest
from embcam.network import Backbone


def logistic(seed): return make_pipeline(StandardScaler(), LogisticRegression(C=.1, class_weight="balanced", max_iter=2000))


HEADS = {"forest": (paper_forest, "sqrt"), "logistic": (logistic, "all")}  # estimator, number of features


def auc(backbone, images, head, seed):
    "The AUC of one head on the held-out quarter."
    estimator, n_features = HEADS[head]
    train, test = images.split(test_size=.25, seed=seed)
    classifier = EmbeddingClassifier(backbone, estimator(seed), n_features, random_state=seed, progress=False).fit(train)
    return auc_roc(test.labels, classifier.scores(test), classifier.classes_)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--squeezenet", help="file with SqueezeNet's weights; without it that row is left out")
    parser.add_argument("--seeds", type=int, default=10, help="number of splits (default: %(default)s)")
    parser.add_argument("--logos", type=int, default=880, help="number of logos (default: %(default)s)")
    parser.add_argument("--out", help="CSV to write; default: print only")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", ".*untrained weights")
    sets = {"deeppcb": load_folder(args.folder), "logos": make_logos(args.logos)}
    networks = {("efficientnet_lite0", "last layer"): dict(), ("efficientnet_lite0", "stages"): dict(pooled="stages"),
                ("squeezenet1_0", "last layer"): dict(arch="squeezenet1_0", weights=args.squeezenet),
                ("resnet18, untrained", "last layer"): dict(arch="resnet18", weights=None)}
    if not args.squeezenet: del networks["squeezenet1_0", "last layer"]
    rows = []
    for (network, embedding), options in networks.items():
        backbone = Backbone(**options)
        for head in HEADS:
            means = {name: np.mean([auc(backbone, images, head, seed) for seed in range(args.seeds)]) for name, images in sets.items()}
            rows.append(dict(network=network, embedding=embedding, head=head) | {name: round(value, 4) for name, value in means.items()})
            print(rows[-1], flush=True)
    if args.out: pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
