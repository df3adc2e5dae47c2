"""Wrong labels planted in sets whose labels are taken for right: how many are estimated, listed and found.

python benchmarks/label_issues.py logos digits NAME=FOLDER NAME=FILE.npz ... [--seeds 1 2 3] [--share .03] [--out CSV]

FOLDER: FOLDER/<class>/*; 'digits': the 1,797 handwritten ones of scikit-learn, drawn at 224 pixels; both are embedded by
Backbone(pooled="stages"). FILE.npz: arrays embeddings, labels and, if there are any, groups.
A row for each set and seed, and one of seed 0 for the labels as they are. Where cleanlab is installed (AGPL, never a dependency of
embcam) its filter judges the same held-out probabilities: install it aside (pip install --no-deps --target DIR cleanlab termcolor) and
put DIR on PYTHONPATH.
"""
import argparse
import sys
from time import process_time

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from common import images_of
from embcam import Backbone
from embcam.auditing import find_label_issues, find_near_duplicates, group_near_duplicates
from embcam.auditing.label_issues import _fit_noise, _rounds
from embcam.images import ImageSet

try: from cleanlab.filter import find_label_issues as cleanlab_issues
except ImportError: cleanlab_issues = None


def digits():
    "scikit-learn's handwritten digits of 8 x 8 pixels, each drawn at 224."
    kept = load_digits()
    drawn = [Image.fromarray(np.uint8(image*255/16)).resize((224, 224), Image.Resampling.BICUBIC).convert("RGB") for image in kept.images]
    return ImageSet([np.asarray(image) for image in drawn], [str(label) for label in kept.target])


def set_of(argument, backbone):
    "Name, embeddings, labels and groups of near duplicates of 'logos', 'digits', NAME=FOLDER or NAME=FILE.npz."
    name, source = argument.split("=", 1) if "=" in argument else (argument, argument)
    if source.endswith(".npz"):
        kept = np.load(source)
        return name, kept["embeddings"], kept["labels"], kept["groups"] if "groups" in kept else np.arange(len(kept["labels"]))
    images = digits() if source == "digits" else images_of(source, progress=False)
    E = backbone.embed(images, progress=False)
    return name, E, images.labels, group_near_duplicates(find_near_duplicates(E, images.images, progress=False), len(images))


def plant(labels, share, seed):
    "Labels of which a share is another one, all others alike, and which these are."
    rng = np.random.default_rng(seed)
    given, classes = labels.copy(), np.unique(labels)
    wrong = rng.permutation(len(labels))[:round(share*len(labels))]
    for i in wrong: given[i] = rng.choice(classes[classes != labels[i]])
    return given, wrong


def rank_precision(listed, hit):
    "Average precision of a list, what is not listed coming last and together."
    score = np.zeros(len(hit))
    score[listed] = 1 + np.arange(len(listed), 0, -1)
    return average_precision_score(hit, score) if hit.any() else np.nan


def share_right(listed, hit): return hit[listed].mean() if len(listed) and hit.any() else np.nan


def joint(p, codes):
    "The number of wrong labels by the calibrated confident joint (Northcutt et al. 2021)."
    reached = p >= [p[codes == k, k].mean() for k in range(p.shape[1])]
    likely = np.where(reached, p, -1).argmax(1)
    counts = np.array([np.bincount(likely[reached.any(1) & (codes == k)], minlength=p.shape[1]) for k in range(p.shape[1])], float)
    counts *= (np.bincount(codes)/np.maximum(counts.sum(1), 1))[:, None]
    return counts.sum() - np.trace(counts)


def by_cleanlab(p, codes, hit):
    "What cleanlab's filter lists."
    if cleanlab_issues is None: return {}
    listed = cleanlab_issues(codes, p/p.sum(1, keepdims=True), return_indices_ranked_by="self_confidence")
    return dict(cleanlab_listed=len(listed), cleanlab_precision=share_right(listed, hit), cleanlab_ap=rank_precision(listed, hit))


def measure(name, E, labels, groups, share, seed):
    "A row."
    given, wrong = plant(labels, share if seed else 0, seed)
    hit = np.isin(np.arange(len(labels)), wrong)
    start = process_time()
    found = find_label_issues(E, given, groups, seed=10*seed, progress=False)
    seconds = process_time() - start
    ranking, listed = found.table["position"].to_numpy(int), found.listed["position"].to_numpy(int)
    codes = np.unique(given, return_inverse=True)[1]
    rounds = _rounds(np.asarray(E, float), codes, groups, 10*seed, False)
    p = np.mean([_fit_noise(margins, codes).probabilities for margins in rounds], axis=0)
    row = dict(data=name, images=len(labels), seed=seed, planted=len(wrong), right=found.accuracy, findable=found.findable,
               expected=found.expected, confident_joint=joint(p, codes), listed=len(listed), precision=share_right(listed, hit),
               precision_at_planted=share_right(ranking[:len(wrong)], hit),
               precision_at_expected=share_right(ranking[:round(found.expected)], hit), ap_listed=rank_precision(listed, hit),
               ap=rank_precision(ranking, hit), cpu_seconds=seconds)
    return row | by_cleanlab(p, codes, hit)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="'logos', 'digits', NAME=FOLDER or NAME=FILE.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="which labels are wrong")
    parser.add_argument("--share", type=float, default=.03, help="of the labels that are made wrong")
    parser.add_argument("--out", help="CSV")
    args = parser.parse_args()
    backbone, rows = Backbone(pooled="stages"), []
    for argument in args.sets:
        name, *data = set_of(argument, backbone)
        for seed in (0, *args.seeds):
            rows.append(measure(name, *data, args.share, seed))
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()}, flush=True)
    if args.out: pd.DataFrame(rows).round(3).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
