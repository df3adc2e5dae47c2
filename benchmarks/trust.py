"""Does trust tell explanations of wrong predictions, and models that learned nothing?

python benchmarks/trust.py NAME=SOURCE ... [--images 60] [--seed 0] [--out FILE.csv]

SOURCE: a folder of class folders; 'logos': 880 drawn ones; a folder with cells.csv (BCCD: two or more platelets, or fewer); 'elpv': 1,000
solar cells of the package elpv-dataset, defective above one half. Of each set 60 % train the head that `choose` takes of the linear ones,
once with their labels and once with shuffled ones; images of the rest are explained by default. A row for each set and model: the share of
explanations that are warned of, among all and among those of wrong predictions, and for every number of trust the area under the curve of
"the prediction is wrong" (turned round: small numbers are doubtful, but for the distance and both likenesses). OMP_NUM_THREADS=1.
"""
import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from common import images_of
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.images import ImageSet

LINEAR = "ridge", "logistic", "lda", "svm"
SIGNS = dict(score=-1, margin=-1, evidence=-1, auc=-1, right=-1, percentile=1, likeness=1, shuffled=1)


def cells_of(folder):
    "Blood cells by their platelets."
    with open(Path(folder, "cells.csv"), encoding="utf-8") as file:
        platelets = Counter(row["image"] for row in csv.DictReader(file) if "platelet" in " ".join(row.values()).lower())
    paths = sorted(Path(folder, "images").iterdir())
    labels = ["many" if max(platelets[path.name], platelets[path.stem]) > 1 else "few" for path in paths]
    return ImageSet(paths, labels, names=[path.name for path in paths])


def solar_cells(n=1000):
    "Some of the solar cells."
    from elpv_dataset.utils import load_dataset
    cells, defective, _ = load_dataset()
    some = np.random.default_rng(0).choice(len(cells), n, replace=False)
    labels = np.where(defective[some] > .5, "defect", "good").tolist()
    return ImageSet([np.repeat(cells[i][..., None], 3, 2) for i in some], labels, names=[f"{i}.png" for i in some])


def set_of(source):
    "The images that a source names."
    if source == "elpv": return solar_cells()
    return cells_of(source) if Path(source, "cells.csv").is_file() else images_of(source, progress=False)


def numbers(ex, true):
    "What trust says of one explanation."
    trust = ex.trust
    row = {name: getattr(trust, name) for name in SIGNS}
    return row | dict(likeness=trust.likeness["combined"], wrong=ex.prediction != true, warned=bool(trust.warnings()),
                      words=" ".join(sentence.split(":")[0] for sentence in trust.warnings()))


def told_apart(rows, name, sign):
    "AUC of wrong predictions by one number; NaN where all are of one kind."
    known = rows.dropna(subset=name)
    return roc_auc_score(known["wrong"], sign*known[name]) if known["wrong"].nunique() > 1 else np.nan


def measure(name, images, count, seed):
    "Two rows."
    backbone = Backbone(pooled="stages")
    train, test = images.split(test_size=.4, seed=seed)
    E = backbone.embed(train, progress=False)
    labels, shuffled = np.asarray(train.labels), np.random.default_rng(seed).permutation(train.labels)
    some = test[np.random.default_rng(seed).permutation(len(test))[:count]]
    found = []
    for model, given in dict(true=labels, shuffled=shuffled).items():
        explain = Explainer(EmbeddingClassifier.choose(backbone, E, given, heads=LINEAR, progress=False))
        rows = pd.DataFrame([numbers(explain(image), true) for image, true in zip(some.images, some.labels)])
        wrong = rows["wrong"].astype(bool)
        row = dict(data=name, model=model, images=len(rows), wrong=wrong.mean(), warned=rows["warned"].mean(),
                   warned_wrong=rows["warned"][wrong].mean(), warned_right=rows["warned"][~wrong].mean())
        found.append(row | {f"by_{key}": told_apart(rows, key, sign) for key, sign in SIGNS.items()})
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in found[-1].items()}, flush=True)
        print(rows["words"].value_counts().to_dict(), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--images", type=int, default=60, help="explained of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="CSV; rows are added to those that it has")
    args = parser.parse_args()
    for argument in args.sets:
        name, _, source = argument.partition("=")
        rows = pd.DataFrame(measure(name, set_of(source or name), args.images, args.seed)).round(3)
        if not args.out: continue
        old = [pd.read_csv(args.out)] if Path(args.out).exists() else []
        pd.concat([*old, rows]).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
