"""Does the score fall where a map says that it should? Insertion and deletion of embcam's maps beside RISE, on defects with masks.

python benchmarks/faithfulness.py FOLDER|logos --out CSV [--draw] [--images 24] [--masks 1000] [--seeds 1] [--where]

FOLDER holds images/<class>/* and masks/<class>/*. With --draw the labels are not read: half of the photographs, drawn by the seed, get a
scratch at a place of their own, and the classes are "scratched" and "clean". The head is a logistic regression on four stages, fitted on
three quarters. Explained are held-out images with a defect that are predicted rightly; with masks of the folder's own only those of the
half that nothing was chosen on. "noisy" removal fills with noisy linear imputation (ROAD, arXiv 2202.00449), "blur" with the blurred image.

--where leaves out RISE, insertion and deletion: only where the maps lie, in a minute or two, with differences to LayerCAM.

Appends to CSV the mean of each metric and its paired difference to RISE, with 95 % bootstrap intervals over images. On two cores RISE takes
about a minute an image.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from common import arguments, defective, labelled
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.images import ImageSet, open_image, thumbnail
from embcam.judging import METRICS, Baseline, compare, split_by_hash
from embcam.model import HEADS

WHERE = ["pixel_auc", "pointing_game_15"]
NAMES = [name for name in METRICS if name.startswith(("insertion", "deletion"))] + WHERE


def scratch(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "The image with a crooked line, light or dark, a twelfth to a sixth of its side long; and its mask."
    side = min(image.shape[:2])
    place = Image.new("L", image.shape[1::-1])
    angle, length = rng.uniform(0, np.pi), rng.uniform(1/12, 1/6)*side
    start = rng.uniform(.2*side, .8*side, 2)
    bends = [start + length*share*np.array([np.cos(angle), np.sin(angle)]) + rng.normal(0, .01*side, 2) for share in np.linspace(0, 1, 5)]
    ImageDraw.Draw(place).line([tuple(bend) for bend in bends], fill=255, width=max(2, round(side/90)), joint="curve")
    drawn = np.asarray(place.filter(ImageFilter.GaussianBlur(side/400)), float)[..., None]/255
    shade = rng.choice([20, 235])
    return (image*(1 - drawn) + shade*drawn).round().astype(np.uint8), np.asarray(place) > 0


def scratched(images: ImageSet, seed: int) -> ImageSet:
    "Photographs, half of them scratched, at most 448 pixels wide."
    rng = np.random.default_rng(seed)
    pictures = [thumbnail(open_image(image), 448) for image in images.images]
    half = set(rng.permutation(len(pictures))[:len(pictures)//2].tolist())
    drawn = [scratch(picture, rng) if i in half else (picture, None) for i, picture in enumerate(pictures)]
    labels = ["scratched" if i in half else "clean" for i in range(len(pictures))]
    return ImageSet([picture for picture, _ in drawn], labels, [mask for _, mask in drawn], images.names)


def rows_of(classifier: EmbeddingClassifier, masks: int) -> dict:
    "What is compared."
    own = {method: Explainer(classifier, method=method) for method in ("focus", "cells", "layercam")}
    plain = {name: Baseline(classifier, name) for name in ("edges", "random map")}
    return own | ({"RISE": Baseline(classifier, "RISE", masks=masks)} if masks else {}) | plain


def main() -> None:
    parser = arguments(__doc__, 1)
    parser.add_argument("--draw", action="store_true", help="draw scratches, and learn to see them")
    parser.add_argument("--images", type=int, default=24, help="to explain, of each split")
    parser.add_argument("--masks", type=int, default=1000, help="of RISE")
    parser.add_argument("--where", action="store_true", help="only where the maps lie")
    args = parser.parse_args()
    against, names, masks = ("layercam", WHERE, 0) if args.where else ("RISE", NAMES, args.masks)
    images, backbone = labelled(args.folder), Backbone(args.backbone, args.weights, pooled="stages", cache=args.cache or True)
    make, n = HEADS["logistic"]
    for seed in range(args.seeds):
        every = scratched(images, seed) if args.draw else images
        train, test = every.split(test_size=.25, seed=seed)
        classifier = EmbeddingClassifier(backbone, make(seed), n, seed).fit(train)
        right = test[np.flatnonzero(classifier.predict(test) == test.labels)]
        known = defective(right if args.draw else split_by_hash(right)[1])
        share = np.mean(classifier.predict(test) == test.labels)
        print(f"seed {seed}: {share:.3f} are right, {len(known)} defects among them", flush=True)
        found = compare(rows_of(classifier, masks), known[range(min(args.images, len(known)))], names, seed=seed)
        table = found.summary(against).reset_index().assign(images=min(args.images, len(known)), seed=seed, drawn=args.draw)
        table.insert(0, "set", Path(args.folder).name + (", drawn scratches" if args.draw else ""))
        table.to_csv(args.out, mode="a", header=not Path(args.out).exists(), index=False)
        with pd.option_context("display.width", 200, "display.max_rows", None): print(table.round(3).to_string(index=False))


if __name__ == "__main__": sys.exit(main())
