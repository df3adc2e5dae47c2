"""Which head suits: the held-out AUC of `embcam fit` with no options, on a folder of photographs and on drawn logos.

python benchmarks/heads.py FOLDER|logos [--seeds 5] [--cache DIR]

For each seed a quarter is held out; `choose_head` compares the heads by nested cross-validation on the rest, and the winner is scored.
Prints the winner and its AUC ROC (one-vs-rest) for each seed, that of every head alone, and the mean.
"""
import sys
from time import perf_counter

import numpy as np

from common import images_of, parser_of
from embcam import Backbone, EmbeddingClassifier
from embcam.model import HEADS, auc_roc, choose_head
from embcam.model.heads import tuned_head


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache")
    args = parser.parse_args()
    images = images_of(args.folder)
    backbone, won, alone = Backbone(pooled="stages", cache=args.cache or True), [], {name: [] for name in HEADS}
    for seed in range(args.seeds):
        train, test = images.split(test_size=.25, seed=seed)
        X, start = backbone.embed(train, progress=False), perf_counter()
        choice = choose_head(X, train.labels, seed, progress=False)
        seconds = perf_counter() - start
        for name, (_, n) in HEADS.items():
            estimator = choice.estimator if name == choice.name else tuned_head(name, X, train.labels, seed)
            clf = EmbeddingClassifier(backbone, estimator, n, seed, progress=False).fit(X, train.labels)
            alone[name].append(auc_roc(test.labels, clf.scores(test), clf.classes_))
        won.append(alone[choice.name][-1])
        print(f"seed {seed}: {choice.name} {won[-1]:.4f}, chosen in {seconds:.0f} s; " + ", ".join(f"{name} {values[-1]:.4f}" for name,
            values in alone.items()), flush=True)
    print(f"mean {np.mean(won):.4f}; " + ", ".join(f"{name} {np.mean(values):.4f}" for name, values in alone.items()))


if __name__ == "__main__": sys.exit(main())
