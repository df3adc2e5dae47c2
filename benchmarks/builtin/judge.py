"""How good is a frozen embedding? AUC of the paper's forest on it, on sets that the built-in weights were never fitted to.

python benchmarks/builtin/judge.py [--weights builtin] [--backbone resnet18] [--folder FOLDER] [--seeds 5]

logos: 880 of embcam's drawn logos. photographs: crops of eight photographs that scikit-image carries, half of them with a drawn scratch,
spot or smear; the AUC within each photograph, averaged. FOLDER: any folder of pictures, one subfolder a class.
"""
import argparse
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter
from tqdm.auto import tqdm

from embcam.classify import EmbeddingClassifier, auc_roc
from embcam.data import load_folder, make_logos, open_image
from embcam.embedding import Backbone

PHOTOGRAPHS = ["brick.png", "gravel.png", "grass.png", "page.png", "ihc.png", "moon.png", "hubble_deep_field.jpg", "coins.png"]


def scratch(crop, rng):
    "A thin bent line, dark or bright."
    w, angle, length, bend = crop.size[0], rng.uniform(0, math.pi), rng.uniform(.15, .4), rng.normal()*.4
    x, y = rng.uniform(.2, .8, 2)*w
    points = [(3*(x + t*length*w*math.cos(angle + bend*t)), 3*(y + t*length*w*math.sin(angle + bend*t))) for t in np.linspace(-.5, .5, 9)]
    large = crop.resize((3*w, 3*w), Image.Resampling.BICUBIC)
    colour = tuple(int(v) for v in rng.choice([30, 225]) + rng.normal(0, 15, 3))
    ImageDraw.Draw(large).line(points, fill=colour, width=int(rng.integers(3, 7)))
    return large.resize((w, w), Image.Resampling.LANCZOS)


def blot(crop, rng, smear):
    "A spot of a foreign colour, or a place out of focus."
    w, (x, y) = crop.size[0], rng.uniform(.2, .8, 2)*crop.size[0]
    r = rng.uniform(.03, .07)*w*(1.6 if smear else 1)
    mask = Image.new("L", crop.size)
    ImageDraw.Draw(mask).ellipse([x - r, y - r*rng.uniform(.6, 1), x + r, y + r], fill=255 if smear else 190)
    other = crop.filter(ImageFilter.GaussianBlur(3)) if smear else Image.new("RGB", crop.size, tuple(int(v) for v in rng.integers(0, 256, 3)))
    return Image.composite(other, crop, mask.filter(ImageFilter.GaussianBlur(1)))


def crops(name, rng, n=120, side=160):
    "n crops of one photograph and what is wrong with them."
    picture, kinds = Image.fromarray(open_image(Path(skimage.data.__file__).parent/name)), [("good", "scratch", "good", "spot", "good", "smear")[i % 6] for i in range(n)]
    side, images = min(side, min(picture.size) - 10), []
    for kind in kinds:
        x, y = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.crop((x, y, x + side, y + side))
        images.append(np.asarray(crop if kind == "good" else scratch(crop, rng) if kind == "scratch" else blot(crop, rng, kind == "smear")))
    return images, np.array(kinds)


def score(backbone, images, labels, seed):
    "AUC of one split."
    rng = np.random.default_rng(seed)
    test = np.concatenate([(where := rng.permutation(np.flatnonzero(labels == c)))[:round(len(where)/4)] for c in np.unique(labels)])
    train, E = np.setdiff1d(np.arange(len(labels)), test), backbone.embed(images, progress=False)
    classifier = EmbeddingClassifier(backbone, random_state=seed).fit(E[train], labels[train])
    return auc_roc(labels[test], classifier.predict_proba(E[test]), classifier.classes_)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="builtin", help="as for Backbone; 'none' is untrained")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--folder")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", ".*untrained")
    backbone, rng, logos = Backbone(args.backbone, None if args.weights == "none" else args.weights), np.random.default_rng(0), make_logos(880, seed=0)
    sets = {"logos": [(logos.images, logos.labels)], "photographs": [crops(name, rng) for name in PHOTOGRAPHS]}
    if args.folder: sets["folder"] = [((images := load_folder(args.folder)).images, images.labels)]
    for name, groups in sets.items():
        aucs = [np.mean([score(backbone, *group, seed) for group in groups]) for seed in tqdm(range(args.seeds), desc=name)]
        print(f"{name}: AUC ROC {np.mean(aucs):.4f}, seeds {', '.join(f'{a:.3f}' for a in aucs)}", flush=True)


if __name__ == "__main__": sys.exit(main())
