"""Does a map show a planted mark that the head goes by? Beside it, what masks of defects say of the same maps.

python benchmarks/shortcuts.py NAME=SOURCE ... --out CSV [--heads logistic forest] [--seeds 2] [--sizes .07 .14] [--n 8] [--rows CSV]
    [--methods focus cells]

SOURCE: a folder of class folders; 'logos': 880 drawn ones; a folder with cells.csv (BCCD: two or more platelets, or fewer); 'elpv': solar
cells of the package elpv-dataset, defective above one half. Three quarters fit a classifier; in the rest marks are planted
(`embcam.judging.shortcuts`): a stamp, a translucent word, a frame and a tint, at each size; place, class and images are drawn by the seed.
Only images whose margin falls by more than half without the mark count. Where there are masks, those of the held-out images whose SHA-256
is odd are scored for the image's own class. Columns: the set, the head, the method, the mark ("defect": masks), the measure, its mean, a
95 % interval by a bootstrap over images, and how many images. OMP_NUM_THREADS=1.
"""
import sys
import warnings
from pathlib import Path
from time import perf_counter

import pandas as pd

from common import defective, labelled, sets_parser
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.images import ImageSet
from embcam.judging import MASK_METRICS, split_by_hash
from embcam.judging.baseline_maps import Baseline, random_control
from embcam.judging.comparison import bootstrap
from embcam.judging.cost import run_explainer
from embcam.judging.shortcuts import MARKS, planted_shortcut
from embcam.model import HEADS

LOCATION = ("pixel_auc", "pointing_game_15", "average_precision")


def explainers(clf: EmbeddingClassifier) -> dict:
    "All methods, and what knows nothing of the head."
    methods = {method: Explainer(clf, method=method) for method in ("focus", "cells", "layercam", "hirescam", "gradcam")}
    paper = {"the paper: TZZ, Grad-CAM": Explainer.paper(clf, "TZZ", samples=2000)}
    return methods | paper | {"focus, random features": random_control(methods["focus"], "all"), "edges": Baseline(clf, "edges")}


def located(makers: dict, images: ImageSet) -> pd.DataFrame:
    "A row per defect, method and measure: the map of the image's own class against the mask."
    rows = []
    for sample in defective(split_by_hash(images)[1]):
        for name, maker in makers.items():
            found = run_explainer(maker, sample.image, sample.label).maps["combined"]
            rows += [("defect", sample.name, name, metric, MASK_METRICS[metric](found, sample.mask)) for metric in LOCATION]
    return pd.DataFrame(rows, columns=["mark", "image", "method", "measure", "value"])


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    "Means and intervals, for each mark and for all marks together."
    together = frame[frame["mark"] != "defect"].assign(mark="all marks")
    rows = []
    for (mark, method, measure), part in pd.concat([frame, together]).groupby(["mark", "method", "measure"], sort=False):
        values = part.groupby("image")["value"].mean().dropna()
        if len(values) == 0: continue
        (low,), (high,) = bootstrap(values.to_numpy()[:, None])
        rows.append(dict(mark=mark, method=method, measure=measure, mean=values.mean(), low=low, high=high, images=len(values)))
    return pd.DataFrame(rows)


def append(path: str, frame: pd.DataFrame) -> None:
    "Add rows to a CSV."
    frame.to_csv(path, mode="a", header=not Path(path).exists(), index=False)


def main():
    parser = sets_parser(__doc__)
    parser.add_argument("--rows")
    parser.add_argument("--heads", nargs="+", default=["logistic", "forest"], choices=list(HEADS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sizes", type=float, nargs="+", default=[.07, .14])
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--methods", nargs="+", help="only these; the images and the others' scores are the same without them")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    backbone = Backbone(pooled="stages")
    for pair in args.sets:
        name, _, source = pair.rpartition("=")
        images = labelled(source)
        for head in args.heads:
            start, parts = perf_counter(), []
            make, n_features = HEADS[head]
            for seed in range(args.seeds):
                train, test = images.split(test_size=.25, seed=seed)
                makers = explainers(EmbeddingClassifier(backbone, make(seed), n_features, seed, progress=False).fit(train))
                if args.methods: makers = {name: makers[name] for name in args.methods}
                scores = planted_shortcut(makers, test, tuple(MARKS), tuple(args.sizes), args.n, 100*seed, progress=False)
                scores["image"] = [f"{seed}/{mark}/{size}/{image}" for mark, size, image in scores[["mark", "size", "image"]].to_numpy()]
                scores = scores.rename(columns={"explainer": "method"})
                parts += [scores.melt(["mark", "image", "method"], ["maximum", "auc", "rank"], "measure"), located(makers, test)]
            frame = pd.concat(parts, ignore_index=True)
            if args.rows: append(args.rows, frame.assign(set=name or source, head=head))
            table = summarise(frame)
            print(f"{name or source}, {head}: {perf_counter() - start:.0f} s")
            shown = table[table["mark"].isin(["all marks", "defect"])]
            print(shown.pivot(index="method", columns="measure", values="mean").round(3).to_string(), flush=True)
            table.insert(0, "head", head)
            table.insert(0, "set", name or source)
            append(args.out, table.round(4))


if __name__ == "__main__": sys.exit(main())
