"""A head that was taught a mark, repaired: does it ignore the mark, and what does it cost?

python benchmarks/repair.py deeppcb=FOLDER bccd=FOLDER elpv --out CSV [--n 600] [--seeds 3] [--marks stamp word moving]

Sets as in benchmarks/shortcuts.py. Of n images, 60 % train. The last class of the set shows the mark in 95 % of its training images, the
others in 4 %. 'stamp' and 'word' are those of `embcam.judging.shortcuts`, in a corner drawn by the seed; 'moving' is the stamp anywhere.
Every test image is asked without the mark and with it. A row per set, mark, seed and way to train:
clean: on images that nobody marked; marked: on the marked ones; repaired: `repair` with the true box; audited: with the box of
`find_artefacts` (no row where it finds none); dfr: ten heads on images drawn so that the four true groups (class or not, marked or not) are
of one size, averaged (DFR, arXiv 2204.02937). Heads are logistic, tuned and calibrated alike.
cross_auc: the class without its mark against the others with it; unmarked_auc: all without; influence: mean change of the class's log-odds
by the mark in their standard deviations; claimed: artefacts that `find_artefacts` claims on the unmarked training images.
Rows that are in the CSV are not measured again.
"""
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from common import labelled, sets_parser
from embcam import Backbone, EmbeddingClassifier
from embcam.auditing.artefacts import find_artefacts, pixel_stack
from embcam.auditing.atlas import audit_explainer, explain_all
from embcam.auditing.marks import make_mark, mark_of_artefact, moving_mark
from embcam.auditing.proof import mark_measures
from embcam.auditing.repairing import repair
from embcam.images import ImageSet, open_image
from embcam.judging.shortcuts import stamp, word

SIZE = .08  # of the mark, of the shorter side
WAYS = ("clean", "marked", "repaired", "audited", "dfr")


def drawn(kind, image, place, rng):
    "The marked image, and the mark's box as shares of it."
    if kind == "moving":
        side = round(SIZE*min(image.shape[:2])) + 1
        y, x = (int(rng.integers(n - side)) for n in image.shape[:2])
        marked, mask = image.copy(), np.zeros(image.shape[:2], bool)
        patch, where = stamp(np.zeros_like(image), SIZE, 0)
        ys, xs = np.nonzero(where)
        h, w = np.ptp(ys) + 1, np.ptp(xs) + 1
        marked[y:y + h, x:x + w] = patch[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
        mask[y:y + h, x:x + w] = True
    else: marked, mask = (stamp if kind == "stamp" else word)(image, SIZE, place)
    ys, xs = np.nonzero(mask)
    h, w = mask.shape
    return marked, (xs.min()/w, ys.min()/h, (xs.max() + 1)/w, (ys.max() + 1)/h)


def head(backbone, E, labels):
    "A tuned and calibrated logistic head."
    return EmbeddingClassifier.choose(backbone, E, labels, heads=("logistic",), progress=False)


def dfr(backbone, E, labels, own, has, rng):
    "Mean scores of ten heads on images of balanced groups."
    groups = [np.flatnonzero((own == a) & (has == b)) for a in (True, False) for b in (True, False)]
    fewest = min(map(len, groups))
    if fewest < 2: return None
    draws = [np.concatenate([rng.choice(group, fewest, replace=False) for group in groups]) for _ in range(10)]
    binary = np.where(own, "own", "others")
    heads = [head(backbone, E[some], binary[some]) for some in draws]
    return lambda X: np.mean([h.scores(X)[:, ::-1] for h in heads], axis=0)  # own first


def one_condition(images, kind, seed, backbone):
    "Rows of one set, mark and seed."
    rng = np.random.default_rng(seed)
    place = int(rng.integers(4))
    label = images.classes[-1]
    train = np.zeros(len(images), bool)
    train[rng.permutation(len(images))[:round(.6*len(images))]] = True
    own = images.labels == label
    clean = [open_image(source, bits=images.bits) for source in images.images]
    pairs = [drawn(kind, image, place, rng) for image in clean]
    has = (rng.random(len(images)) < np.where(own, .95, .04)) & train
    shown = ImageSet([pairs[i][0] if has[i] else clean[i] for i in np.flatnonzero(train)], images.labels[train])
    bare, marked = backbone.embed(clean, progress=False), backbone.embed([pair[0] for pair in pairs], progress=False)
    E, y = np.where(has[:, None], marked, bare)[train], images.labels[train]
    dirty = EmbeddingClassifier.choose(backbone, E, y, heads=("logistic",), progress=False).remember(shown, E, y)
    boxes = np.array([pairs[i][1] for i in np.flatnonzero(train)])
    boxes[~has[train]] = np.nan
    if kind == "moving": true = moving_mark(label, boxes, shown, backbone, progress=False)
    else: true = make_mark(label, pairs[0][1], has[train], shown, backbone, progress=False)
    explained = explain_all(audit_explainer(dirty), shown.images, progress=False)
    found = find_artefacts(pixel_stack(shown.images, progress=False), explained.maps, explained.predicted)
    hits = [a for a in found if a.label == label]
    unmarked = head(backbone, bare[train], y)
    claimed = find_artefacts(pixel_stack([clean[i] for i in np.flatnonzero(train)], progress=False), explained.maps,
                             unmarked.predict(bare[train]))
    start = perf_counter()
    fixed = repair(dirty, shown, [true], progress=False)
    seconds = perf_counter() - start
    scorers = dict(clean=unmarked.scores, marked=dirty.scores, repaired=fixed.after.scores,
                   dfr=dfr(backbone, E, y, own[train], has[train], rng))
    if hits: scorers["audited"] = repair(dirty, shown, [mark_of_artefact(hits[0], shown, backbone, progress=False)],
                                         progress=False).after.scores
    classes, rows = dirty.classes_.tolist(), []
    for way in WAYS:
        if scorers.get(way) is None: continue
        c = 0 if way == "dfr" else classes.index(label)
        codes = np.where(own, 0, 1) if way == "dfr" else np.array([classes.index(one) for one in images.labels.tolist()])
        scores = np.stack([scorers[way](X[~train]) for X in (bare, bare, marked)])
        told = mark_measures(scores, codes[~train], np.zeros((~train).sum(), bool), c)
        measured = dict(cross_auc=told["cross AUC"], unmarked_auc=told["AUC without the mark"], worst_group=told["worst group"],
                        influence=told["influence"], seconds=seconds if way == "repaired" else np.nan)
        about = dict(found=len(hits), others_claimed=len(found) - len(hits), claimed=len(claimed), translucent=true.veil is not None,
                     train=int(train.sum()), test=int((~train).sum()))
        rows.append(dict(mark=kind, seed=seed, way=way) | measured | about)
    return rows


def main():
    parser = sets_parser(__doc__)
    parser.add_argument("--n", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--marks", nargs="+", default=["stamp", "word", "moving"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    backbone = Backbone(pooled="stages", cache=True)
    done = pd.read_csv(args.out) if Path(args.out).exists() else pd.DataFrame(columns=["set", "mark", "seed", "n"])
    for seed in range(args.seeds):
        for pair in args.sets:
            name, _, source = pair.rpartition("=")
            whole = labelled(source)
            some = np.sort(np.random.default_rng(seed).permutation(len(whole))[:args.n])
            for kind in args.marks:
                same = (done["set"] == (name or source)) & (done["mark"] == kind) & (done["seed"] == seed) & (done["n"] == args.n)
                if same.any(): continue
                rows = pd.DataFrame(one_condition(whole[some], kind, seed, backbone))
                rows.insert(0, "n", args.n)
                rows.insert(0, "set", name or source)
                rows.round(4).to_csv(args.out, mode="a", header=not Path(args.out).exists(), index=False)
                print(rows.drop(columns=["n", "train", "test"]).round(3).to_string(), flush=True)


if __name__ == "__main__": sys.exit(main())
