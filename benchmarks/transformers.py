"""Do the maps of a transformer with real weights answer: planted marks, and mosaics of images of different classes?

python benchmarks/transformers.py ARCH --weights FILE --out CSV NAME=SOURCE NAME=SOURCE ...

ARCH: a name of timm's whose class token is the embedding, such as vit_small_patch14_dinov2; FILE: its weights (safetensors). The classes
are the sets themselves (as in benchmarks/shortcuts.py), 60 images of each, half to fit a logistic regression on, so that the answer is
known and the head is right nearly always. The game of `grid_pointing` is played with images of half the size. Marks are planted as in
`planted_shortcut` in 240 images of the first set, with its own classes. Columns: method, measure, mean, ends of a 95 % interval over
questions, how many. OMP_NUM_THREADS=1.
"""
import argparse
import sys
import warnings

import numpy as np
import pandas as pd
import timm

from common import labelled
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.images import ImageSet, open_image
from embcam.judging import Baseline, grid_pointing, planted_shortcut
from embcam.judging.comparison import bootstrap
from embcam.model import logistic_head

METHODS = "focus", "cells", "layercam", "hirescam", "gradcam"


def drawn(sets: list[str], n: int, seed: int) -> ImageSet:
    "So many images of each set, labelled by its name."
    rng, pictures, labels = np.random.default_rng(seed), [], []
    for pair in sets:
        name, _, source = pair.rpartition("=")
        images = labelled(source)
        some = rng.permutation(len(images))[:n]
        pictures += [open_image(images.images[i]) for i in some]
        labels += [name or source]*len(some)
    return ImageSet(pictures, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch")
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--mosaics", type=int, default=12)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    network = timm.create_model(args.arch, pretrained=True, pretrained_cfg_overlay=dict(file=args.weights), num_classes=0, img_size=224)
    train, test = drawn(args.sets, args.each, 0).split(test_size=.5, seed=0)
    clf = EmbeddingClassifier(Backbone(network.eval(), size=224), logistic_head(), "all", progress=False).fit(train)
    print(clf.backbone, f"accuracy {np.mean(clf.predict(test) == test.labels):.3f}", flush=True)
    makers = {method: Explainer(clf, method=method) for method in METHODS} | {"edges": Baseline(clf, "edges")}
    game = pd.concat([grid_pointing(maker, test, args.mosaics, progress=False).assign(explainer=name) for name, maker in makers.items()])
    images = labelled(args.sets[0].rpartition("=")[2])
    some = images[np.sort(np.random.default_rng(0).permutation(len(images))[:4*args.each])]
    train, test = some.split(test_size=.5, seed=0)
    known = EmbeddingClassifier(clf.backbone, logistic_head(), "all", progress=False).fit(train)
    marks = planted_shortcut({name: maker.replace(classifier=known) for name, maker in makers.items()}, test, n=8, progress=False)
    rows = []
    for what, frame, measures in ("grid", game, ("maximum", "auc")), ("mark", marks, ("maximum", "auc", "rank")):
        for (name, part), measure in ((group, measure) for group in frame.groupby("explainer", sort=False) for measure in measures):
            values = part[measure].dropna().to_numpy(float)
            (low,), (high,) = bootstrap(values[:, None])
            rows.append(dict(method=name, measure=f"{what}_{measure}", mean=values.mean(), low=low, high=high, questions=len(values)))
    table = pd.DataFrame(rows)
    print(table.pivot(index="method", columns="measure", values="mean").round(3).to_string())
    table.round(4).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
