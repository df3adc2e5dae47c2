"Edge cases of comparisons, grids of settings and the grid pointing game: columns, intervals, interruptions, fingerprints, mosaics."
import copy
import os
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from embcam.explanation import Explainer
from embcam.images import make_logos
from embcam.judging import Baseline, compare, grid_pointing, split_by_hash
from embcam.judging.baseline_maps import random_control
from embcam.judging.comparison import bootstrap
from embcam.judging.settings import SettingsGrid
from embcam.judging.comparison import fingerprint
from embcam.judging.cost import MapResult
from embcam.judging.faithfulness import deletion
from embcam.judging.metrics import pixel_auc, pointing_game
from embcam.model import EmbeddingClassifier, logistic_head
from embcam.network import Backbone

SIZE = 64


@pytest.fixture(scope="module")
def halves(): return make_logos(60, seed=0, size=SIZE, progress=False).split(test_size=.4, seed=0)


@pytest.fixture(scope="module")
def test(halves): return halves[1]


@pytest.fixture(scope="module")
def clf(halves):
    forest = RandomForestClassifier(30, class_weight="balanced", random_state=0)
    return EmbeddingClassifier(Backbone(size=SIZE), forest, n_features=12, progress=False).fit(halves[0])


@pytest.fixture(scope="module")
def explain(clf): return Explainer(clf, top=5, samples=200)


@pytest.fixture(scope="module")
def defects(test): return test[np.flatnonzero(test.labels != "good")]


@pytest.fixture(scope="module")
def contest(clf, explain, test):
    few = test[[*np.flatnonzero(test.labels != "good")[:4], int(np.flatnonzero(test.labels == "good")[0])]]
    return compare({"embcam": explain, "edges": Baseline(clf, "edges")}, few, ["pixel_auc", "mass_accuracy"], progress=False)


def without_seconds(comparison): return comparison.frame.drop(columns="seconds")


def test_columns_and_rows(contest, explain, defects):
    assert list(contest.frame.columns) == ["image", "class", "explainer", "target", "top", "method", "layer", "metric", "value", "empty",
                                           "forwards", "backwards", "seconds"]
    first = contest.frame.iloc[0]
    i = defects.names.index(first["image"])
    assert first["value"] == pixel_auc(explain(defects.images[i]).maps["combined"], defects.masks[i])
    assert len(contest.left_out) == 1 and "1 left out (no mask)" in repr(contest)
    own = contest.summary("embcam").loc[("pixel_auc", "embcam")]
    assert (own["difference"], own["from"], own["to"], own["n"]) == (0, 0, 0, 4)


def test_where_and_what_is_not_there(contest):
    kind = contest.frame["class"].iloc[0]
    one = contest.where("class", kind)
    assert set(one.frame["class"]) == {kind}
    frame = contest.frame
    rows = frame[(frame["class"] == kind) & (frame["explainer"] == "edges") & (frame["metric"] == "pixel_auc")]
    assert one.summary().loc[("pixel_auc", "edges"), "mean"] == pytest.approx(rows["value"].mean())
    with pytest.raises(ValueError, match="class 'bad'"): contest.where("class", "bad")
    with pytest.raises(ValueError, match="No colour"): contest.where("colour", "red")
    with pytest.raises(ValueError, match="against='RICE'"): contest.summary("RICE")
    with pytest.raises(ValueError, match="No metric 'road'"): contest.wide("road")


def test_what_cannot_be_compared(clf, explain, test, defects, tmp_path):
    edges = {"a": Baseline(clf, "edges")}
    for explainers, images, options, message in [
            ({}, defects, {}, "is empty"), ({"a": pixel_auc}, defects, {}, "'a' is no explainer"),
            (edges, defects, dict(metrics=["pixel_acu"]), "'pixel_acu'"),
            (edges, test[test.labels == "good"], {}, "has a mask"),
            (edges, defects, dict(metrics="pixel_auc", layers=["combined", "layer9"]), "'layer9'")]:
        with pytest.raises(ValueError, match=message): compare(explainers, images, progress=False, **options)
    (tmp_path/"file").write_text("")
    with pytest.raises(ValueError, match="is a file"): compare(edges, defects, out=tmp_path/"file", progress=False)


def test_own_metrics_and_several_layers(clf, explain, test):
    def brightness_there(relevance, image): return image.mean(2)[relevance == relevance.max()].mean()
    good, layer = int(np.flatnonzero(test.labels == "good")[0]), clf.backbone.target_layers[-1]
    some = test[[good, *np.flatnonzero(test.labels != "good")[:2]]]
    both = compare({"embcam": explain, "mean activation": Baseline(clf, "mean activation")}, some,
                   {"brightness": brightness_there, "deletion": partial(deletion, steps=3), "auc": pixel_auc}, layers=(layer, "combined"),
                   progress=False)
    assert list(both.wide("deletion")) == ["embcam", f"embcam, {layer}", "mean activation", f"mean activation, {layer}"]
    assert (len(both.wide("deletion")), len(both.wide("auc")), both.left_out) == (3, 2, [test.names[good]])


def test_a_map_that_is_empty_counts_as_chance(clf, defects):
    class Nothing:
        classifier = clf

        def __call__(self, image, label=None):
            return MapResult({"combined": np.zeros((SIZE, SIZE))}, "good", dict(forwards=0, backwards=0, seconds=0.))
    found = compare({"nothing": Nothing()}, defects[:2], "pixel_auc", progress=False)
    assert found.frame["value"].tolist() == [.5, .5] and found.frame["empty"].all() and "2 empty maps" in repr(found)


def test_rows_of_a_grid_name_their_settings(clf, explain, defects):
    grid = SettingsGrid(explain, targets=("signed", "TZZ"), tops=(3, None), methods=("gradcam", "layercam"))
    frame = compare({"grid": grid, "edges": Baseline(clf, "edges")}, defects[:2], "pixel_auc", progress=False).frame
    rows = frame[frame["target"].notna()]
    assert len(rows) == 2*8 and set(rows["top"]) == {"3", "K"}
    assert set(rows["method"]) == {"gradcam", "layercam"} and rows["target"].nunique() == 2
    assert frame.loc[frame["explainer"] == "edges", ["target", "top", "method"]].isna().all(axis=None)


def test_bootstrap():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 1))
    assert bootstrap(np.hstack([values, values + 3]) - values) == pytest.approx(np.array([[0, 3],
        [0, 3]]))  # a constant difference, however much images differ
    spread = np.mean([np.diff(bootstrap(rng.normal(size=(100, 1)), s)[:, 0]) for s in range(20)])
    assert spread == pytest.approx(2*1.96/np.sqrt(100), abs=.06)  # what theory says for a mean of a hundred
    assert (bootstrap(values, 3) == bootstrap(values, 3)).all()


def test_halves_depend_on_bytes_only(test):
    a, b = split_by_hash(test)
    assert sorted(a.names + b.names) == sorted(test.names)
    assert split_by_hash(test[::-1])[0].names == a.names[::-1]
    assert split_by_hash(test[5:15])[0].names == [name for name in test.names[5:15] if name in a.names]


class Fragile(Baseline):
    "Counts its calls, and fails at the third."
    calls, limit = [], 3

    def __call__(self, image, label=None):
        self.calls.append(1)
        if len(self.calls) == self.limit: raise KeyboardInterrupt
        return super().__call__(image, label)


def test_interrupted_and_taken_up_again(clf, defects, tmp_path):
    out, few, Fragile.calls = tmp_path/"deep"/"run", defects[:4], []
    def go(**options): return compare({"map": Fragile(clf, "random map")}, few, "pixel_auc", progress=False, **options)
    with pytest.raises(KeyboardInterrupt): go(out=out)
    journal = out/"comparison.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2
    journal.write_text("".join(lines[:2]) + lines[2][:40])  # the second image's line cut in half
    before = len(Fragile.calls)
    resumed = go(out=out)
    assert len(Fragile.calls) - before == 3  # the second, third and fourth image
    pd.testing.assert_frame_equal(without_seconds(resumed), without_seconds(go()))
    pd.testing.assert_frame_equal(go(out=out).frame, resumed.frame)  # read again: to the last bit, seconds too
    with pytest.raises(ValueError, match="seed: 0 then, 1 now"): go(out=out, seed=1)
    with pytest.raises(ValueError, match="maps: made by another model"):
        compare({"map": Baseline(clf, "edges")}, few, "pixel_auc", out=out, progress=False)
    with pytest.raises(ValueError, match="images"):
        compare({"map": Fragile(clf, "random map")}, few[:3], "pixel_auc", out=out, progress=False)
    journal.write_text("notes of mine\n")
    with pytest.raises(ValueError, match="no comparison"): go(out=out)
    assert journal.read_text() == "notes of mine\n" and os.listdir(out) == ["comparison.jsonl"]


def test_stopped_while_the_first_line_was_written(clf, defects, tmp_path):
    def go(out): return compare({"edges": Baseline(clf, "edges")}, defects[:2], "pixel_auc", out=out, progress=False)
    go(tmp_path)
    journal = tmp_path/"comparison.jsonl"
    whole = journal.read_bytes()
    for cut in 0, 20, whole.index(b"\n"):
        journal.write_bytes(whole[:cut])
        assert len(go(tmp_path).frame) == 2
        assert len(journal.read_bytes().splitlines()) == 3


def harder(relevance, mask, metric=pixel_auc): return metric(relevance, mask)/2


def test_a_metric_is_known_by_its_name_not_by_its_place_in_memory(clf, defects, tmp_path):
    def go(metric): return compare({"map": Baseline(clf, "random map")}, defects[:1], {"half": metric}, out=tmp_path, progress=False)
    go(partial(harder, metric=partial(pointing_game, tolerance=3)))
    assert " at 0x" not in (tmp_path/"comparison.jsonl").read_text()
    with pytest.raises(ValueError, match="metrics"): go(harder)


def test_a_table_and_a_page(contest, tmp_path):
    out = contest.save(tmp_path/"deep"/"er", against="edges", title="Ours <b> & theirs")
    assert sorted(os.listdir(out)) == ["comparison.png", "index.html", "scores.csv", "summary.csv"]
    assert pd.read_csv(out/"scores.csv")["value"].to_numpy() == pytest.approx(contest.frame["value"].to_numpy(), abs=1e-12)
    page = (out/"index.html").read_text(encoding="utf-8")
    assert "Ours &lt;b&gt; &amp; theirs" in page and "edges" in page and "<script src" not in page and 'src="http' not in page


def test_fingerprints(clf, explain, tmp_path):
    assert fingerprint(Explainer(copy.deepcopy(clf), top=5, samples=200)) == fingerprint(explain)
    clf.save(tmp_path/"model")
    assert fingerprint(Explainer(EmbeddingClassifier.load(tmp_path/"model"), top=5, samples=200)) == fingerprint(explain)
    others = [explain, explain.replace(top=3), explain.replace(random_state=1), explain.replace(target="TZZ"),
              explain.replace(method="gradcam"),
              random_control(explain), random_control(explain, "selected"), Baseline(clf, "edges"), Baseline(clf, "edges", sigma=3),
              Baseline(clf, "edges", 1)]
    assert len({fingerprint(other) for other in others}) == len(others)
    with pytest.raises(ValueError, match="lambda"): fingerprint(Explainer(clf, ranking=lambda *args, **options: 0))


def spot(classifier, image, label, rng, at=None):
    "A map that is positive in one quarter only."
    relevance, (h, w) = np.zeros(image.shape[:2]), (np.array(image.shape[:2])//2)
    relevance[at[0]*h:(at[0] + 1)*h, at[1]*w:(at[1] + 1)*w] = 1
    return relevance


@pytest.fixture(scope="module")
def linear(halves):
    return EmbeddingClassifier(Backbone(size=SIZE), logistic_head(), "all", progress=False).fit(halves[0])


@pytest.fixture(scope="module")
def known(halves): return halves[0]  # what the head was fitted on, so that every class has images it predicts rightly


def test_grid_pointing_scores_the_cell_of_the_class(linear, known):
    "A map of the top left quarter is right for the class that lies there, and wrong for all others."
    frames = [grid_pointing(Baseline(linear, spot, at=divmod(q, 2)), known, n=3, progress=False) for q in range(4)]
    assert list(frames[0].columns) == ["mosaic", "label", "layer", "maximum", "auc", "share"]
    shares = np.array([frame["share"] for frame in frames])
    several = len(frames[0])//3
    assert shares.T == pytest.approx(np.tile(np.eye(4)[:several], (3, 1)))
    assert all(frames[0][frames[0]["mosaic"] == m]["label"].is_unique for m in range(3))


@pytest.mark.parametrize("value", [1., 0., -1.])
def test_grid_pointing_of_a_map_that_says_nothing(linear, known, value):
    "An empty map is chance, one over the images shown; one that is the same everywhere has its quarter of the mosaic, grey cells too."
    def flat(classifier, image, label, rng): return np.full(image.shape[:2], value)
    shown = len(linear.classes_)
    expected = [1/4 if value > 0 else 1/shown]*(2*shown)
    assert grid_pointing(Baseline(linear, flat), known, n=2, progress=False)["share"].tolist() == pytest.approx(expected, abs=1e-6)


def test_grid_pointing_shows_twice_the_size_to_the_same_network(linear, known):
    seen = []

    def look(classifier, image, label, rng):
        seen.append((image.shape, classifier.backbone.size, classifier.backbone.network is linear.backbone.network))
        return np.ones(image.shape[:2])
    grid_pointing(Baseline(linear, look), known, n=1, progress=False)
    assert set(seen) == {((2*SIZE, 2*SIZE, 3), 2*SIZE, True)} and linear.backbone.size == SIZE


def test_grid_pointing_is_seeded_and_takes_layers(linear, known):
    e, layers = Explainer(linear), ("combined", linear.backbone.target_layers[-1])
    one, same, other = (grid_pointing(e, known, n=2, seed=seed, layers=layers, progress=False) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, same)
    assert not one["share"].equals(other["share"]) and one["share"].between(0, 1).all() and set(one["layer"]) == set(layers)


def test_grid_pointing_needs_two_classes(linear, known):
    with pytest.raises(ValueError, match="two or more"):
        grid_pointing(Explainer(linear), known[known.labels == "good"], n=1, progress=False)
