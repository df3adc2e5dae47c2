"""How many planted copies are found as near duplicates, and what else is.

python benchmarks/near_duplicates.py NAME=FOLDER ... [logos] [elpv] [skimage] [--each 30] [--seed 0] [--out FILE.csv]

FOLDER: its images, subfolders too; 'logos': 880 drawn ones; 'elpv': solar cells of the package elpv-dataset; 'skimage': 22 pictures that
come with scikit-image, whole and in quarters. Twelve alterations, each of other originals; all copies are planted at once.
Recall is the share of the planted pairs that are found. Of the set without copies are: unplanted pairs, the largest group, the share of its
pairs that are near duplicates themselves, the largest group of complete linkage and the share of pairs that it separates, and CPU seconds.
Pairs are proposed by the images alone, without embeddings.
"""
import argparse
import io
import sys
from importlib import resources
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from PIL import Image

from embcam.auditing import find_near_duplicates, group_near_duplicates
from embcam.images import make_logos, open_image

PICTURES = ("coffee.png camera.png clock_motion.png astronaut.png color.png gravel.png brick.png logo.png hubble_deep_field.jpg page.png "
            "moon.png grass.png retina.jpg ihc.png cell.png chelsea.png rocket.jpg coins.png motorcycle_left.png motorcycle_right.png "
            "text.png horse.png").split()
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


def pictures_of_skimage():
    "Photographs, textures and pages, each whole and in quarters, which do not overlap."
    found = []
    for file in PICTURES:
        image = open_image(resources.files("skimage").joinpath("data", file))
        h, w = image.shape[0]//2, image.shape[1]//2
        found += [image, *(np.ascontiguousarray(image[y:y + h, x:x + w]) for y in (0, h) for x in (0, w))]
    return found


def sources_of(argument):
    "Name and images of 'logos', 'elpv', 'skimage' or NAME=FOLDER."
    if argument == "logos": return argument, list(make_logos(880, seed=0, progress=False).images)
    if argument == "elpv": return argument, sorted(resources.files("elpv_dataset").joinpath("data", "images").glob("*.png"))
    if argument == "skimage": return argument, pictures_of_skimage()
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


def by_complete_linkage(pairs, n):
    "Groups in which every two images are near duplicates, the clearest pairs joined first: the trial beside `group_near_duplicates`."
    linked = {*zip(pairs["first"], pairs["second"]), *zip(pairs["second"], pairs["first"])}
    members, group = {i: [i] for i in range(n)}, np.arange(n)
    for first, second in zip(pairs["first"], pairs["second"]):
        a, b = group[first], group[second]
        if a == b or any((i, j) not in linked for i in members[a] for j in members[b]): continue
        members[a] += members.pop(b)
        group[members[a]] = a
    return group


def measure(name, images, each, seed):
    "A row for each alteration."
    n = len(images)
    start = process_time()
    own = find_near_duplicates(None, images, progress=False)
    seconds = process_time() - start
    groups = group_near_duplicates(own, n)
    largest = int(np.bincount(groups).max())
    within = int((groups[own["first"].astype(int)] == np.bincount(groups).argmax()).sum())
    linked = within/(largest*(largest - 1)/2) if largest > 1 else np.nan
    complete = by_complete_linkage(own, n)
    apart = np.mean(complete[own["first"].astype(int)] != complete[own["second"].astype(int)]) if len(own) else np.nan
    copies, truth = plant(images, each, seed)
    found = find_near_duplicates(None, [*images, *copies], progress=False)
    pairs = set(zip(found["first"], found["second"]))
    rows = []
    for kind in ALTERATIONS:
        hits = [(i, n + k) in pairs for k, (i, other) in enumerate(truth) if other == kind]
        rows.append(dict(data=name, images=n, alteration=kind, planted=len(hits), recall=round(np.mean(hits), 3),
                         unplanted_pairs=len(own), largest_group=largest,
                         linked=round(linked, 2),
                         largest_complete=int(np.bincount(complete).max()), pairs_apart=round(apart, 3), cpu_seconds=round(seconds, 1)))
    mean = np.mean([row["recall"] for row in rows])
    print(f"{name}: {n} images, mean recall {mean:.3f}, {len(own)} unplanted pairs, largest group {largest}, of whose pairs "
          f"{linked:.2f} are near duplicates, {seconds:.1f} CPU seconds", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="NAME=FOLDER, 'logos', 'elpv' or 'skimage'")
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
