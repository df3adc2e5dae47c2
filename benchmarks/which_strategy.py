"""Which strategy, how many features, which CAM method, which layer: and is any of it better than no explanation?

python benchmarks/which_strategy.py FOLDER --out DIR [--backbone squeezenet1_0] [--weights FILE] [--seeds 1] [--named 16] [--checked 12]
python benchmarks/which_strategy.py logos --out DIR

FOLDER holds images/<class>/* and masks/<class>/*. For each seed a classifier is trained on three quarters of the images, with K = sqrt(N),
2 sqrt(N) and all features, and the held-out defects are explained by every setting of the grid. Settings are chosen on one half of these
(fixed by the images' SHA-256) and reported on the other. An interrupted run goes on where it stopped; --part runs one part of it, so that
two can run beside each other. DIR gets table.csv, effects.csv, verdict.csv, named.csv, checks.csv and which_strategy.png.
"""
import sys
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from common import arguments, defective, images_and_backbone
from embcam import TOZ, TRR, TZZ, EmbeddingClassifier, Explainer
from embcam.judging import MASK_METRICS, Baseline, baselines, compare, input_stability, randomization_test, split_by_hash
from embcam.judging.comparison import bootstrap
from embcam.judging.settings import SettingsGrid
from embcam.judging.baseline_maps import COSTLY
from embcam.judging.faithfulness import deletion, insertion, road, sensitivity_n
from embcam.model import auc_roc

FAITHFUL = {f"{way.__name__}_{fill}": partial(way, fill=fill) for way in (deletion, insertion) for fill in ("mean", "blur")}
FAITHFUL |= {"road_most": partial(road, first="most"), "road_least": partial(road, first="least"),
             "sensitivity_n": partial(sensitivity_n, samples=50)}
SETTING = ["K", "target", "top", "method", "layer"]
PAPER = dict(K="sqrt(N)", top="13", method="gradcam")


def scene(images, backbone, seed) -> tuple:
    "Classifiers on three selections, and the held-out defects."
    train, test = images.split(test_size=.25, seed=seed)
    first = EmbeddingClassifier(backbone, random_state=seed).fit(train)
    k = len(first.selected_)
    heads = {"sqrt(N)": first} | {name: clone(first).set_params(n_features=n).fit(first.background_, first.labels_) for name,
                                  n in (("2 sqrt(N)", 2*k), ("all", "all"))}
    for name, head in heads.items():
        print(f"seed {seed}, K = {name} = {len(head.selected_)}: AUC ROC "
              f"{auc_roc(test.labels, head.predict_proba(test), head.classes_):.4f}", flush=True)
    return heads, defective(test)


def run_grid(args, heads, defects, seed) -> pd.DataFrame:
    "Mask metrics of every setting, and of the baselines that cost next to nothing."
    by_lime = {name: SettingsGrid(Explainer(head, ranking="lime", random_state=seed)) for name, head in heads.items()}
    grids = compare(by_lime, defects, layers=None, out=Path(args.out)/f"grid{seed}", seed=seed)
    default = Explainer(heads["sqrt(N)"], random_state=seed)
    plain = {name: row for name, row in baselines(default, seed).items() if name not in COSTLY}
    frame = pd.concat([grids.frame, compare(plain, defects, layers=None, out=Path(args.out)/f"plain{seed}", seed=seed).frame])
    chosen = set(split_by_hash(defects)[0].names)
    return frame.assign(half=["choose" if name in chosen else "report" for name in frame["image"]])


def named(classifier, seed) -> dict:
    "Thirteen rows that are looked at in every way."
    rows = {"embcam's default": Explainer(classifier, random_state=seed)}
    rows |= {f"paper, {strategy}": Explainer.paper(classifier, strategy, seed) for strategy in (TZZ, TOZ, TRR)}
    rows["default, all K features"] = rows["embcam's default"].replace(top=len(classifier.selected_))
    known = baselines(rows["embcam's default"], seed)
    return rows | {name: known[name] for name in ("random features", "random selected features", "mean activation", "centre prior",
                                                  *COSTLY)}


def run_named(args, heads, defects, seed) -> pd.DataFrame:
    "Mask and faithfulness metrics of the named rows, on images of the half to report on."
    some = shuffled(split_by_hash(defects)[1], seed, args.named//args.seeds)
    frame = compare(named(heads["sqrt(N)"], seed), some, MASK_METRICS | FAITHFUL, out=Path(args.out)/f"named{seed}", seed=seed).frame
    truth = {name: partial(of_mask, metric=metric) for name, metric in FAITHFUL.items()}
    return pd.concat([frame, compare({"the true mask": Baseline(heads["sqrt(N)"], "random map")}, some, truth,
                                     out=Path(args.out)/f"truth{seed}", seed=seed).frame])


def of_mask(relevance, mask, image, classifier, label, seed, metric=insertion):
    "What a faithfulness metric says of the true mask, softened so that its surroundings come next."
    return metric(gaussian_filter(1.*mask, 3), image=image, classifier=classifier, label=label, seed=seed)


def run_checks(args, heads, defects, seed) -> pd.DataFrame:
    "Sanity and stability of the explainers among the named rows."
    some, frames = shuffled(split_by_hash(defects)[1], seed, args.checked), []
    for name, explainer in [*named(heads["sqrt(N)"], seed).items()][:4]:
        for check in randomization_test, input_stability:
            file = Path(args.out)/"checks"/f"{name}-{check.__name__}.csv".replace(" ", "-")
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                check(explainer, some).assign(explainer=name).to_csv(file, index=False)
            frames.append(pd.read_csv(file))
    return pd.concat(frames)


def shuffled(images, seed, n): return images[np.random.default_rng(seed).permutation(len(images))[:n]]


def interval(values, sign="") -> str:
    "Mean and 95 % interval in words; with sign='+' for differences."
    low, high = bootstrap(np.asarray(values)[:, None])[:, 0]
    return f"{np.mean(values):{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def by_setting(frame) -> pd.DataFrame:
    "The grid's part of a frame, with its settings as columns; an image that several seeds hold out counts once."
    frame = frame[frame["target"].notna()]
    frame = frame.assign(K=[name.split(",")[0] for name in frame["explainer"]])  # the name of the grid
    return frame.groupby([*SETTING, "metric", "half", "class", "image"], sort=False)["value"].mean().reset_index()


def report_grid(frame, out) -> None:
    "The best setting of each target, chosen on one half and reported on the other, beside the paper's, the default and the baselines."
    grid = by_setting(frame)
    auc = grid[grid["metric"] == "pixel_auc"]
    best = auc[auc["half"] == "choose"].groupby(SETTING)["value"].mean()
    rows = {f"{target}, best": best.xs(target, level="target", drop_level=False).idxmax() for target in ("signed", "TZZ", "TOZ", "TRR")}
    rows |= {f"{target}, as in the paper": best.xs((PAPER["K"], target, PAPER["top"], PAPER["method"]), level=SETTING[:4],
                                                   drop_level=False).idxmax() for target in ("TZZ", "TOZ", "TRR")}  # noqa: E501
    rows["embcam's default"] = ("sqrt(N)", "signed", "13", "focus", "combined")
    wide = {name: grid[(grid["half"] == "report") & (grid[SETTING] == list(setting)).all(axis=1)].pivot(index="image", columns="metric",
        values="value") for name, setting in rows.items()}  # noqa: E501
    reported = frame[frame["half"] == "report"]
    for name in frame.loc[frame["target"].isna(), "explainer"].unique():
        own = reported[(reported["explainer"] == name) & (reported["layer"] == "combined")]
        wide[name], rows[name] = own.pivot_table(index="image", columns="metric", values="value"), ("", "", "", "", "combined")
    default = wide["embcam's default"]
    table = pd.DataFrame([dict(zip(SETTING, rows[name]), pixel_auc=interval(w["pixel_auc"]),
                               less_paper=interval(w["pixel_auc"] - wide["TZZ, as in the paper"]["pixel_auc"], "+"),
                               **{f"default_less_{metric}": interval(default[metric] - w[metric], "+") for metric in ("pixel_auc",
                                   "mass_accuracy")},
                               **w.drop(columns="pixel_auc").mean().round(3)) for name, w in wide.items()], index=[*wide])
    table = table.iloc[np.argsort([-w["pixel_auc"].mean() for w in wide.values()])]
    table.to_csv(out/"table.csv")
    print(f"\nchosen on {auc[auc['half'] == 'choose']['image'].nunique()} images, reported on "
          f"{auc[auc['half'] == 'report']['image'].nunique()} others; "
          f"{len(best)} settings\n{table.to_string()}")
    usual = dict(K="sqrt(N)", top="13", method="layercam", layer="combined")
    effects = pd.concat([effect(auc, factor, usual) for factor in ("layer", "top", "method", "K")])
    effects.to_csv(out/"effects.csv", index=False)
    draw(effects, out/"which_strategy.png")


def effect(auc, factor, usual) -> pd.DataFrame:
    "Pixel AUC on the half to report on as one setting varies; the method is Grad-CAM for the paper's targets, LayerCAM for signed ones."
    rows, values = [], list(dict.fromkeys(auc[factor]))
    for target in ("signed", "TZZ", "TOZ", "TRR"):
        setting = usual | (dict(method="gradcam") if target != "signed" else {}) | dict(target=target)
        for value in values:
            same = (auc[[*setting]] == pd.Series(setting | {factor: value})).all(axis=1)
            part = auc[(auc["half"] == "report") & same]["value"].to_numpy()
            rows.append(dict(factor=factor, value=value, target=target, mean=part.mean(),
                             **dict(zip(("low", "high"), bootstrap(part[:, None])[:, 0])), n=len(part)))
    return pd.DataFrame(rows)


def draw(effects, path) -> None:
    "One panel for each setting that varies."
    colours = dict(signed="#c1543a", TZZ="#3a6fb0", TOZ="#4f9a5b", TRR="#8d6ab8")
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True, layout="constrained", width_ratios=[5, 6, 6, 3])
    for ax, (factor, part) in zip(axes, effects.groupby("factor", sort=False)):
        values = list(dict.fromkeys(part["value"]))
        for shift, (target, line) in zip((-.18, -.06, .06, .18), part.groupby("target", sort=False)):
            ax.errorbar(np.arange(len(values)) + shift, line["mean"], [line["mean"] - line["low"], line["high"] - line["mean"]], fmt="o",
                        ms=4, lw=1.2, color=colours[target], label=target)  # noqa: E501
        ax.set_xticks(range(len(values)), [v.removeprefix("features.") for v in values], rotation=40 if factor == "method" else 0,
                      fontsize=8)
        ax.set_xlabel({"top": "top-ranked features", "method": "CAM method", "K": "selected features K"}.get(factor, factor))
        ax.axhline(.5, color="0.6", lw=.8, ls=":")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("pixel AUC, 95 % interval")
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report_verdict(frame, out) -> None:
    "The paper's verdict, that TZZ is best, by class and layer: its setting, all held-out images."
    grid = by_setting(frame)
    fixed = grid[(grid["metric"] == "pixel_auc") & (grid[[*PAPER]] == pd.Series(PAPER)).all(axis=1)]
    rows = []
    for layer in dict.fromkeys(fixed["layer"]):
        for kind in (*dict.fromkeys(fixed["class"]), "all"):
            part = fixed[(fixed["layer"] == layer) & ((fixed["class"] == kind) | (kind == "all"))].pivot(index="image", columns="target",
                values="value")
            for other in ("TOZ", "TRR", "signed"):
                less = part["TZZ"] - part[other]
                low, high = bootstrap(less.to_numpy()[:, None])[:, 0]
                verdict = "TZZ better" if low > 0 else "TZZ worse" if high < 0 else "open"
                rows.append(dict(layer=layer, **{"class": kind}, n=len(part), TZZ=part["TZZ"].mean(), other=other, difference=less.mean(),
                                 low=low, high=high, verdict=verdict))
    table = pd.DataFrame(rows)
    table.to_csv(out/"verdict.csv", index=False)
    print(f"\nTZZ less the other, Grad-CAM, top 13, K = sqrt(N)\n{table.round(3).to_string(index=False)}")
    print(table[table["class"] != "all"].groupby(["other", "verdict"]).size().to_string())


def report_named(frame, out) -> None:
    "Means of the named rows, their cost, and the default's paired difference to each."
    counted = {name: part.groupby(["image", "metric"])["value"].mean().unstack() for name, part in frame.groupby("explainer", sort=False)}
    cost = frame.groupby("explainer", sort=False).agg(forwards=("forwards", "mean"), backwards=("backwards", "mean"),
                                                      seconds=("seconds", "median"))
    means = pd.DataFrame({name: wide.mean() for name, wide in counted.items()}).T
    default = counted["embcam's default"]
    table = means.join(cost).assign(**{f"default_less_{metric}": [interval(default[metric] - wide[metric],
        "+") if metric in wide else "" for wide in counted.values()]
                                       for metric in ("pixel_auc", "insertion_mean", "insertion_blur", "deletion_mean")})
    table.to_csv(out/"named.csv")
    print(f"\n{len(default)} images of the half to report on\n{table.round(3).T.to_string()}")


def report_checks(frame, out) -> None:
    "Rank correlation and SSIM with the true map."
    table = frame.groupby(["explainer", "check"], sort=False)[["spearman", "ssim", "change"]].mean()
    table.to_csv(out/"checks.csv")
    print(f"\n{frame['image'].nunique()} "
          f"images\n{table['spearman'].unstack('explainer').round(2).to_string()}\n{table['ssim'].unstack('explainer').round(2).to_string()}")


def main():
    parser = arguments(__doc__, seeds=1)
    parser.add_argument("--named", type=int, default=16, help="images for faithfulness: two minutes each")
    parser.add_argument("--checked", type=int, default=12, help="images for sanity and stability")
    parser.add_argument("--part", choices=["grid", "named", "checks"], nargs="+", default=["grid", "named", "checks"])
    args = parser.parse_args()
    out, (images, backbone) = Path(args.out), images_and_backbone(args)
    scenes = [(*scene(images, backbone, seed), seed) for seed in range(args.seeds)]
    if "named" in args.part: report_named(pd.concat([run_named(args, *one) for one in scenes]), out)
    if "checks" in args.part: report_checks(run_checks(args, *scenes[0]), out)
    if "grid" in args.part:
        frame = pd.concat([run_grid(args, *one) for one in scenes])
        report_grid(frame, out)
        report_verdict(frame, out)


if __name__ == "__main__": sys.exit(main())
