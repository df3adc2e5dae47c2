"""An exported page against Python, in Chromium, from disk and without network: classes, scores, maps and times.

python benchmarks/exported_page.py deeppcb=FOLDER logos=logos bccd=FOLDER --out nbs/results/exported_page.csv

For each set: EfficientNet-Lite0 (averages of stages) and a logistic regression on three quarters; page with four examples; on the first set
float16 and the paper's forest, too. Of the other images 200 of the first row and 50 of each other are chosen in the page one after the
other; each is explained in Python as well. Times are wall time: the load of the machine stands beside them. Needs Debian's chromium.
"""
import csv
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from common import labelled, sets_parser
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.explanation.stored import stored_maps
from embcam.export import export_page
from embcam.export.onnx_file import rank_correlation
from embcam.model import HEADS

sys.path.insert(0, str(Path(__file__).parents[1]/"tests"))
from test_browser import CHROMIUM, FLAGS, LETTERS, floats  # noqa: E402

MADE = """() => {
    const e = DATA.entries.shift(), m = e.made[e.prediction], as = x => letters(new Uint8Array(x.buffer, x.byteOffset, x.byteLength))
    const took = +document.getElementById('state').textContent.match(/in ([0-9.]+) s/)[1]
    return { label: e.prediction, scores: [...m.scores.data], x: as(e.x), combined: as(shown.combined.strength), took,
             layers: NETWORK.layers.map(l => as(m[l.map].data)) } }"""
MOST = 200, 50  # images of the first row, and of each other
WAYS = ("logistic", "float32"), ("logistic", "float16"), ("forest", "float32")


def files_of(images, home: Path, most: int) -> list[Path]:
    "Files of images; PNG of those that are drawn."
    home.mkdir()
    paths = []
    for i, image in enumerate(images.images[:most]):
        if isinstance(image, (str, Path)): paths.append(Path(image))
        else:
            paths.append(home/f"{i:03}.png")
            Image.fromarray(image).save(paths[-1])
    return paths


def opened(context, page_file: Path) -> tuple:
    "The page, ready; seconds until its examples are there, and until it takes images."
    page, start = context.new_page(), time.time()
    page.goto(page_file.as_uri())
    page.wait_for_function("() => document.getElementById('said').textContent")
    first = time.time() - start
    page.wait_for_selector("#file:enabled", timeout=120_000)
    return page, first, time.time() - start


def compared(page, explainer: Explainer, path: Path) -> dict:
    "One image in the page and in Python."
    page.set_input_files("#file", path)
    page.wait_for_function("name => document.getElementById('state').textContent.startsWith(name + ':')", arg=path.name, timeout=120_000)
    made, ex = page.evaluate(MADE), explainer(path)
    x = np.ravel(explainer.classifier.backbone.prepare(ex.image)[0])
    maps = [rank_correlation(floats(m), np.ravel(ex.maps.toward[layer])) for m, layer in zip(made["layers"], ex.maps.layers)]
    whole = rank_correlation(floats(made["combined"]), np.ravel(ex.maps.limited(512)["combined"]))
    return dict(same=made["label"] == str(ex.prediction), score=np.abs(np.subtract(made["scores"], list(ex.probabilities.values()))).max(),
                off=int((floats(made["x"]) != x).sum()), layers=min(maps), combined=whole, took=made["took"])


def measured(name: str, source: str, head: str, weights: str, most: int, browser, home: Path) -> dict:
    "A row of the table."
    train, test = labelled(source).split(test_size=.25, seed=0)
    make, features = HEADS[head]
    model = EmbeddingClassifier(Backbone(pooled="stages"), make(), features, progress=False).fit(train)
    row = f"{name}-{head}-{weights}"
    explainer, page_file, paths = Explainer(model), home/f"{row}.html", files_of(test, home/row, most)
    examples, start = [stored_maps(explainer, path, path.name) for path in paths[:4]], time.time()
    export_page(explainer, page_file, examples, weights, check=paths[:8])
    took = time.time() - start
    context = browser.new_context(offline=True)
    page, first, ready = opened(context, page_file)
    page.evaluate(LETTERS)
    found = [compared(page, explainer, path) for path in paths]
    context.close()
    column = {key: [one[key] for one in found] for key in found[0]}
    return dict(set=name, head=head, weights=weights, images=len(found),
                MB=round(page_file.stat().st_size/1e6, 1), classes_equal=sum(column["same"]),
                largest_difference_of_scores=f"{max(column['score']):.1e}", images_prepared_to_the_bit=sum(n == 0 for n in column["off"]),
                combined_least=round(min(column["combined"]), 5), combined_mean=round(float(np.mean(column["combined"])), 6),
                a_layer_least=round(min(column["layers"]), 4), a_layer_mean=round(float(np.mean(column["layers"])), 5),
                export_s=round(took, 1), examples_s=round(first, 1), ready_s=round(ready, 1),
                image_s=round(float(np.median(column["took"])), 2), best_image_s=min(column["took"]), load=round(os.getloadavg()[0], 1))


if __name__ == "__main__":
    args, rows = sets_parser(__doc__).parse_args(), []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for i, one in enumerate(args.sets):
            name, _, source = one.partition("=")
            for head, weights in WAYS[:3 if i == 0 else 1]:
                rows.append(measured(name, source or name, head, weights, MOST[bool(rows)], browser, Path(folder)))
                print(rows[-1], flush=True)
        browser.close()
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
