"Names, forecasts and tables that people bring."
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.data import ImageSet, check_labels
from embcam.evaluate import grid_pointing
from embcam.sanity import shuffled_labels

rng = np.random.default_rng(0)
IMAGES = [np.uint8(np.clip(rng.normal(90 + 60*(i % 2), 30, (48, 48, 3)), 0, 255)) for i in range(24)]


@pytest.fixture(scope="module")
def backbone(): return Backbone(size=64)


@pytest.fixture(scope="module")
def E(backbone): return backbone.embed(IMAGES, progress=False)


NAMES = [["0", "1"], ["nan", "True"], ["=1+1", "<b>bold</b>"], ["a,b", "déjà vu 名"], ["$5 and $6", "$x_"], [" spaced ", "spaced"], ["a/b", "_hidden"], ["None", "{}"],
         [0, 1], [-3, 7], [True, False], [.5, 1.5], [2**40, 1]]


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_any_name(backbone, E, names):
    labels = [names[i % 2] for i in range(24)]
    for estimator in RandomForestClassifier(20, class_weight="balanced"), LinearSVC():
        clf = EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(E, labels)
        assert clf.classes_.tolist() == sorted(names) and clf.estimator_.classes_.tolist() == [0, 1]
        assert (clf.predict(E) == np.array(labels)).mean() > .9


@pytest.mark.parametrize("names", [["0", "1"], ["=1+1", "<b>bold</b>"], ["$5 and $6", "déjà vu 名"], [-3, 7], [True, False], [.5, 1.5]], ids=str)
def test_any_name_in_explanations_and_files(backbone, E, names, tmp_path):
    clf = EmbeddingClassifier(backbone, LogisticRegression(max_iter=500), 8, progress=False).fit(E, [names[i % 2] for i in range(24)])
    ex = Explainer(clf)(IMAGES[0], label=names[1], versus=names[0])
    assert (ex.label, ex.versus, set(ex.probabilities)) == (names[1], names[0], set(names))
    assert "<b>bold" not in (ex.save(tmp_path)/"index.html").read_text(encoding="utf-8")
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    assert loaded.predict(E).tolist() == clf.predict(E).tolist() and type(loaded.classes_.tolist()[0]) is type(names[0])


def test_a_thousand_classes_are_shown_in_part(tmp_path):
    images = ImageSet(IMAGES*50, [f"class {i//2}" for i in range(1200)])
    assert "and 588 classes more" in repr(images) and len(images._repr_jpeg_()) > 1000


def test_figures_write_names_as_they_are(backbone, E):
    images = ImageSet(IMAGES, [["$5 and $6", r"$\frac"][i % 2] for i in range(24)])
    clf = EmbeddingClassifier(backbone, LogisticRegression(max_iter=500), 8, progress=False).fit(E, images.labels)
    for figure in images.show(n=2), Explainer(clf)(IMAGES[0]).show(): figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("labels, message", [
    (["a", None], "Label None of image 1"), (["a", float("nan")], "Label nan of image 1"), ([1., np.nan], "Label nan of image 1"), ([pd.NA, "a"], "Label <NA> of image 0"),
    (["a", 1], "Labels mix kinds: 'a' is text, 1 of image 1.* is number"), ([True, 1], "Labels mix kinds"), ([np.inf, 1], "names no class"),
    (pd.Series(["a", None]), "names no class"), ([b"a", b"b"], "names no class"), (np.eye(2), "one class for each image, not an array of shape"), ("ab", "not an array of shape"),
    ([pd.Timestamp("2026-01-01")]*2, "names no class")], ids=str)
def test_labels_are_checked_once(backbone, labels, message):
    with pytest.raises(ValueError, match=message): check_labels(labels)
    with pytest.raises(ValueError, match=message): ImageSet(IMAGES[:2], labels)
    with pytest.raises(ValueError, match=message): EmbeddingClassifier(backbone, progress=False).fit(IMAGES[:2], labels)


@pytest.mark.parametrize("labels", [pd.Series(["a", "b"]), pd.Categorical(["a", "b"]), np.array(["a", "b"], object), torch.tensor([0, 1]), ("a", "b"),
                                    pd.Series(["a", "b"], dtype="string")], ids=repr)
def test_labels_of_many_containers(labels): assert len(set(check_labels(labels).tolist())) == 2


@pytest.mark.parametrize("estimator", [IsolationForest(), OneClassSVM(), LocalOutlierFactor(), LinearRegression(), KMeans(), StandardScaler(),
                                       make_pipeline(StandardScaler(), LinearRegression()),
                                       GridSearchCV(LinearRegression(), {"fit_intercept": [True]}), SVC(decision_function_shape="ovo")], ids=str)
def test_what_is_no_classifier_is_refused_before_the_first_image(backbone, estimator):
    with pytest.raises(ValueError, match=r"choose (a classifier|'ovr')"): EmbeddingClassifier(backbone, estimator, progress=False).fit(["no such file.png"]*4, [0, 1, 0, 1])


def test_fitted_elsewhere(backbone, E):
    labels = np.array(["good", "bad"]*12)
    encoder = LabelEncoder().fit(labels)
    estimator = RandomForestClassifier(20, random_state=0).fit(E, encoder.transform(labels))
    clf = EmbeddingClassifier.from_fitted(backbone, estimator, background=E, labels=labels, classes=encoder.classes_)
    assert clf.predict(E).tolist() == encoder.inverse_transform(estimator.predict(E)).tolist()
    with pytest.raises(ValueError, match="labels name 'bad', but the estimator's classes are"): EmbeddingClassifier.from_fitted(backbone, estimator, background=E, labels=labels)
    for classes in ["good"], ["good", "good"], ["good", "bad", "ugly"]:
        with pytest.raises(ValueError, match="must name the estimator's 2 classes"):
            EmbeddingClassifier.from_fitted(backbone, estimator, background=E, labels=labels, classes=classes)
    with pytest.raises(ValueError, match="outlier detector"): EmbeddingClassifier.from_fitted(backbone, IsolationForest().fit(E), background=E, labels=labels)
    part = EmbeddingClassifier.from_fitted(backbone, estimator, background=E[:1], labels=labels[:1], classes=encoder.classes_)  # not every class is in the background
    assert part.classes_.tolist() == ["bad", "good"]


LABELS = ["good", "defect"]*12
HEADS = {"forest": None, "threshold": FixedThresholdClassifier(LogisticRegression(max_iter=500), threshold=.999, pos_label="good"), "squashed": LinearSVC(),
         "ridge": RidgeClassifier(),
         "hard votes": VotingClassifier([("a", LogisticRegression(max_iter=500)), ("b", SVC()), ("c", KNeighborsClassifier())]), "hinge": SGDClassifier(random_state=0),
         "tuned": TunedThresholdClassifierCV(LogisticRegression(max_iter=500), cv=3), "weights": LogisticRegression(class_weight={"good": 1, "defect": 9}, max_iter=500)}


@pytest.mark.parametrize("name", HEADS)
def test_one_forecast_everywhere(backbone, E, name, tmp_path):
    clf = EmbeddingClassifier(backbone, HEADS[name], 8, progress=False).fit(E, LABELS)
    found, scores = clf.forecasts(E), clf.scores(E)
    assert [f.label for f in found] == clf.predict(E).tolist() == clf.head_.predict(E)
    for f, row in zip(found, scores):
        k = clf.classes_.tolist().index(f.label)
        assert f.score == row[k] and f.margin == pytest.approx(row[k] - np.delete(row, k).max())
    against = [i for i, f in enumerate(found) if f.margin < 0]
    assert bool(against) == (name == "threshold")
    i = against[0] if against else 0
    ex = Explainer(clf, samples=200)(IMAGES[i])
    assert ex.prediction == found[i].label and ex.forecast.margin == pytest.approx(ex.trust.margin) == pytest.approx(found[i].margin, abs=1e-5)
    assert ex.summary.startswith(f"{found[i].label} ({found[i].score:.0%}")
    assert any("against its scores" in note for note in ex.notes()) == bool(against)
    assert clf.head_.score_kind == {"squashed": "squashed margin", "ridge": "squashed margin", "hinge": "squashed margin", "hard votes": "vote"}.get(name, "probability")
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    assert loaded.forecasts(E) == found


@pytest.mark.parametrize("name", ["forest", "hard votes", "weights"])
def test_what_is_fitted_again_learns_the_same_names(backbone, E, name, tmp_path):
    clf = EmbeddingClassifier(backbone, HEADS[name], 8, progress=False).fit(E, LABELS)
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    again = EmbeddingClassifier(backbone, loaded.estimator, 8, progress=False).fit(E, LABELS)
    assert again.predict(E).tolist() == clf.predict(E).tolist()
    assert set(shuffled_labels(Explainer(clf)).classifier.predict(E)) <= {"good", "defect"}
    assert set(grid_pointing(Explainer(clf, samples=100), ImageSet(IMAGES, LABELS), n=1, progress=False)["label"]) == {"good", "defect"}


def test_tables(backbone, E):
    clf = EmbeddingClassifier(backbone, LogisticRegression(max_iter=500), 8, progress=False).fit(E, LABELS)
    whole = np.round(E*100)
    tables = [pd.DataFrame(E), torch.from_numpy(E), torch.from_numpy(E).requires_grad_(), E.tolist(), list(E), tuple(E), E.astype(np.float64),
              pd.DataFrame(E, columns=[f"f{i}" for i in range(E.shape[1])])]
    for table in tables: assert (clf.scores(table) == clf.scores(E)).all()
    assert (EmbeddingClassifier(backbone, LogisticRegression(max_iter=500), 8, progress=False).fit(tables[0], LABELS).scores(E) == clf.scores(E)).all()
    for table in whole.astype(np.int64), whole.astype(np.int32), pd.DataFrame(whole.astype(int)): assert (clf.predict(table) == clf.predict(whole)).all()
    with pytest.raises(ValueError, match="Embeddings have 7 values"): clf.predict(E[:, :7])
    with pytest.raises(ValueError, match="Row 3 of the embeddings holds NaN"): clf.predict(np.where(np.arange(24)[:, None] == 3, np.nan, E))
    with pytest.raises(ValueError, match="must be numbers"): clf.predict(pd.DataFrame(E).astype(str).map(lambda text: "x"))
    gray = Image.fromarray(IMAGES[0][..., 0])
    assert clf.predict([gray, IMAGES[0]]).shape == (2,) and clf.predict(IMAGES[0][..., 0]).shape == (1,)  # images stay images


def test_fit_parameters_reach_the_head(backbone, E):
    weights = np.where(np.array(LABELS) == "good", 1., 0.)
    for estimator in LogisticRegression(max_iter=500), make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)):
        clf = EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(E, LABELS, sample_weight=weights)
        assert (clf.predict(E) == "good").all()
    named = EmbeddingClassifier(backbone, make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), 8, progress=False)
    assert (named.fit(E, LABELS, logisticregression__sample_weight=weights).predict(E) == "good").all()
    with pytest.raises(TypeError): EmbeddingClassifier(backbone, LogisticRegression(), 8, progress=False).fit(E, LABELS, no_such_option=1)
    with pytest.raises(ValueError, match="class_weight names the class 'bad'"):
        EmbeddingClassifier(backbone, LogisticRegression(class_weight={"good": 1, "bad": 2}), progress=False).fit(E, LABELS)
