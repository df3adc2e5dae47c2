"""Do maps follow the head, and still find the defects? CAM methods on held-out defects with masks, and in the grid pointing game.

python benchmarks/follow_the_head.py FOLDER|logos --out CSV [--rows CSV] [--head svm] [--backbone efficientnet_lite0] [--weights FILE]
    [--pooled stages] [--seeds 3] [--mosaics 20] [--half report|choose|all] [--picture FILE]
    [--methods layercam focus]

For each seed the classifier is fitted on three quarters. The held-out images whose SHA-256 is even are for choosing a method on, the
odd ones for reporting. Each defect of the half is explained for its predicted class and for its own (column "asked"), and mosaics are
made of images of that half alone: those that are predicted rightly and with the highest scores, at most twelve of a class. In a mosaic
three things are noted: whether the map's maximum lies in the image of the class asked for ("grid_maximum"), the AUC of its pixels against
those of the other images ("grid_auc"), and its share of the relevance ("grid_share"), which alone grows with contrast: "layercam^4" orders
pixels as LayerCAM does. Controls: features drawn at random, a head trained on shuffled labels, edges, and the middle of the image.

Appends means with 95 % intervals of the paired difference to LayerCAM to CSV, for `n` explanations of `images` distinct images. The
intervals are a bootstrap over images: one that is held out in several splits, or asked for in several mosaics, is drawn as a whole.
--rows keeps the single values; --picture draws one mosaic, of the most confidently recognised image of each class.
"""
import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from embcam import Backbone, EmbeddingClassifier, Explainer, load_folder, make_logos
from embcam.drawing import show_map
from embcam.explanation.builders import Signed
from embcam.figure import new_figure
from embcam.judging import MASK_METRICS, Baseline, shuffled_labels, split_by_hash
from embcam.judging.baseline_maps import random_control
from embcam.judging.cost import run_explainer
from embcam.judging.pointing import at_double_size, confident_images, draw_mosaics, make_mosaic, maps_of_each, score_mosaic
from embcam.maps import LinearTarget
from embcam.model import HEADS, auc_roc

METRICS = ("pixel_auc", "pointing_game_15", "mass_accuracy", "average_precision")
COLUMNS = ["seed", "image", "question", "method", "asked", "metric", "value"]  # A row per single value; pairs share seed, image, question


class Sharper:
    "The fourth power of another explainer's maps: more contrast, the same order."
    def __init__(self, explainer): self.explainer, self.classifier = explainer, explainer.classifier
    def replace(self, **changes): return Sharper(self.explainer.replace(**changes))

    def __call__(self, image, label=None):
        found = run_explainer(self.explainer, image, label)
        return replace(found, maps={layer: np.clip(m, 0, None)**4 for layer, m in found.maps.items()})


class FromZero(Signed):
    "The default target, with contributions counted from a black image instead of the training mean."
    def build(self, case, seed=0): return LinearTarget(super().build(case, seed).weights)


def explainers(clf, samples):
    methods = ("layercam", "focus", "cells", "hirescam", "gradcam")
    own = {method: Explainer(clf, method=method, samples=samples) for method in methods}
    own["focus, counted from zero"] = own["focus"].replace(target=FromZero())
    own |= {"layercam^4": Sharper(own["layercam"]), "paper, TZZ": Explainer.paper(clf, samples=samples)}
    own |= {"focus, random features": random_control(own["focus"]), "focus, shuffled labels": shuffled_labels(own["focus"])}
    return own | {name: Baseline(clf, name) for name in ("edges", "centre prior")}


def picture(clf, test, path):
    "The most confidently recognised image of each class in one mosaic, asked for each class by focus; opacity: square root of the map."
    confident = confident_images(clf, test)
    side = clf.backbone.size
    mosaic = make_mosaic([test.images[found[0]] for found in confident.values()], side)
    figure = new_figure(figsize=(2.1*(1 + len(confident)), 2.5))
    axes = figure.subplots(1, 1 + len(confident))
    axes[0].imshow(mosaic)
    axes[0].set_title("four boards, one image", fontsize=9)
    axes[0].set(xticks=[], yticks=[])
    explain = at_double_size(Explainer(clf, method="focus"))
    for q, (ax, ex) in enumerate(zip(axes[1:], explain.each(mosaic, confident))):
        show_map(mosaic, ex.maps["combined"]**.5, ax, f"where is \"{ex.label}\"?")
        r, c = divmod(q, 2)
        x = side*(c + np.array([0, 1, 1, 0, 0]))
        y = side*(r + np.array([0, 0, 1, 1, 0]))
        ax.plot(x, y, color="#39d0d8", lw=1.5, scalex=False, scaley=False)
    figure.savefig(path, dpi=130, pil_kwargs=dict(quality=82))


def score_mosaics(explain, images, mosaics):
    "(mosaic, name of the image asked for, maximum, auc and share of its cell)."
    large = at_double_size(explain)
    backbone = large.classifier.backbone
    for number, chosen in enumerate(mosaics):
        mosaic = make_mosaic([images.images[i] for i in chosen.values()], backbone.size//2, backbone.bits)
        for q, (i, maps) in enumerate(zip(chosen.values(), maps_of_each(large, mosaic, chosen))):
            yield number, images.names[i], score_mosaic(maps["combined"], q, len(chosen))


def score_defects(explain, images):
    "(name, asked, metric, value) for every image with a mask, explained for its predicted class and for its own."
    for sample in images:
        if sample.mask is None or not sample.mask.any(): continue
        predicted = run_explainer(explain, sample.image)
        own = predicted if predicted.label == sample.label else run_explainer(explain, sample.image, sample.label)
        for asked, found in (("predicted", predicted), ("own", own)):
            for metric in METRICS: yield sample.name, asked, metric, MASK_METRICS[metric](found.maps["combined"], sample.mask)


def bootstrap_images(differences, images, draws=2000, seed=0):
    "95 % interval of each column's mean, over images drawn with all their rows."
    sums = differences.groupby(images).sum().to_numpy()
    sizes = differences.groupby(images).size().to_numpy()
    times = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1/len(sizes)), draws)
    return np.quantile(times @ sums/(times @ sizes)[:, None], [.025, .975], axis=0)


def summarise(frame, setting):
    "A row per method, question and metric: means, and intervals of the paired difference to LayerCAM."
    rows = []
    for (metric, asked), part in frame.groupby(["metric", "asked"], sort=False):
        wide = part.pivot(index=["seed", "image", "question"], columns="method", values="value")[list(dict.fromkeys(part["method"]))]
        names = wide.index.get_level_values("image")
        ends = bootstrap_images(wide.sub(wide["layercam"], axis=0), names)
        rows += [setting | dict(method=method, asked=asked, metric=metric, n=len(wide), images=names.nunique(), mean=wide[method].mean(),
                                low=low, high=high) for method, low, high in zip(wide, *ends)]
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows")
    parser.add_argument("--head", default="svm", choices=list(HEADS))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--pooled", default="stages")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mosaics", type=int, default=20)
    parser.add_argument("--half", default="report", choices=["report", "choose", "all"])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--picture")
    parser.add_argument("--methods", nargs="+", help="only these, layercam among them; the others' scores are the same without them")
    args = parser.parse_args()
    images = make_logos(880, seed=0) if args.folder == "logos" else load_folder(args.folder)
    backbone = Backbone(args.backbone, args.weights, pooled=None if args.pooled == "last" else args.pooled)
    rows = []
    for seed in range(args.seeds):
        train, test = images.split(test_size=.25, seed=seed)
        make, n = HEADS[args.head]
        clf = EmbeddingClassifier(backbone, make(seed), n, seed, progress=False).fit(train)
        halves = dict(zip(("choose", "report"), split_by_hash(test))) | dict(all=test)
        some = halves[args.half]
        print(f"seed {seed}: AUC {auc_roc(test.labels, clf.scores(test), clf.classes_):.3f}, {len(some)} of {len(test)} images", flush=True)
        if args.picture and seed == 0: picture(clf, test, args.picture)
        mosaics = draw_mosaics(confident_images(clf, some), args.mosaics, seed)
        makers = explainers(clf, args.samples)
        for name, explain in ((name, makers[name]) for name in args.methods or makers):
            start = perf_counter()
            rows += [(seed, image, "", name, asked, metric, value) for image, asked, metric, value in score_defects(explain, some)]
            for number, image, scores in score_mosaics(explain, some, mosaics):
                rows += [(seed, image, number, name, "own", f"grid_{key}", value) for key, value in scores.items()]
            print(f"  {name}: {perf_counter() - start:.0f} s", flush=True)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    if args.rows: frame.to_csv(args.rows, index=False)
    setting = dict(data=Path(args.folder).name, head=args.head, backbone=args.backbone, pooled=args.pooled, half=args.half)
    table = summarise(frame, setting)
    print(table.pivot(index="method", columns=["asked", "metric"], values="mean").round(3).to_string())
    table.round(4).to_csv(args.out, mode="a", header=not Path(args.out).exists(), index=False)


if __name__ == "__main__": sys.exit(main())
