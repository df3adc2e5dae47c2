"""Is a lens spot in half of the images of a folder found, and where it is?

python benchmarks/planted_drift.py NAME=SOURCE ... --out CSV [--draws 34] [--calm 100] [--n 100] [--dark .6 .3]

SOURCE: a folder of class folders, 'logos', 'elpv', or a folder with cells.csv (BCCD). Each draw deals out two folders of n images each.
With a spot: a soft dark disc of 8 to 14 px (radius, of an input of 224 px), at a place drawn by lot, 20 px or more from the edges, in half
of the second folder's images; --dark: how much light it takes. Kinds: "stays": all at one place; "wanders": each at its own; "none".
Columns: the set, the kind, how dark, the draws; found: the share with p at most 0.05 by the test on cells; near: found, and the map's peak
at most 15 px from the middle of the spot; told: the classifier's AUC with p at most 0.05; changed: either, by the verdict of
`embcam.auditing.find_drift`; first_ten: the share of images with a spot among the ten that differ most. Intervals of near and found are
Wilson's, 95 %. OMP_NUM_THREADS=1.
"""
import sys
from time import perf_counter

import numpy as np
import pandas as pd

from common import labelled, sets_parser
from embcam import Backbone
from embcam.auditing import find_drift
from embcam.images import open_image

SIDE = 224


class Remembering(Backbone):
    "Knows the cells of images that it has seen, as its cache knows their embeddings."
    seen = {}

    def embed_cells(self, images, progress: bool = True) -> np.ndarray:
        keys = [image.tobytes() for image in images.images]
        new = {key: image for key, image in zip(keys, images.images) if key not in self.seen}
        if new: self.seen.update(zip(new, super().embed_cells(list(new.values()), progress)))
        found = np.stack([self.seen[key] for key in keys])
        for key in new.keys() - self.kept: del self.seen[key]
        return found

    def remember(self, sources: list) -> None:
        "Know these, and no others."
        self.seen.clear()
        self.kept = {open_image(source).tobytes() for source in sources}

def spotted(image: np.ndarray, x: float, y: float, radius: float, dark: float) -> np.ndarray:
    "A soft dark disc; its place and radius in pixels of an input of 224."
    h, w = image.shape[:2]
    across, down = np.meshgrid((np.arange(w) + .5)/w*SIDE, (np.arange(h) + .5)/h*SIDE)
    shade = dark*np.clip(2.5 - 2*np.hypot(across - x, down - y)/radius, 0, 1)
    return (image*(1 - shade[..., None])).round().astype(np.uint8)


def draw(backbone: Backbone, sources: list, n: int, kind: str, dark: float, seed: int) -> dict:
    "One draw, and what was found."
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sources))[:2*n]
    a, b = ([open_image(sources[i]) for i in some] for some in (order[:n], order[n:]))
    radius, place = rng.uniform(8, 14), rng.uniform(20, SIDE - 20, 2)
    marked = 0 if kind == "none" else n//2
    for i in range(marked):
        if kind == "wanders": place = rng.uniform(20, SIDE - 20, 2)
        b[i] = spotted(b[i], *place, radius, dark)
    drift = find_drift(backbone, a, b, times=199, seed=seed, progress=False)
    off = np.hypot(*(SIDE*np.array(drift.peak) - place))
    first = drift.table["position"][:10]
    found = drift.p_value <= .05
    return dict(found=found, near=found and off <= 15, told=drift.auc_p_value <= .05, changed=drift.changed, off=off,
                first_ten=float(np.mean((first >= n) & (first < n + marked))))


def wilson(share: float, n: int) -> tuple[float, float]:
    "The 95 % interval of a share."
    z = 1.96
    middle, half = share + z*z/(2*n), z*(share*(1 - share)/n + z*z/(4*n*n))**.5
    return (middle - half)/(1 + z*z/n), (middle + half)/(1 + z*z/n)


def row(name: str, kind: str, dark: float, found: pd.DataFrame) -> dict:
    "What many draws found."
    means = found[["found", "near", "told", "changed", "first_ten"]].mean().to_dict()
    measured = dict(set=name, kind=kind, dark=dark, draws=len(found)) | means
    for column in "found", "near":
        low, high = wilson(measured[column], len(found))
        measured |= {f"{column}_low": low, f"{column}_high": high}
    return measured


def main():
    parser = sets_parser(__doc__)
    parser.add_argument("--draws", type=int, default=34)
    parser.add_argument("--calm", type=int, default=100)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--dark", type=float, nargs="+", default=[.6, .3])
    args = parser.parse_args()
    backbone, rows, everything = Remembering(pooled="stages", cache={}), [], {}
    plans = [("none", 0., args.calm), *(("stays", dark, args.draws) for dark in args.dark), ("wanders", args.dark[0], args.draws//2)]
    for pair in args.sets:
        name, _, source = pair.rpartition("=")
        sources = labelled(source).images
        backbone.remember(sources)
        for kind, dark, draws in plans:
            start = perf_counter()
            found = pd.DataFrame([draw(backbone, sources, args.n, kind, dark, 1000*k + 7) for k in range(draws)])
            everything.setdefault((kind, dark), []).append(found)
            rows.append(row(name or source, kind, dark, found))
            print(rows[-1], f"{perf_counter() - start:.0f} s", flush=True)
    rows += [row("all", kind, dark, pd.concat(parts)) for (kind, dark), parts in everything.items()]
    pd.DataFrame(rows).round(3).to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
