"""The picture of audits in the README: what features see, an artefact that was planted, and a label issue.

python benchmarks/pictures/audit.py FOLDER WEIGHTS OUT.jpg [--features 226 264 214 200]
    [--label short/short_056.png] [--seed 1] [--cache DIR]

Left, the images of FOLDER as they are, audited with the paper's classifier (a forest on the last layer) on SqueezeNet with WEIGHTS.
Right, the
same images with the mark that benchmarks/planted_faults.py plants (on 90 % of a class and 5 % of the others; class, corner and look
are drawn by the seed), audited with its classifier. What is drawn is what the pages of the two audits show. A quarter of an hour; --cache
keeps what was explained.
"""
import argparse
import io
import sys
from pathlib import Path

import torch
from PIL import Image

from embcam import Backbone, EmbeddingClassifier, load_folder
from embcam.auditing import audit
from embcam.auditing.audit_page import _artefact_section, _atlas_section, _label_sections
from embcam.figure import new_figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from planted_faults import fitted, plant_mark  # noqa: E402

CROPS, SHOWN, MOST = 6, 3, 200_000  # crops of a feature, images of a finding, bytes


def put(ax, image, under):
    "An image and what it is."
    ax.imshow(image, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(under, fontsize=9, labelpad=3)
    for edge in ax.spines.values(): edge.set(color="#999", linewidth=.7)


def draw_atlas(part, a, names):
    "Left: a row per feature, with the class that it speaks for most."
    part.text(.012, .985, "What features see", va="top", fontsize=13, weight="bold")
    part.text(.012, .925, "where each is strongest, with the class of the image", va="top", fontsize=9.5)
    known = {row["name"]: (row, _atlas_section(a, row)) for row in a.atlas.to_dict("records")}
    rows = part.subplots(len(names), CROPS, gridspec_kw=dict(left=.165, right=.985, top=.865, bottom=.05, wspace=.07, hspace=.24))
    for axes, name in zip(rows, names):
        row, section = known[name]
        for ax, (crop, label) in zip(axes, section["tiles"]): put(ax, crop, label)
        weights = {c: row[f"for {c}"] for c in a.classifier.classes_.tolist()}
        c = max(weights, key=weights.get)
        axes[0].set_ylabel(f"feature {name}\nfor {c}\n{weights[c]:+.2f}", rotation=0, ha="right", va="center", fontsize=9.5, labelpad=6)


def draw_finding(part, title, text, tiles):
    "Right: some images, and what was found in them."
    part.text(.01, .97, title, va="top", fontsize=13, weight="bold")
    part.text(.01, .855, text, va="top", fontsize=9.5)
    for ax, tile in zip(part.subplots(1, SHOWN, gridspec_kw=dict(left=.01, right=.99, top=.76, bottom=.09, wspace=.05)), tiles):
        put(ax, *tile)


def picture(plain, names, marked, label):
    "The atlas of one audit beside two findings of another."
    artefact = marked.artefacts_found[0]
    issue = next(section for section in _label_sections(marked) if section["heading"] == label)
    figure = new_figure(figsize=(11.6, 5.1))
    figure.set_layout_engine("none")
    left, right = figure.subfigures(1, 2, width_ratios=[1.16, 1], wspace=.02)
    upper, lower = right.subfigures(2, 1)
    draw_atlas(left, plain, names)
    worth = (f"{artefact.inside:.0%} of the class show it, {artefact.outside:.0%} of the others; "
             f"AUC {artefact.auc_with:.2f}, without it {artefact.auc_without:.2f}")
    tiles = _artefact_section(marked, artefact, next(marked.artefacts.itertuples()))["tiles"]
    draw_finding(upper, f"An artefact of “{artefact.label}”, boxed", worth, tiles)
    draw_finding(lower, "A label issue", issue["text"], issue["tiles"])
    return figure


def save_jpeg(figure, out):
    "As good as fits."
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    for quality in range(90, 40, -4):
        small = io.BytesIO()
        Image.open(buffer).convert("RGB").save(small, "JPEG", quality=quality, optimize=True)
        if len(small.getvalue()) <= MOST: break
    with open(out, "wb") as file: file.write(small.getvalue())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in "folder", "weights", "out": parser.add_argument(name)
    parser.add_argument("--features", nargs="+", default=["226", "264", "214", "200"], help="of the atlas")
    parser.add_argument("--label", default="short/short_056.png", help="name of an image")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", help="begin of the names of two folders, where the audits go on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = load_folder(args.folder, progress=False)
    forest = EmbeddingClassifier(Backbone("squeezenet1_0", weights=args.weights),
                                 progress=False).fit(images.split(test_size=.25, seed=0)[0])
    plain = audit(forest, images, args.cache and f"{args.cache}-plain", progress=False)
    planted, label, box, _ = plant_mark(images, args.seed, .9)
    marked = audit(fitted(Backbone(pooled="stages"), planted), planted, args.cache and f"{args.cache}-marked", progress=False)
    print(plain, plain.atlas.round(3).to_string(), f"planted on {label}, box {box}", marked, marked.label_issues.head(12).to_string(),
          sep="\n")
    save_jpeg(picture(plain, args.features, marked, args.label), args.out)


if __name__ == "__main__": main()
