"""Seconds against stability: all ways of ranking one forecast, in one run; and whether the default's maps stay as good.

python benchmarks/ranking_speed.py FOLDER|logos --out CSV [--backbone efficientnet_lite0] [--weights FILE] [--images 8] [--seeds 5]
    [--heads forest svm ...]
python benchmarks/ranking_speed.py FOLDER --maps [--backbone ...] [--weights FILE] [--defects 60]
python benchmarks/ranking_speed.py FOLDER|logos --trust [--backbone ...] [--weights FILE] [--images 8]

The paper's forest (300 trees, K = sqrt(N)) and other heads are fitted on three quarters of the images, and held-out ones are ranked with
several
seeds. A way is stable if two seeds share their top 13 (Jaccard overlap); it is right if it shares them with LIME's limit: known exactly
for forests,
the mean of four times 16,384 quasi-random draws for other heads. Seconds are those of one ranking on one thread; "first" is what the
first image of a
head and seed costs more, because what all images share is made then. --maps draws the default explanation of held-out defects, ranked by
lime and by
its surrogate: the
better layer is chosen on one half of them (by SHA-256) and reported on the other, with paired intervals over images. --trust times one
explanation
with its trust: as it was (LIME, twenty controls with both of their sides), with LIME, and as it is.
"""
import sys
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from common import defective, images_and_backbone, parser_of
from embcam import EmbeddingClassifier, Explainer
from embcam.explanation.builders import Case
from embcam.explanation.reliability import CONTROLS, REPEATS, correlations, likeness, stability_top
from embcam.judging import MASK_METRICS, split_by_hash
from embcam.judging.comparison import bootstrap
from embcam.judging.cost import run_explainer
from embcam.maps import activation_maps
from embcam.model import paper_forest
from embcam.ranking import Head, ranking_stability
from embcam.ranking.rankings import jaccard, rank_lime, rank_permutation, rank_shap
from embcam.ranking.surrogate import bins_of, _draw_bins, _fit, has_limit, rank_surrogate, scores_within

HEADS = dict(forest=paper_forest, svm=lambda: make_pipeline(StandardScaler(), SVC()), boosting=HistGradientBoostingClassifier,
             neighbours=lambda: make_pipeline(StandardScaler(), KNeighborsClassifier(15)),
             network=lambda: make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=300, random_state=0)))
METRICS = ("pixel_auc", "pointing_game_15", "mass_accuracy", "average_precision")


def rank_drawn(embedding, head, label, seed=0, samples=1024, place="random"):
    "LIME's fit on draws of this image alone: independent ones, or antithetic pairs."
    x, rng, k = head.values(embedding)[0], np.random.default_rng(seed), len(head.selected)
    u = rng.random((samples, k)) if place == "random" else np.concatenate([half := rng.random((samples//2, k)), 1 - half])
    bins, values = _draw_bins(bins_of(head), np.clip(u, 1e-9, 1 - 1e-9))
    same = (bins == bins_of(head).find(x)).astype(float)
    return _fit(same, scores_within(head, x)(values)[:, label], k - same.sum(1))


def unknown(head):
    "The same head behind a function that does nothing, so that its trees are not seen: forests sampled like others."
    return Head(make_pipeline("passthrough", head.estimator), head.selected, head.background, head.labels)


def ways(head) -> dict:
    "{(way, draws): ranking function}"
    found = {("lime", n): partial(rank_lime, samples=n) for n in (500, 1000, 5000, 20000)}
    found |= {("independent draws", n): partial(rank_drawn, samples=n) for n in (512, 1024, 4096)}
    found |= {("antithetic draws", n): partial(rank_drawn, samples=n, place="antithetic") for n in (512, 1024, 4096)}
    hidden = unknown(head)
    found |= {("quasi-random, shared", n): lambda e, h, label, seed,
              n=n: rank_surrogate(e, hidden, label, seed, n) for n in (256, 512, 1024, 4096, 16384)}
    if has_limit(head): found |= {("limit, exact", 0): rank_surrogate, ("TreeSHAP", 0): rank_shap}
    return found | {("permutation", 100): rank_permutation}


def limit_of(head, embedding, label) -> np.ndarray:
    "What LIME tends to."
    if has_limit(head): return rank_surrogate(embedding, head, label)
    return np.mean([rank_surrogate(embedding, head, label, seed, 2**14) for seed in range(100, 104)], 0)


def measure(rank, head, embeddings, labels, seeds) -> tuple:
    "Seconds of the first image and of the others, and the rankings, images by seeds."
    times, found = [], []
    for seed in range(seeds):
        for i, (e, label) in enumerate(zip(embeddings, labels)):
            start = perf_counter()
            found.append(rank(e, head, label, seed))
            times.append((i == 0 and seed == 0, i == 0, perf_counter() - start))
    return times, np.reshape(found, (seeds, len(embeddings), -1)).swapaxes(0, 1)


def curve(name, head, embeddings, seeds) -> list[dict]:
    "A row for each way."
    labels, rows = [head.index(c) for c in head.predict(embeddings)], []
    truth = [limit_of(head, e, label) for e, label in zip(embeddings, labels)]
    def top(weights): return np.argsort(-np.abs(weights), kind="stable")[:13]
    for (way, n), rank in ways(head).items():
        if way == "limit, exact": head = Head(head.estimator, head.selected, head.background, head.labels)  # nothing known yet
        times, found = measure(rank, head, embeddings, labels, seeds)
        usual = np.median([t for _, first, t in times if not first])
        overlaps = [np.mean([jaccard(top(a), top(b)) for i, a in enumerate(image) for b in image[:i]]) for image in found]
        right = [np.mean([jaccard(top(w), top(t)) for w in image]) for image, t in zip(found, truth)]
        rows.append(dict(head=name, way=way, draws=n, seconds=usual, first=max(0, times[0][2] - usual), overlap=np.mean(overlaps),
                         with_limit=np.mean(right),
                         images=len(found), seeds=seeds))
        print("{head:10} {way:22} {draws:6} {seconds:8.4f} s, first {first:+8.4f} s, overlap {overlap:.2f}, with the limit "
              "{with_limit:.2f}".format(**rows[-1]), flush=True)
    return rows


def compare_maps(classifier, defects) -> None:
    "Mask metrics of the default explanation, ranked by lime and by its surrogate."
    chosen, rows = set(split_by_hash(defects)[0].names), []
    for sample in defects:
        for ranking in "lime", "surrogate":
            for layer, m in run_explainer(Explainer(classifier, ranking=ranking), sample.image).maps.items():
                half = "choose" if sample.name in chosen else "report"
                rows += [(half, sample.name, ranking, layer, metric, MASK_METRICS[metric](m, sample.mask)) for metric in METRICS]
    frame = pd.DataFrame(rows, columns=["half", "image", "ranking", "layer", "metric", "value"])
    first = frame[(frame["half"] == "choose") & (frame["metric"] == "pixel_auc")]
    best = first.groupby(["ranking", "layer"])["value"].mean().unstack().idxmax(axis=1)
    for layers, words in ((best, "best layer of each"), (dict(lime="combined", surrogate="combined"), "combined")):
        for metric in METRICS:
            part = frame[(frame["half"] == "report") & (frame["metric"] == metric)]
            chosen = {r: part[(part["ranking"] == r) & (part["layer"] == layers[r])] for r in ("lime", "surrogate")}
            wide = pd.DataFrame({r: rows.set_index("image")["value"] for r, rows in chosen.items()})
            less = wide["surrogate"] - wide["lime"]
            low, high = bootstrap(less.to_numpy()[:, None])[:, 0]
            print(f"{words} ({layers['lime']}, {layers['surrogate']}), {metric}: lime {wide['lime'].mean():.3f}, surrogate "
                  f"{wide['surrogate'].mean():.3f}, "
                  f"difference {less.mean():+.3f} ({low:+.3f} to {high:+.3f}), {len(wide)} images")


def as_it_was(explainer, image):
    "Five seeds of LIME, and twenty controls with both of their sides at once."
    ex, c = explainer(image), explainer.classifier
    rankings = [ex.ranking, *(explainer.rank(ex.embedding, ex.label, ex.versus, seed) for seed in range(1, REPEATS))]
    case = Case(ex.embedding, ex.ranking, len(ex.top), c.head_)
    controls = explainer.builder.randomised(case, CONTROLS, explainer.random_state)
    maps = activation_maps(c.trace(ex.image), controls, explainer.method)
    return ranking_stability(rankings, stability_top(len(ex.top), ex.ranking)), likeness(correlations(ex.maps, maps))


def time_trust(classifier, images) -> None:
    "Seconds of one explanation, trust included: the ways take turns."
    lime, now = Explainer(classifier, ranking="lime"), Explainer(classifier)
    ways = {"as it was": partial(as_it_was, lime), "lime": lambda image: lime(image).trust, "surrogate": lambda image: now(image).trust,
            "no trust": now}
    for ask in ways.values(): ask(images[0])  # what is made once
    seconds, alike = {name: [] for name in ways}, []
    for image in images:
        for name, ask in ways.items():
            start = perf_counter()
            found = ask(image)
            seconds[name].append(perf_counter() - start)
            if name == "as it was": before = found[1]["combined"]
            if name == "lime": alike.append(abs(found.likeness["combined"] - before))
    print(", ".join(f"{name} {np.median(values):.2f} s" for name, values in seconds.items()), f"(medians of {len(images)})")
    print("ratio to as it was: " + ", ".join(f"{name} {np.median(np.divide(seconds['as it was'], values)):.1f}" for name,
                                             values in seconds.items()))
    print(f"likeness (combined) moves by {np.mean(alike):.3f} on average, {max(alike):.3f} at most, because fewer controls are drawn")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--out", help="CSV that the curve is appended to, head by head")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--cache")
    parser.add_argument("--heads", nargs="+", default=[*HEADS], choices=[*HEADS])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--maps", action="store_true")
    parser.add_argument("--trust", action="store_true")
    parser.add_argument("--defects", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, backbone = images_and_backbone(args)
    train, test = images.split(test_size=.25, seed=0)
    forest = EmbeddingClassifier(backbone).fit(train)
    if args.maps:
        defects = defective(test)
        return compare_maps(forest, defects[np.random.default_rng(0).permutation(len(defects))[:args.defects]])
    some = test[np.random.default_rng(0).permutation(len(test))[:args.images]]
    if args.trust: return time_trust(forest, some.images)
    E = forest.embed(some)
    for name in args.heads:
        classifier = forest if name == "forest" else EmbeddingClassifier(backbone, HEADS[name]()).fit(forest.background_, forest.labels_)
        rows = pd.DataFrame(curve(name, classifier.head_, E, args.seeds)).round(5)
        if args.out: rows.to_csv(args.out, mode="a", header=not Path(args.out).exists(), index=False)


if __name__ == "__main__": sys.exit(main())
