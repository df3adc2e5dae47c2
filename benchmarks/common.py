"What several benchmarks share: their arguments, the images and the network that these name, and the images with a defect."
import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np

from embcam import Backbone, load_folder, make_logos
from embcam.images import ImageSet


def parser_of(doc: str) -> argparse.ArgumentParser:
    "A parser that prints the script's own words, with the first argument of most of them."
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="FOLDER/<class>/*, or images/<class>/* beside masks/<class>/*; 'logos': 880 drawn ones")
    return parser


def sets_parser(doc: str) -> argparse.ArgumentParser:
    "A parser of scripts that measure several sets in turn."
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="NAME=FOLDER, or what `labelled` knows, such as 'logos' and 'elpv'")
    parser.add_argument("--out", required=True, help="CSV for the scores")
    return parser


def arguments(doc: str, seeds: int) -> argparse.ArgumentParser:
    "What every benchmark on defects with masks is asked."
    parser = parser_of(doc)
    parser.add_argument("--out", required=True, help="folder for the scores")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--seeds", type=int, default=seeds, help="splits; each takes as long again")
    parser.add_argument("--cache", help="folder for embeddings")
    return parser


def images_of(folder: str, progress: bool = True) -> ImageSet:
    "The images of a folder, or drawn logos."
    if folder == "logos": return make_logos(880, seed=0, progress=progress)
    return load_folder(folder, progress=progress)


def labelled(source: str) -> ImageSet:
    "A folder of class folders, 'logos', a folder with cells.csv (two or more platelets, or fewer), or 'elpv' (defective above one half)."
    if source == "elpv":
        from elpv_dataset.utils import load_dataset
        cells, defect, _ = load_dataset()
        images = [np.repeat(cell[..., None], 3, 2) for cell in cells]
        return ImageSet(images, np.where(defect > .5, "defective", "good").tolist())
    if not Path(source, "cells.csv").is_file(): return images_of(source)
    with open(Path(source, "cells.csv"), encoding="utf-8") as file:
        platelets = Counter(row["image"] for row in csv.DictReader(file) if "platelet" in " ".join(row.values()).lower())
    images = sorted(Path(source, "images").iterdir())
    return ImageSet(images, ["many" if max(platelets[path.name], platelets[path.stem]) > 1 else "few" for path in images])


def images_and_backbone(args: argparse.Namespace) -> tuple[ImageSet, Backbone]:
    "What the arguments name."
    return images_of(args.folder), Backbone(args.backbone, args.weights, cache=args.cache or True)


def defective(images: ImageSet) -> ImageSet:
    "The images whose mask marks something."
    return images[[i for i, sample in enumerate(images) if sample.mask is not None and sample.mask.any()]]
