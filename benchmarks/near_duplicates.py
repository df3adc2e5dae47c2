"""How many planted copies are found as near duplicates, and what else is.

python benchmarks/near_duplicates.py NAME=FOLDER ... [logos] [--each 30] [--seed 0] [--out FILE.csv]

FOLDER: its images, subfolders too; 'logos': 880 drawn ones. Twelve alterations, each of other originals; all copies are planted at once.
Recall is the share of the planted pairs that are found. Unplanted pairs, the largest group and CPU seconds are those of the set without
copies. Pairs are proposed by the images alone, without embeddings.
"""
import argparse
import io
import sys
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from PIL import Image

from embcam.auditing import find_near_duplicates, group_near_duplicates
from embcam.images import make_logos, open_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def recompressed(image):
    "As JPEG of quality 70."
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def padded(image, pad): return Image.fromarray(np.pad(np.asarray(image), ((pad, pad), (pad, pad), (0, 0)), "edge"))


def cropped_2(image):
    "Without 2 % at each side."
    w, h = image.size
    x, y = max(1, round(.02*w)), max(1, round(.02*h))
    return image.crop((x, y, w - x, h - y))


def cropped_5(image):
    "Without 5 % at the left and the top."
    return image.crop((round(.05*image.width), round(.05*image.height), image.width, image.height))


def halved(image): return image.resize((max(1, image.width//2), max(1, image.height//2)), Image.Resampling.BICUBIC)


def brighter(image): return image.point(lambda v: min(255, round(v*1.25 + 8)))


def with_gamma(image): return image.point(lambda v: round(255*(v/255)**.7))


def shifted(image):
    "By 3 % to the right and down; the margin is repeated."
    return padded(image, max(1, round(.03*image.width))).crop((0, 0, *image.size))


def rotated(image):
    "By one degree."
    d = max(4, image.width//20)
    return padded(image, d).rotate(1, Image.Resampling.BICUBIC).crop((d, d, image.width + d, image.height + d))


ALTERATIONS = {
    "crop 2 %": cropped_2, "crop 5 %": cropped_5, "half size": halved, "JPEG 70": recompressed, "brightness": brighter, "gamma": with_gamma,
    "shift 3 %": shifted, "rotation 1 degree": rotated, "all together": lambda image: recompressed(brighter(halved(cropped_2(image)))),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_180)}


def sources_of(argument):
    "Name and images of 'logos' or NAME=FOLDER."
    if argument == "logos": return "logos", list(make_logos(880, seed=0, progress=False).images)
    name, folder = argument.split("=", 1)
    return name, sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)


def plant(images, each, seed):
    "Altered copies, and for each its original and alteration."
    kinds = list(ALTERATIONS)
    each = min(each, len(images)//len(kinds))
    chosen = np.random.default_rng(seed).permutation(len(images))[:each*len(kinds)]
    truth = [(int(i), kinds[k % len(kinds)]) for k, i in enumerate(chosen)]
    copies = [np.asarray(ALTERATIONS[kind](Image.fromarray(open_image(images[i])))) for i, kind in truth]
    return copies, truth


def measure(name, images, each, seed):
    "A row for each alteration."
    n = len(images)
    start = process_time()
    own = find_near_duplicates(None, images, progress=False)
    seconds = process_time() - start
    largest = int(np.bincount(group_near_duplicates(own, n)).max())
    copies, truth = plant(images, each, seed)
    found = find_near_duplicates(None, [*images, *copies], progress=False)
    pairs = set(zip(found["first"], found["second"]))
    rows = []
    for kind in ALTERATIONS:
        hits = [(i, n + k) in pairs for k, (i, other) in enumerate(truth) if other == kind]
        rows.append(dict(data=name, images=n, alteration=kind, planted=len(hits), recall=round(np.mean(hits), 3),
                         unplanted_pairs=len(own), largest_group=largest, cpu_seconds=round(seconds, 1)))
    mean = np.mean([row["recall"] for row in rows])
    print(f"{name}: {n} images, mean recall {mean:.3f}, {len(own)} unplanted pairs, largest group {largest}, {seconds:.1f} CPU seconds",
          flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="NAME=FOLDER, or 'logos'")
    parser.add_argument("--each", type=int, default=30, help="copies of each kind")
    parser.add_argument("--seed", type=int, default=0, help="which images are copied")
    parser.add_argument("--out", help="CSV")
    args = parser.parse_args()
    rows = []
    for argument in args.sets: rows += measure(*sources_of(argument), args.each, args.seed)
    table = pd.DataFrame(rows)
    print(table.pivot(index="alteration", columns="data", values="recall").reindex(list(ALTERATIONS)))
    if args.out: table.to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
