"""Does trust tell explanations of wrong predictions, and models that learned nothing?

python benchmarks/trust.py NAME=SOURCE ... [--images 60] [--seed 1] [--out FILE.csv]

SOURCE: a folder of class folders; 'logos': 880 drawn ones; a folder with cells.csv (BCCD: two or more platelets, or fewer); 'elpv': 1,000
solar cells of the package elpv-dataset, defective above one half; or an .npz of embeddings E and labels y, of which all held-out images are
judged, by the numbers that need no map. Of each set 60 % train the head that `choose` takes of the linear ones,
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
from sklearn.model_selection import train_test_split

from common import images_of
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.explanation import Trust
from embcam.explanation.reliability import NearestNeighborDistance
from embcam.images import ImageSet
from embcam.model import choose_head
from embcam.model.held_out import held_out_classes
from embcam.ranking.questions import class_scores

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


def told(trust):
    "The numbers of trust, and what it warns of."
    sentences = trust.warnings()
    return {name: getattr(trust, name) for name in SIGNS} | dict(
        likeness=(trust.likeness or {}).get("combined"), warned=bool(sentences), words=" ".join(each.split(":")[0] for each in sentences))


def numbers(ex, true): return told(ex.trust) | dict(wrong=ex.prediction != true)


def both(labels, seed):
    "The labels, and shuffled ones."
    yield "true", labels
    yield "shuffled", np.random.default_rng(seed).permutation(labels)


def told_apart(rows, name, sign):
    "AUC of wrong predictions by one number; NaN where all are of one kind."
    known = rows.dropna(subset=name)
    return roc_auc_score(known["wrong"], sign*known[name]) if known["wrong"].nunique() > 1 else np.nan


def summary(name, model, rows):
    "A row of the table."
    wrong = rows["wrong"].astype(bool)
    row = dict(data=name, model=model, images=len(rows), wrong=wrong.mean(), warned=rows["warned"].mean(),
               warned_wrong=rows["warned"][wrong].mean(), warned_right=rows["warned"][~wrong].mean())
    row |= {f"by_{key}": told_apart(rows, key, sign) for key, sign in SIGNS.items() if key in rows}
    print({key: round(float(value), 3) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    print(rows["words"].value_counts().to_dict(), flush=True)
    return row


def with_maps(name, images, count, seed):
    "Two rows, of explanations of some held-out images."
    backbone = Backbone(pooled="stages")
    train, test = images.split(test_size=.4, seed=seed)
    E = backbone.embed(train, progress=False)
    some = test[np.random.default_rng(seed).permutation(len(test))[:count]]
    for model, labels in both(np.asarray(train.labels), seed):
        explain = Explainer(EmbeddingClassifier.choose(backbone, E, labels, heads=LINEAR, progress=False))
        yield summary(name, model, pd.DataFrame([numbers(explain(image), true) for image, true in zip(some.images, some.labels)]))


def without_maps(name, E, y, seed):
    "Two rows, of predictions of all held-out embeddings."
    train, test = train_test_split(np.arange(len(y)), test_size=.4, stratify=y, random_state=seed)
    far = NearestNeighborDistance(E[train])
    for model, labels in both(y[train], seed):
        choice = choose_head(E[train], labels, seed, heads=LINEAR, progress=False)
        known = held_out_classes(choice.probabilities, choice.codes)
        p, rows = class_scores(choice.estimator, E[np.ix_(test, choice.selected)]), []
        for scores, e, true in zip(p, E[test], y[test]):
            k = int(scores.argmax())
            trust = Trust(None, None, float(np.diff(np.sort(scores))[-1]), *far(e), score=float(scores[k]), auc=float(known.auc[k]),
                          right=float(known.right[k]/max(known.told[k], 1)))
            rows.append(told(trust) | dict(wrong=choice.classes[k] != true))
        yield summary(name, model, pd.DataFrame(rows).dropna(axis=1, how="all"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--images", type=int, default=60, help="explained of each set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="CSV; rows are added to those that it has")
    args = parser.parse_args()
    for argument in args.sets:
        name, _, source = argument.partition("=")
        if source.endswith(".npz"):
            kept = np.load(source)
            found = without_maps(name, kept["E"].astype(float), kept["y"], args.seed)
        else: found = with_maps(name, set_of(source or name), args.images, args.seed)
        rows = pd.DataFrame(found).round(3)
        if not args.out: continue
        old = [pd.read_csv(args.out)] if Path(args.out).exists() else []
        pd.concat([*old, rows]).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
