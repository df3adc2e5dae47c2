"""Do maps follow the head, and still find the defects? CAM methods on held-out defects with masks, and in the grid pointing game.

python benchmarks/follow_the_head.py FOLDER|logos --out CSV [--head svm] [--backbone efficientnet_lite0] [--weights FILE] [--pooled
    stages] [--seeds 3]
    [--mosaics 20] [--half report|choose|all] [--picture FILE]

For each seed the classifier is fitted on three quarters. The held-out defects whose SHA-256 is even are for choosing a method on, the odd
ones for reporting; each is explained for its predicted class and for its own (column "asked"). Baselines are the explainer's own with
features drawn from the whole
embedding, and from the selected ones. Appends means with 95 % intervals (paired to LayerCAM) to CSV; --picture draws one mosaic.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from embcam import Backbone, EmbeddingClassifier, Explainer, load_folder, make_logos
from embcam.drawing import show_map
from embcam.figure import new_figure
from embcam.judging import MASK_METRICS, grid_pointing, split_by_hash
from embcam.judging.baseline_maps import random_control
from embcam.judging.comparison import bootstrap
from embcam.judging.cost import run_explainer
from embcam.judging.pointing import at_double_size, confident_images, make_mosaic
from embcam.model import HEADS, auc_roc

METRICS = ("pixel_auc", "pointing_game_15", "mass_accuracy", "average_precision")


def explainers(clf, samples):
    own = {method: Explainer(clf, method=method, samples=samples) for method in ("layercam", "focus", "hirescam", "gradcam")}
    paper = {f"paper, {name}": Explainer.paper(clf, name, samples=samples) for name in ("TZZ",)}
    return own | paper | {f"focus, random features ({among})": random_control(own["focus"], among) for among in ("all", "selected")}


def picture(clf, test, path):
    "One mosaic asked for each of its classes, by focus; opacity follows the square root of the map."
    confident, side = confident_images(clf, test), clf.backbone.size
    mosaic = make_mosaic([test.images[found[0]] for found in confident.values()], side)
    figure = new_figure(figsize=(2.1*(1 + len(confident)), 2.5))
    axes = figure.subplots(1, 1 + len(confident), squeeze=False)
    for row, method in zip(axes, ("focus",)):
        row[0].imshow(mosaic), row[0].set_title("four boards, one image", fontsize=9)
        row[0].set(xticks=[], yticks=[])
        explain = at_double_size(Explainer(clf, method=method))
        for q, (ax, label) in enumerate(zip(row[1:], confident)):
            show_map(mosaic, explain(mosaic, label=label).maps["combined"]**.5, ax, f"where is \"{label}\"?")
            r, c = divmod(q, 2)
            ax.plot(side*c + side*np.array([0, 1, 1, 0, 0]), side*r + side*np.array([0, 0, 1, 1, 0]), color="#39d0d8", lw=1.5,
                    scalex=False, scaley=False)
    figure.savefig(path, dpi=130, pil_kwargs=dict(quality=82))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--out", required=True)
    parser.add_argument("--head", default="svm", choices=list(HEADS))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--pooled", default="stages")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mosaics", type=int, default=20)
    parser.add_argument("--half", default="report", choices=["report", "choose", "all"])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--picture")
    args = parser.parse_args()
    images = make_logos(880, seed=0) if args.folder == "logos" else load_folder(args.folder)
    backbone = Backbone(args.backbone, args.weights, pooled=None if args.pooled == "last" else args.pooled)
    scores, shares = [], []
    for seed in range(args.seeds):
        train, test = images.split(test_size=.25, seed=seed)
        make, n = HEADS[args.head]
        clf = EmbeddingClassifier(backbone, make(seed), n, seed, progress=False).fit(train)
        print(f"seed {seed}: AUC {auc_roc(test.labels, clf.scores(test), clf.classes_):.3f}", flush=True)
        if args.picture and seed == 0: picture(clf, test, args.picture)
        halves = dict(zip(("choose", "report"), split_by_hash(test))) | dict(all=test)
        some = halves[args.half]
        for name, explain in explainers(clf, args.samples).items():
            for sample in some:
                if sample.mask is None or not sample.mask.any(): continue
                predicted = run_explainer(explain, sample.image)
                own = predicted if predicted.label == sample.label else run_explainer(explain, sample.image, sample.label)
                scores += [(seed, sample.name, name, asked, metric, MASK_METRICS[metric](ex.maps["combined"], sample.mask))
                           for asked, ex in (("predicted", predicted), ("own", own)) for metric in METRICS]
            found = grid_pointing(explain, test, args.mosaics, seed, progress=False)
            shares += [(seed, f"{row.mosaic} {row.label}", name, "own", "grid_pointing", row.share) for row in found.itertuples()]
            print(f"  {name}: grid pointing {found['share'].mean():.3f}", flush=True)
    frame = pd.DataFrame(scores + shares, columns=["seed", "image", "method", "asked", "metric", "value"])
    rows = []
    for (metric, asked), part in frame.groupby(["metric", "asked"], sort=False):
        wide = part.pivot(index=["seed", "image"], columns="method", values="value")[list(dict.fromkeys(part["method"]))]
        low, high = bootstrap(wide.sub(wide["layercam"], axis=0))
        setting = dict(data=Path(args.folder).name, head=args.head, backbone=args.backbone, pooled=args.pooled, half=args.half)
        rows += [setting | dict(method=method, asked=asked, metric=metric, n=len(wide),
                                mean=wide[method].mean(), low=a, high=b) for method, a, b in zip(wide, low, high)]
    table = pd.DataFrame(rows)
    print(table.pivot(index="method", columns=["asked", "metric"], values="mean").round(3).to_string())
    table.round(4).to_csv(args.out, mode="a", header=not Path(args.out).exists(), index=False)


if __name__ == "__main__": sys.exit(main())
