"""A head that was taught a mark, repaired: does it ignore the mark, and what does it cost?

python benchmarks/repair.py deeppcb=FOLDER bccd=FOLDER elpv --out CSV [--n 400] [--seeds 3] [--marks none stamp word moving cells cost]

Sets as in benchmarks/shortcuts.py. Of n images, 60 % train. The last class of the set shows the mark in 95 % of its training images, the
others in 4 %; two images at least are exceptions. 'stamp' and 'word' are those of `embcam.judging.shortcuts`, in a corner drawn by
the seed; 'moving' is the stamp anywhere.
Every test image is asked without the mark and with it. A row per set, mark, seed and way to train:
clean: on images that nobody marked; marked: on the marked ones; repaired: `repair` with the true box; audited: with the box of
`find_artefacts` or `find_moving` (no row where they do not find the mark); dfr: ten heads on images drawn so that the four true groups
(class or not, marked or not) are of one size, averaged (DFR, arXiv 2204.02937). Heads are logistic, tuned and calibrated alike.
cross_auc: the class without its mark against the others with it; unmarked_auc: all without; influence: mean change of the class's log-odds
by the mark in their standard deviations; found: artefacts of the class that overlap the mark (intersection over union above 0.3); claimed:
all that both claim; seconds: of `repair`, embeddings of the images as they are known.
'none': what is claimed on the unmarked training images. 'cells' (elpv only): no mark is drawn. Nineteen in twenty defective training cells
are monocrystalline, nineteen in twenty good ones polycrystalline; 'clean' trains where class and type are independent; the marks are all
that the audit claims, and 'dfr, audited' has its groups from the one that goes most with the class.
'cost': seconds of a repair of all n images, in two threads.
Rows that are in the CSV are not measured again. OMP_NUM_THREADS=1 (2 for 'cost').
"""
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from common import labelled, sets_parser
from embcam import Backbone, EmbeddingClassifier
from embcam.auditing.artefacts import find_artefacts, overlap, pixel_stack
from embcam.auditing.atlas import audit_explainer, explain_all
from embcam.auditing.marks import make_mark, mark_of_artefact, moving_mark
from embcam.auditing.moving import find_moving
from embcam.auditing.proof import mark_measures
from embcam.auditing.repairing import repair
from embcam.images import ImageSet, open_image
from embcam.judging.shortcuts import stamp, word

SIZE = .08  # of the mark, of the shorter side
KINDS = ("none", "stamp", "word", "moving", "cells", "cost")


def moved_stamp(image, rng):
    "The stamp anywhere, and where it is."
    patch, where = stamp(np.zeros_like(image), SIZE, 0)
    ys, xs = np.nonzero(where)
    crop = patch[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
    h, w = crop.shape[:2]
    y, x = int(rng.integers(image.shape[0] - h)), int(rng.integers(image.shape[1] - w))
    marked, mask = image.copy(), np.zeros(image.shape[:2], bool)
    marked[y:y + h, x:x + w], mask[y:y + h, x:x + w] = crop, True
    return marked, mask


def drawn(kind, image, place, rng):
    "The marked image, and the mark's box as shares of it."
    if kind == "moving": marked, mask = moved_stamp(image, rng)
    else: marked, mask = (stamp if kind == "stamp" else word)(image, SIZE, place)
    ys, xs = np.nonzero(mask)
    h, w = mask.shape
    return marked, (xs.min()/w, ys.min()/h, (xs.max() + 1)/w, (ys.max() + 1)/h)


@dataclass
class Planted:
    "A set without and with a mark."
    labels: np.ndarray  # (n,)
    own: np.ndarray  # Images of the mark's class, bool (n,)
    train: np.ndarray  # bool (n,)
    has: np.ndarray  # Training images that show the mark, bool (n,)
    clean: list  # Images without it
    marked: list  # Images with it
    boxes: np.ndarray  # Where it is, (n, 4)

    def shown(self):
        "The training images as the model sees them."
        return ImageSet([(self.marked if self.has[i] else self.clean)[i] for i in np.flatnonzero(self.train)], self.labels[self.train])


def some_of(among, share, rng):
    "Positions of a share of these images, two at least."
    return rng.permutation(np.flatnonzero(among))[:max(2, round(share*among.sum()))]


def plant(images, kind, seed):
    "Draw a mark into all images, and say which show it."
    rng = np.random.default_rng(seed)
    place = int(rng.integers(4))
    train = np.zeros(len(images), bool)
    train[rng.permutation(len(images))[:round(.6*len(images))]] = True
    own = images.labels == images.classes[-1]
    clean = [open_image(source, bits=images.bits) for source in images.images]
    pairs = [drawn(kind, image, place, rng) for image in clean]
    has = own & train
    has[some_of(own & train, .05, rng)] = False
    has[some_of(~own & train, .04, rng)] = True
    return Planted(images.labels, own, train, has, clean, [marked for marked, _ in pairs], np.array([box for _, box in pairs]))


def head(backbone, E, labels):
    "A tuned and calibrated logistic head."
    return EmbeddingClassifier.choose(backbone, E, labels, heads=("logistic",), progress=False)


def taught(backbone, shown):
    "A head that knows the images which it was fitted on."
    E = backbone.embed(shown, progress=False)
    return head(backbone, E, shown.labels).remember(shown, E, shown.labels)


def dfr(backbone, E, own, has, rng):
    "Mean scores of ten heads on images of balanced groups, the class first; None where a group has fewer than two."
    groups = [np.flatnonzero((own == a) & (has == b)) for a in (True, False) for b in (True, False)]
    fewest = min(map(len, groups))
    if fewest < 2: return None
    draws = [np.concatenate([rng.choice(group, fewest, replace=False) for group in groups]) for _ in range(10)]
    heads = [head(backbone, E[some], np.where(own[some], "own", "others")) for some in draws]
    return lambda X: np.mean([one.scores(X)[:, ::-1] for one in heads], axis=0)


def claims(classifier, shown):
    "What the audit claims of these images."
    explained = explain_all(audit_explainer(classifier), shown.images, progress=False)
    stack = pixel_stack(shown.images, progress=False)
    return find_artefacts(stack, explained.maps, explained.predicted) + find_moving(stack, explained.maps, explained.predicted)


def is_hit(artefact, p, kind, label):
    "Whether an artefact is the mark: of its class, and in the mean at its place."
    if artefact.label != label or (artefact.boxes is not None) != (kind == "moving"): return False
    has, boxes = p.has[p.train] & artefact.shows, p.boxes[p.train]
    met = [overlap(artefact.at(i), tuple(boxes[i])) for i in np.flatnonzero(has)]
    return bool(met) and np.mean(met) > .3


def true_mark(p, kind, label, shown, backbone):
    "The mark as it was drawn."
    boxes, has = p.boxes[p.train], p.has[p.train]
    if kind != "moving": return make_mark(label, boxes[0], has, shown, backbone, progress=False)
    return moving_mark(label, np.where(has[:, None], boxes, np.nan), shown, backbone, progress=False)


def ways(p, kind, label, backbone, bare, marked):
    "{way: scores of embeddings}, and what is known beside them."
    shown, E = p.shown(), np.where(p.has[:, None], marked, bare)[p.train]
    dirty = head(backbone, E, shown.labels).remember(shown, E, shown.labels)
    found = claims(dirty, shown)
    hits = [a for a in found if is_hit(a, p, kind, label)]
    mark = true_mark(p, kind, label, shown, backbone)
    start = perf_counter()
    fixed = repair(dirty, shown, [mark], progress=False)
    about = dict(found=len(hits), claimed=len(found), seconds=perf_counter() - start, translucent=mark.veil is not None)
    scorers = dict(clean=head(backbone, bare[p.train], shown.labels).scores, marked=dirty.scores, repaired=fixed.after.scores)
    if hits:
        audited = mark_of_artefact(hits[0], shown, backbone, progress=False)
        scorers["audited"] = repair(dirty, shown, [audited], progress=False).after.scores
    balanced = dfr(backbone, E, p.own[p.train], p.has[p.train], np.random.default_rng(0))
    if balanced: scorers["dfr"] = balanced
    return scorers, about


def one_condition(images, kind, seed, backbone):
    "Rows of one set, mark and seed."
    p, label = plant(images, kind, seed), images.classes[-1]
    bare, marked = (backbone.embed(pixels, progress=False) for pixels in (p.clean, p.marked))
    scorers, about = ways(p, kind, label, backbone, bare, marked)
    classes, rows = images.classes, []
    for way, scorer in scorers.items():
        codes, c = np.searchsorted(classes, images.labels), len(classes) - 1
        if way == "dfr": codes, c = np.where(p.own, 0, 1), 0
        scores = np.stack([scorer(X[~p.train]) for X in (bare, bare, marked)])
        told = mark_measures(scores, codes[~p.train], np.zeros((~p.train).sum(), bool), c)
        measured = dict(cross_auc=told["cross AUC"], unmarked_auc=told["AUC without the mark"], worst_group=told["worst group"],
                        influence=told["influence"])
        rows.append(dict(way=way) | measured | about | dict(train=int(p.train.sum()), test=int((~p.train).sum())))
    return rows


def unmarked(images, seed, backbone):
    "What is claimed where nothing was drawn."
    p = plant(images, "stamp", seed)
    p.has[:] = False
    return [dict(way="clean", claimed=len(claims(taught(backbone, p.shown()), p.shown())), train=int(p.train.sum()))]


def cost(images, backbone):
    "Seconds of a repair of all images."
    p = plant(images, "stamp", 0)
    p.train[:] = True
    p.has[:] = p.own
    classifier = taught(backbone, p.shown())
    mark = true_mark(p, "stamp", images.classes[-1], p.shown(), backbone)
    torch.set_num_threads(2)
    start = perf_counter()
    repair(classifier, p.shown(), [mark], progress=False)
    seconds = perf_counter() - start
    torch.set_num_threads(1)
    return [dict(way="repaired", seconds=seconds, train=len(images))]


def drawn_cells(own, mono, share, rng, n=400):
    "Positions of training cells: a quarter defective, of which `share` are monocrystalline; of the good ones the rest."
    wanted = {(True, True): share*n/4, (True, False): (1 - share)*n/4, (False, True): (1 - share)*3*n/4, (False, False): share*3*n/4}
    return np.concatenate([rng.permutation(np.flatnonzero((own == a) & (mono == b)))[:round(m)] for (a, b), m in wanted.items()])


def cell_types(images, seed, backbone):
    "Rows of solar cells whose type goes with the class."
    from elpv_dataset.utils import load_dataset
    own, mono, rng = images.labels == "defective", load_dataset()[2] == "mono", np.random.default_rng(seed)
    groups = [rng.permutation(np.flatnonzero((own == a) & (mono == b))) for a in (True, False) for b in (True, False)]
    test = np.concatenate([group[:80] for group in groups])
    left = np.setdiff1d(np.arange(len(images)), test)
    skewed, even = (left[drawn_cells(own[left], mono[left], share, rng)] for share in (.95, .5))
    dirty = taught(backbone, images[skewed])
    E = backbone.embed(images[skewed], progress=False)
    found = claims(dirty, images[skewed])
    scorers = dict(clean=taught(backbone, images[even]).scores, marked=dirty.scores)
    if found:
        marks = [mark_of_artefact(a, images[skewed], backbone, progress=False) for a in found]
        scorers["audited"] = repair(dirty, images[skewed], marks, progress=False).after.scores
        telling = max(marks, key=lambda mark: abs(np.corrcoef(mark.shows, own[skewed])[0, 1]))
        if found_groups := dfr(backbone, E, own[skewed], telling.shows, rng): scorers["dfr, audited"] = found_groups
    scorers["dfr"] = dfr(backbone, E, own[skewed], mono[skewed], rng)
    X, rows = backbone.embed(images[test], progress=False), []
    for way, scorer in scorers.items():
        scores = scorer(X)
        told = mark_measures(np.stack([scores]*3), np.where(own[test], 0, 1), mono[test], 0)
        hard = own[test] != mono[test]
        rows.append(dict(way=way, cross_auc=told_auc(own[test][hard], scores[hard, 0]), unmarked_auc=told["AUC without the mark"],
                         worst_group=worst(scores, own[test], mono[test]), claimed=len(found), train=len(skewed), test=len(test)))
    return rows


def told_auc(own, scores):
    "AUC of the class against the others."
    return float((scores[own][:, None] > scores[~own]).mean() + .5*(scores[own][:, None] == scores[~own]).mean())


def worst(scores, own, mono):
    "Least accuracy of the four groups."
    right = (scores.argmax(1) == 0) == own
    return float(min(right[(own == a) & (mono == b)].mean() for a in (True, False) for b in (True, False)))


def measured(whole, name, kind, seed, n, backbone):
    "Rows of one set, mark and seed; none where there is nothing to ask."
    if kind == "cells": return cell_types(whole, seed, backbone) if name == "elpv" else []
    if kind == "cost": return cost(whole[np.random.default_rng(0).permutation(len(whole))[:n]], backbone) if seed == 0 else []
    some = whole[np.sort(np.random.default_rng(seed).permutation(len(whole))[:n])]
    return unmarked(some, seed, backbone) if kind == "none" else one_condition(some, kind, seed, backbone)


COLUMNS = ["set", "n", "mark", "seed", "way", "cross_auc", "unmarked_auc", "worst_group", "influence", "seconds", "found", "claimed",
           "translucent", "train", "test"]


def main():
    parser = sets_parser(__doc__)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--marks", nargs="+", default=list(KINDS), choices=KINDS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    backbone = Backbone(pooled="stages", cache=True)
    done = pd.read_csv(args.out) if Path(args.out).exists() else pd.DataFrame(columns=COLUMNS)
    for seed, pair in [(seed, pair) for seed in range(args.seeds) for pair in args.sets]:
        name, _, source = pair.rpartition("=")
        name, whole = name or source, labelled(source)
        for kind in args.marks:
            same = (done["set"] == name) & (done["mark"] == kind) & (done["seed"] == seed) & (done["n"] == args.n)
            rows = [] if same.any() else measured(whole, name, kind, seed, args.n, backbone)
            if not rows: continue
            frame = pd.DataFrame(rows).assign(set=name, n=args.n, mark=kind, seed=seed).reindex(columns=COLUMNS)
            frame.round(4).to_csv(args.out, mode="a", header=not Path(args.out).exists(), index=False)
            print(frame.drop(columns=["n", "train", "test"]).round(3).to_string(), flush=True)


if __name__ == "__main__": sys.exit(main())
