"""What an audit finds: planted artefacts, what it claims where nothing was planted, and what it costs.

python benchmarks/planted_faults.py FOLDER|logos [--parts unmarked planted cost] [--seeds 1 2] [--out DIR] [--cache DIR]

FOLDER: FOLDER/<class>/*, or FOLDER/images/<class>/* beside FOLDER/masks; 'logos': 880 drawn ones. The network is
Backbone(pooled="stages") with its default weights, the head `logistic_head`, fitted on three quarters. The thresholds of `artefacts` were
chosen on seed 0.
A planted mark is the stamp or the translucent word of `embcam.judging.shortcuts`, 8 % of the side high, in a corner, on 90 or 50 % of one
class and 5 % of the others; class, corner and look are drawn by the seed.
"""
import resource
import sys
from time import perf_counter

import numpy as np
import torch

from common import images_of, parser_of
from embcam import Backbone, EmbeddingClassifier
from embcam.auditing import audit
from embcam.auditing.artefacts import overlap
from embcam.auditing.atlas import audit_explainer, explain_all
from embcam.images import ImageSet, open_image
from embcam.judging.shortcuts import stamp, word
from embcam.model import logistic_head

PARTS = ("unmarked", "planted", "cost")
SIZE = .08  # of the mark, of the shorter side


def plant_mark(images, seed, share, elsewhere=.05):
    "Marked images, the class of the mark, its box, and which images have it."
    rng = np.random.default_rng(seed)
    label, place = images.classes[int(rng.integers(len(images.classes)))], int(rng.integers(4))
    draw = (stamp, word)[int(rng.integers(2))]
    has = rng.random(len(images)) < np.where(images.labels == label, share, elsewhere)
    pixels = [open_image(source) for source in images.images]
    for i in np.flatnonzero(has): pixels[i], mask = draw(pixels[i], SIZE, place)
    ys, xs = np.nonzero(mask)
    box = xs.min()/mask.shape[1], ys.min()/mask.shape[0], (xs.max() + 1)/mask.shape[1], (ys.max() + 1)/mask.shape[0]
    return ImageSet(pixels, images.labels, images.masks, images.names), label, box, has


def fitted(backbone, images, seed=0):
    "The classifier, fitted on three quarters."
    return EmbeddingClassifier(backbone, logistic_head(), "all", progress=False).fit(images.split(test_size=.25, seed=seed)[0])


def unmarked(backbone, images, args):
    "What is claimed where nothing was planted."
    found = audit(fitted(backbone, images), images, args.out and f"{args.out}-{args.name}", progress=False)
    print(found, found.strategies.round(3).to_string(), sep="\n", flush=True)
    if args.out: print("page:", found.save(f"{args.out}-{args.name}", overwrite=True))


def planted(backbone, images, args):
    "Is a planted mark found, at which rank, with which box and class?"
    for seed in args.seeds:
        for share in args.shares:
            marked, label, box, has = plant_mark(images, seed, share)
            found = audit(fitted(backbone, marked), marked, progress=False).artefacts_found
            hits = [k for k, a in enumerate(found, 1) if a.label == label and overlap(a.box, box) > .3]
            print(f"planted on {share:.0%} of {label}, seed {seed}: {len(found)} claimed, the mark at rank {hits[0] if hits else None}",
                  flush=True)
            for a in found:
                print(f"    IoU {overlap(a.box, box):.2f}, right images {np.mean(a.shows == has):.3f}, score lost {a.drop:.2f}: {a!r}",
                      flush=True)


def cost(backbone, images, args):
    "Seconds for each step and peak memory, for these images, and scaled to 5,000."
    classifier, start, n = fitted(backbone, images), perf_counter(), len(images)
    kept = {}
    found = explain_all(audit_explainer(classifier), images.images, kept, progress=False)
    explained = perf_counter() - start
    audit(classifier, images, progress=False)
    whole, peak = perf_counter() - start - explained, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20
    print(f"cost, {n} images: explaining {explained:.0f} s, the whole audit {whole:.0f} s, peak memory {peak:.1f} GiB; kept "
          f"{sum(v.nbytes for v in kept.values())/2**20:.0f} MiB; "
          f"5,000 images, scaled: {whole*5000/n/60:.0f} min ({len(found.maps)} maps)", flush=True)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=[.9, .5], help="of the class that carry the mark")
    parser.add_argument("--n", type=int, help="only so many of the images, drawn by seed 0")
    parser.add_argument("--out", help="begin of the name of a folder for the page of the unmarked set")
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.name = "logos" if args.folder == "logos" else "folder"
    images = images_of(args.folder, progress=False)
    if args.n: images = images[np.sort(np.random.default_rng(0).permutation(len(images))[:args.n])]
    backbone = Backbone(pooled="stages", cache=args.cache or True)
    print(f"{args.folder}: {len(images)} images, {backbone}", flush=True)
    for part in args.parts: globals()[part](backbone, images, args)


if __name__ == "__main__": sys.exit(main())
