"""Which target draws the best map? Signed targets against the paper's, on defects with masks.

python benchmarks/target_choice.py FOLDER --out DIR [--backbone squeezenet1_0] [--weights FILE] [--seeds 3] [--n 60]
python benchmarks/target_choice.py logos --out DIR [--backbone resnet18] [--weights FILE]

FOLDER holds images/<class>/* and masks/<class>/*. For each seed a classifier is trained on three quarters of the images, and the
held-out defects are explained. The best layer of each map is chosen on one half of these (fixed by the images' SHA-256) and reported
on the other, with paired bootstrap intervals over images. An interrupted run goes on where it stopped.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common import arguments, defective, images_and_backbone
from embcam import TOZ, TRR, TZZ, EmbeddingClassifier, Explainer
from embcam.explanation import Signed
from embcam.judging import Baseline, compare, split_by_hash
from embcam.judging.comparison import bootstrap
from embcam.model import auc_roc
from embcam.ranking.rankings import rank_lime

METRICS = ["pixel_auc", "pointing_game_15", "mass_accuracy", "rank_accuracy"]
KNOWN = {}


def lime_once(embedding, head, label, seed=0):
    "LIME, once for each prediction: all explainers share it."
    key = embedding.tobytes(), head.selected.tobytes(), label, seed
    if key not in KNOWN: KNOWN[key] = rank_lime(embedding, head, label, seed)
    return KNOWN[key]


def rows(classifier, seed):
    "The paper's maps, signed maps from three sources and by two methods, and two baselines that ask no classifier."
    def ask(make=Explainer, **settings): return make(classifier, ranking=lime_once, random_state=seed, **settings)
    named = {f"{strategy}, {method}": ask(Explainer.paper, target=strategy, method=method)
             for method in ("gradcam", "layercam") for strategy in (TZZ, TOZ, TRR)}
    named |= {f"signed {source}, {method}": ask(target=Signed(source), method=method) for source in ("lime", "shap",
        "difference") for method in ("layercam", "focus")}
    named |= {"signed lime, gradcam": ask(target=Signed("lime"), method="gradcam")}
    return named | {name: Baseline(classifier, name, seed) for name in ("mean activation", "centre prior")}


def report(frame):
    "Best layer on one half, scores on the other; differences to the paper's TZZ and to mean activation."
    half = frame.groupby(["half", "explainer", "layer", "metric",
                          "image"])["value"].mean()  # an image that several seeds hold out counts once
    chosen = half["first"].xs("pixel_auc", level="metric").groupby(["explainer", "layer"]).mean().unstack().idxmax(axis=1)
    print(f"\nbest layer on {half['first'].index.get_level_values('image').nunique()} images, "
          f"reported on {half['second'].index.get_level_values('image').nunique()} others")
    for metric in METRICS:
        wide = pd.DataFrame({name: half["second"].loc[name, layer, metric] for name, layer in chosen.items()})
        table = pd.DataFrame(dict(layer=chosen, mean=wide.mean())).join(pd.DataFrame(bootstrap(wide).T, index=wide.columns,
            columns=["low", "high"]))
        for other in "TZZ, gradcam", "mean activation":
            less = wide.sub(wide[other], axis=0)
            table[f"- {other}"] = [f"{d:+.3f} ({low:+.3f} to {high:+.3f})" for d, low, high in zip(less.mean(), *bootstrap(less))]
        print(f"\n{metric}\n{table.sort_values('mean', ascending=False).round(3).to_string()}")


def main():
    parser = arguments(__doc__, seeds=3)
    parser.add_argument("--n", type=int, help="at most so many defects of each seed")
    args = parser.parse_args()
    (images, backbone), frames = images_and_backbone(args), []
    print(images, backbone, sep="\n")
    for seed in range(args.seeds):
        train, test = images.split(test_size=.25, seed=seed)
        classifier = EmbeddingClassifier(backbone, random_state=seed).fit(train)
        print(f"seed {seed}: AUC ROC {auc_roc(test.labels, classifier.predict_proba(test), classifier.classes_):.4f}", flush=True)
        defects = defective(test)
        if args.n: defects = defects[np.random.default_rng(seed).permutation(len(defects))[:args.n]]
        first = set(split_by_hash(defects)[0].names)
        found = compare(rows(classifier, seed), defects, METRICS, None, Path(args.out)/f"seed{seed}").frame
        frames.append(found.assign(half=["first" if name in first else "second" for name in found["image"]]))
    report(pd.concat(frames))


if __name__ == "__main__": sys.exit(main())
