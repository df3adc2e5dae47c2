"""What the choice of a head is worth on images that it has not seen, and what it costs, beside the choice before it.

python benchmarks/heads.py NAME=SOURCE ... [--each 10] [--seeds 2] [--divisions 5] [--sizes 1000 5000] [--out FILE.csv]

SOURCE: a folder of class folders; 'logos': 880 drawn ones; a folder with cells.csv (BCCD: two or more platelets, or fewer); 'elpv': solar
cells of the package elpv-dataset, defective above one half; or an .npz of embeddings E, labels y and perhaps groups. Four stratified folds:
every image is held out once, and groups on one side. With --each so many images of each class train instead, drawn for each seed, and all
others are held out. "now" is `choose_head`; "before" compared forest, logistic regression, SVM and LDA by AUC in nested searches and
calibrated nothing. Columns: see nbs/results/README.md. With --divisions the four folds are drawn so many times, a row of "now" for each:
how much a figure moves by chance. With --sizes the time alone is taken, on so many rows of the last set, drawn with noise of a fifth of a
standard deviation. OMP_NUM_THREADS=1.
"""
import argparse
import sys
import warnings
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

from common import labelled
from embcam import Backbone
from embcam.model import HEADS, choose_head
from embcam.model.scoring import calibration_chance, calibration_error, log_losses, mean_auc
from embcam.ranking import select_features
from embcam.ranking.questions import class_margins, class_scores

GRIDS = {"logistic": {"logisticregression__C": [.003, .01, .03, .1, .3]}, "svm": {"linearsvc__C": [.001, .003, .01]},
         "lda": {"lineardiscriminantanalysis__shrinkage": [.1, .2, .3]}}


def embedded(source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    "Embeddings, positions of the classes, and groups."
    if source.endswith(".npz"):
        found = dict(np.load(source))
        return found["E"].astype(float), np.unique(found["y"], return_inverse=True)[1], found.get("groups")
    images = labelled(source)
    E = Backbone(pooled="stages").embed(images).astype(float)
    return E, np.unique(images.labels, return_inverse=True)[1], images.groups


def searched(name: str, E: np.ndarray, codes: np.ndarray, seed: int) -> tuple:
    "A head as it was fitted before: (estimator, ids of its features)."
    make, n_features = HEADS[name]
    ids = np.arange(E.shape[1]) if n_features == "all" else select_features(E, codes, n_features, seed).features
    estimator = make(seed)
    if name in GRIDS:
        folds = StratifiedKFold(3, shuffle=True, random_state=seed)
        estimator = GridSearchCV(estimator, GRIDS[name], cv=folds, scoring=lambda own, X, true: mean_auc(true, class_margins(own, X)))
    return estimator.fit(E[:, ids], codes), ids


def before(E: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple:
    "The head of the best AUC, as it was chosen before: (name, estimator, ids of its features)."
    aucs = {}
    for name in ("forest", "logistic", "svm", "lda"):
        found = []
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(E, codes):
            estimator, ids = searched(name, E[train], codes[train], seed)
            found.append(mean_auc(codes[test], class_margins(estimator, E[np.ix_(test, ids)])))
        aucs[name] = np.mean(found)
    name = max(aucs, key=aucs.get)
    return name, *searched(name, E, codes, seed)


def now(E: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple:
    "The head that `choose_head` takes: (name, estimator, ids of its features)."
    choice = choose_head(E, codes, seed, groups=groups, progress=False)
    return choice.name, choice.estimator, choice.selected


def divisions(codes: np.ndarray, groups: np.ndarray | None, each: int | None, seeds: int, number: int = 0) -> list:
    "(train, test) positions."
    if each is None:
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        return list(kind(4, shuffle=True, random_state=100 + number).split(codes, codes, groups))
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        train = np.concatenate([rng.choice(np.flatnonzero(codes == k), each, replace=False) for k in range(codes.max() + 1)])
        found.append((train, np.setdiff1d(np.arange(len(codes)), train)))
    return found


def measured(choose, E: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, parts: list) -> dict:
    "A row: held-out scores of all parts together, but AUC and seconds in the mean over the parts."
    heads, aucs, seconds, scores, true = [], [], [], [], []
    for seed, (train, test) in enumerate(parts):
        start = process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name, estimator, ids = choose(E[train], codes[train], None if groups is None else groups[train], seed)
        seconds.append(process_time() - start)
        p = class_scores(estimator, E[np.ix_(test, ids)])
        heads, aucs = [*heads, name], [*aucs, mean_auc(codes[test], p)]
        scores.append(p)
        true.append(codes[test])
    p, true = np.concatenate(scores), np.concatenate(true)
    right = p.argmax(1) == true
    return {"train": len(parts[0][0]), "held_out": len(true), "heads": " ".join(heads), "auc": np.mean(aucs),
            "log_loss": log_losses(p, true).mean(), "accuracy": right.mean(), "ece": calibration_error(p, true),
            "ece_chance": calibration_chance(p), "score_right": p.max(1)[right].mean(), "score_wrong": p.max(1)[~right].mean(),
            "cpu_seconds": np.mean(seconds)}


def timed(n: int, E: np.ndarray, codes: np.ndarray) -> dict:
    "CPU seconds of a choice on n rows."
    rng = np.random.default_rng(0)
    some = rng.choice(len(E), n)
    noisy = E[some] + .2*E.std(0)*rng.standard_normal((n, E.shape[1]))
    start = process_time()
    name, *_ = now(noisy, codes[some], None, 0)
    return {"train": n, "heads": name, "cpu_seconds": process_time() - start}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--each", type=int)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--divisions", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--out", help="rows are added to those that it has")
    args = parser.parse_args()

    def add(**row):
        print(pd.DataFrame([row]).round(3).to_string(index=False), flush=True)
        if args.out:
            old = [pd.read_csv(args.out)] if Path(args.out).exists() else []
            pd.concat([*old, pd.DataFrame([row])]).round(4).to_csv(args.out, index=False)

    for each in args.sets:
        name, _, source = each.partition("=")
        E, codes, groups = embedded(source or name)
        if args.sizes: continue
        for number in range(args.divisions):
            parts = divisions(codes, groups, None, 0, number)
            add(data=f"{name}, division {number + 1}", way="now", **measured(now, E, codes, groups, parts))
        if args.divisions: continue
        label = name if args.each is None else f"{name}, {args.each} a class"
        parts = divisions(codes, groups, args.each, args.seeds)
        for way in (now, before): add(data=label, way=way.__name__, **measured(way, E, codes, groups, parts))
    for n in args.sizes: add(data=f"{name}, time alone", way="now", **timed(n, E, codes))


if __name__ == "__main__": sys.exit(main())
