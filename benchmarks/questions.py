"""Questions that are not classes: how well numbers are predicted, whether each output's map lies on its own things, and what a map costs.

python benchmarks/questions.py [elpv] [bccd=FOLDER] [--out FILE.csv]

elpv: solar cells of the package elpv-dataset, the probability of a defect (0, 1/3, 2/3, 1). Four folds; cells that stand beside each other
in the package, fifty at a time, are on one side, since they come from the same modules. Ridge and SVR at one strength each, and the
CPU seconds of an explanation by 'focus' and 'cells', forward pass included, for five kinds of estimator.
bccd: blood images with boxes of cells (cells.csv), one ridge regression for the counts of red cells, white cells and platelets, five folds,
448 pixels. Each held-out image that has the thing is explained by 'cells'. `share`: of the positive relevance in the output's own boxes;
`area`: theirs of the image; `own`: share of images on which it is denser there than in the boxes of the others.
Columns: data, what, mean, low, high (95 %, a thousand samples of the images), n. OMP_NUM_THREADS=1.
"""
import argparse
import csv
from collections import defaultdict
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from embcam import Backbone, EmbeddingModel, Explainer
from embcam.images import open_image
from embcam.model.scoring import number_scores

KINDS = "RBC", "WBC", "Platelets"


def row(data: str, what: str, values) -> dict:
    "Mean and interval of values of images."
    values = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [.025, .975])
    return dict(data=data, what=what, mean=values.mean(), low=low, high=high, n=len(values))


def scored(data: str, name: str, true, predicted) -> list[dict]:
    "MAE, Spearman and R2 of held-out predictions."
    told = number_scores(true, predicted, [name]).iloc[0]
    return [dict(data=data, what=f"{name}, {of}", mean=told[of], low=told[f"{of} low"], high=told[f"{of} high"], n=len(true))
            for of in ("MAE", "Spearman", "R2")]


def elpv() -> list[dict]:
    "Regression of the probability of a defect, and seconds of explanations."
    from elpv_dataset.utils import load_dataset
    cells, defect, _ = load_dataset()
    images = [np.repeat(cell[..., None], 3, 2) for cell in cells]
    backbone = Backbone(pooled="stages")
    E = backbone.embed(images).astype(float)
    folds = list(GroupKFold(4).split(E, groups=np.arange(len(E))//50))
    heads = {"Ridge": make_pipeline(StandardScaler(), Ridge(3000)), "SVR": make_pipeline(StandardScaler(), SVR(C=.4, epsilon=.04))}
    rows = []
    for name, head in heads.items():
        predicted = np.empty(len(E))
        for train, test in folds: predicted[test] = head.fit(E[train], defect[train]).predict(E[test])
        rows += scored("elpv", name, defect, predicted)
    others = {"LedoitWolf": make_pipeline(StandardScaler(), LedoitWolf()), "IsolationForest": IsolationForest()}
    for name, head in (heads | others).items():
        model = EmbeddingModel(backbone, head, progress=False).fit(E[:720], defect[:720])
        for method, some in ("focus", images[1000:1010]), ("cells", images[1010:1020]):  # others: slopes are kept
            rows.append(row("elpv", f"{name}, {method}, CPU seconds", seconds(model, method, some)))
    return rows


def seconds(model: EmbeddingModel, method: str, images: list) -> list[float]:
    "Of one explanation each, trust left out; the first one, which finds the kind of the answer, is not counted."
    explain, found = Explainer(model, method=method, threshold=None), []
    for image in images:
        start = process_time()
        explain(image)
        found.append(process_time() - start)
    return found[1:]


def boxes_of(folder: Path) -> dict:
    "{image: {kind: [(x0, y0, x1, y1)]}}."
    found = defaultdict(lambda: defaultdict(list))
    with open(folder/"cells.csv", encoding="utf-8") as file:
        for box in csv.DictReader(file):
            found[Path(box["image"]).stem][box["kind"]].append([int(float(box[edge])) for edge in ("x0", "y0", "x1", "y1")])
    return found


def painted(boxes: list, shape: tuple) -> np.ndarray:
    "Pixels that lie in a box, bool (h, w)."
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes: mask[y0:y1, x0:x1] = True
    return mask


def bccd(folder: Path) -> list[dict]:
    "Each output's relevance on its own boxes and on the others'."
    boxes = boxes_of(folder)
    paths = [path for path in sorted((folder/"images").iterdir()) if path.stem in boxes]
    counts = np.array([[len(boxes[path.stem][kind]) for kind in KINDS] for path in paths], float)
    backbone = Backbone(pooled="stages", size=448)
    E = backbone.embed(paths).astype(float)
    predicted, found = np.empty_like(counts), defaultdict(list)
    for train, test in KFold(5, shuffle=True, random_state=0).split(E):
        model = EmbeddingModel(backbone, make_pipeline(StandardScaler(), Ridge(1000)), progress=False)
        model.fit(E[train], pd.DataFrame(counts[train], columns=KINDS))
        predicted[test] = model.predict(E[test])
        explain = Explainer(model, method="cells")
        for i in test: measure(explain, paths[i], boxes[paths[i].stem], found)
    rows = [one for k, kind in enumerate(KINDS) for one in scored("bccd", kind, counts[:, k], predicted[:, k])]
    return rows + [row("bccd", what, values) for what, values in found.items()]


def measure(explain: Explainer, path: Path, boxes: dict, found: dict) -> None:
    "Shares of one image, for each thing that is there."
    image = open_image(path)
    masks = {kind: painted(boxes[kind], image.shape[:2]) for kind in KINDS}
    for kind in KINDS:
        if not masks[kind].any(): continue
        relevance = np.clip(explain(image, kind).maps["cells"], 0, None)
        others = np.any([masks[one] for one in KINDS if one != kind], axis=0) & ~masks[kind]
        own, total = relevance[masks[kind]], relevance.sum() or 1
        found[f"{kind}, share"].append(own.sum()/total)
        found[f"{kind}, area"].append(masks[kind].mean())
        if others.any(): found[f"{kind}, own"].append(own.mean() > relevance[others].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="elpv, bccd=FOLDER")
    parser.add_argument("--out", help="CSV")
    args = parser.parse_args()
    rows = []
    for name in args.sets: rows += elpv() if name == "elpv" else bccd(Path(name.partition("=")[2]))
    table = pd.DataFrame(rows).round(4)
    print(table.to_string(index=False))
    if args.out: table.to_csv(args.out, index=False, lineterminator="\n")


if __name__ == "__main__": main()
