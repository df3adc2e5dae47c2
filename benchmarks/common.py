"What several benchmarks share: their arguments, the images and the network that these name, and the images with a defect."
import argparse

from embcam import Backbone, load_folder, make_logos
from embcam.images import ImageSet


def parser_of(doc: str) -> argparse.ArgumentParser:
    "A parser that prints the script's own words, with the first argument of most of them."
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="FOLDER/<class>/*, or images/<class>/* beside masks/<class>/*; 'logos': 880 drawn ones")
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


def images_and_backbone(args: argparse.Namespace) -> tuple[ImageSet, Backbone]:
    "What the arguments name."
    return images_of(args.folder), Backbone(args.backbone, args.weights, cache=args.cache or True)


def defective(images: ImageSet) -> ImageSet:
    "The images whose mask marks something."
    return images[[i for i, sample in enumerate(images) if sample.mask is not None and sample.mask.any()]]
