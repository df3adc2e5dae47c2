"""Good images only: how well are defects found, and where, by embcam and by anomalib's PatchCore on the same network and images?

python benchmarks/good_only.py NAME=SOURCE ... --out CSV [--seeds 5] [--anomalib 1] [--focus 30]

SOURCE: a folder of class folders, of which 'good' is good; 'logos'; 'elpv': monocrystalline solar cells, of probability 0 good. Three
quarters of the good images, drawn by the seed, are learned from; the rest, and all others, are judged. Where anomalib is installed (in an
environment of its own, with what embcam needs) its PatchCore runs on the first --anomalib seeds: its own settings (a tenth of the cells,
3 x 3 averages, 9 neighbours), the weights and prepared images of embcam's network, the same layers; its threshold is the 95 % quantile of a
fifth of the good training images that it did not learn from. Columns: AUROC with a 95 % interval (Hanley and McNeil's error, of one seed);
empty: the share of good images below the threshold; shown: of others above it; pixel_auc: the mean over defects with masks, of all, or of
--focus a seed where the map is made by gradients. OMP_NUM_THREADS=1.
"""
import sys
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from common import images_of, sets_parser
from embcam import Backbone, Explainer
from embcam.images import ImageSet, open_image, resize
from embcam.judging.metrics import pixel_auc
from embcam.model import EmbeddingModel
from embcam.model.bank import CellBank, joint_answer, map_answer
from embcam.model.scoring import unusual_scores
from embcam.network.layers import record_activations


def images_named(source: str) -> ImageSet:
    "A folder, drawn logos, or monocrystalline cells of ELPV."
    if source != "elpv": return images_of(source, progress=False)
    from elpv_dataset.utils import load_dataset
    cells, defect, kind = load_dataset()
    mono = np.flatnonzero(np.array(kind) == "mono")
    return ImageSet([np.repeat(cells[i][..., None], 3, 2) for i in mono], ["good" if defect[i] == 0 else "defective" for i in mono])


def row(method: str, bad: np.ndarray, answers: np.ndarray, limit: float, pixels: float, seconds: float) -> dict:
    "What one method found in one split."
    told = unusual_scores(bad, answers, limit)
    return dict(method=method, auroc=told["AUROC"], low=told["AUROC low"], high=told["AUROC high"], empty=told["good, empty"],
                shown=told["bad, shown"], pixel_auc=pixels, seconds=seconds)


def on_masks(images: ImageSet, positions, maps) -> float:
    "The mean pixel AUC of maps of images, of those with a mask; NaN without any."
    found = []
    for i, m in zip(positions, maps):
        if images.masks[i] is None: continue
        mask = images[int(i)].mask
        if mask.any(): found.append(pixel_auc(resize(np.asarray(m, np.float32), mask.shape), mask))
    return float(np.mean(found)) if found else np.nan


def ours(images: ImageSet, backbone: Backbone, E, cells, train, test, bad, seed: int, focus: int) -> list[dict]:
    "Embedding, bank, and both."
    start = perf_counter()
    bank = CellBank(backbone, random_state=seed).fit_cells(cells[train])
    maps = bank.cell_maps(cells[test])
    of_cells, middle = map_answer(maps), perf_counter()
    model = EmbeddingModel(backbone, "unlike", random_state=seed, progress=False).fit(E[train])
    of_embedding = -model.score_samples(E[test])
    known = model.left_out(), bank.left_out_
    end = perf_counter()
    both = joint_answer(of_embedding, of_cells, known)[0]
    some = np.flatnonzero(bad)[:focus] if images.masks[test[-1]] is not None else []
    explain = Explainer(model, threshold=None)
    drawn = [explain(images.images[test[k]]).maps["combined"] for k in some]
    limits = [float(np.quantile(values, .95, method="higher")) for values in (*known, joint_answer(*known, known)[0])]
    where = on_masks(images, test[bad], maps[bad]), on_masks(images, test[some], drawn)
    return [row("embedding", bad, of_embedding, limits[0], where[1], end - middle),
            row("bank of cells", bad, of_cells, limits[1], where[0], middle - start),
            row("both", bad, both, limits[2], where[0], end - start)]


class Grids(torch.nn.Module):
    "The layers of embcam's network, in the place of anomalib's own extractor, which cannot trace it."

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.held = [backbone.network]  # in a list: it stays frozen, in evaluation mode
        self.layers = backbone.cell_layers

    def forward(self, x: torch.Tensor) -> dict:
        with record_activations(self.held[0], self.layers) as grids: self.held[0](x)
        return {layer: grids[layer] for layer in self.layers}


def patchcore(images: ImageSet, backbone: Backbone, train, test, bad, seed: int) -> list[dict]:
    "PatchCore of anomalib on the same layers; nothing where it is not installed."
    try: from anomalib.models.image.patchcore.torch_model import PatchcoreModel
    except ImportError: return []
    torch.manual_seed(seed)
    start, stand_in = perf_counter(), torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1))
    model = PatchcoreModel(layers=["0"], backbone=stand_in)
    model.layers, model.feature_extractor = list(backbone.cell_layers), Grids(backbone)

    def batches(some):
        for i in range(0, len(some), 16):
            yield torch.stack([backbone.prepare(open_image(images.images[k], bits=images.bits))[0] for k in some[i:i + 16]])
    def ask(some):
        found = [model(x) for x in batches(some)]
        return torch.cat([one.pred_score for one in found]).numpy(), torch.cat([one.anomaly_map for one in found])[:, 0].numpy()
    with torch.no_grad():
        model.train()
        for x in batches(train[len(train)//5:]): model(x)
        model.subsample_embedding(.1)
        model.eval()
        aside, (answers, maps) = ask(train[:len(train)//5])[0], ask(test)
    where = on_masks(images, test[bad], maps[bad])
    return [row("PatchCore of anomalib", bad, answers, float(np.quantile(aside, .95)), where, perf_counter() - start)]


def main():
    parser = sets_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--anomalib", type=int, default=1)
    parser.add_argument("--focus", type=int, default=30)
    args = parser.parse_args()
    backbone, rows = Backbone(pooled="stages"), []
    for pair in args.sets:
        name, _, source = pair.rpartition("=")
        images = images_named(source)
        E, cells, good = backbone.embed(images), backbone.embed_cells(images), images.labels == "good"
        for seed in range(args.seeds):
            order = np.random.default_rng(seed).permutation(np.flatnonzero(good))
            train, held_out = np.split(order, [round(.75*len(order))])
            test = np.concatenate([held_out, np.flatnonzero(~good)])
            counts = dict(set=name or source, seed=seed, train=len(train), good=len(held_out), bad=int((~good).sum()))
            rows += [counts | one for one in ours(images, backbone, E, cells, train, test, ~good[test], seed, args.focus)]
            if seed < args.anomalib: rows += [counts | one for one in patchcore(images, backbone, train, test, ~good[test], seed)]
            print(pd.DataFrame(rows[-4:]).round(3).to_string(), flush=True)
            pd.DataFrame(rows).round(4).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
