"Names, forecasts and tables that people bring."
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import IsolationForest, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, RandomizedSearchCV, TunedThresholdClassifierCV, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, PolynomialFeatures, StandardScaler
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.images import ImageSet, make_logos
from embcam.images.sets import check_labels
from embcam.judging import grid_pointing, shuffled_labels
from embcam.network.fast import fast_network

rng = np.random.default_rng(0)
IMAGES = [np.uint8(np.clip(rng.normal(90 + 60*(i % 2), 30, (48, 48, 3)), 0, 255)) for i in range(24)]


@pytest.fixture(scope="module")
def backbone(): return Backbone(size=64)


@pytest.fixture(scope="module")
def E(backbone): return backbone.embed(IMAGES, progress=False)


NAMES = [["0", "1"], ["nan", "True"], ["=1+1", "<b>bold</b>"], ["a,b", "déjà vu 名"], ["$5 and $6", "$x_"], [" spaced ", "spaced"],
         ["a/b", "_hidden"], ["None", "{}"],
         [0, 1], [-3, 7], [True, False], [.5, 1.5], [2**40, 1]]


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_any_name(backbone, E, names):
    labels = [names[i % 2] for i in range(24)]
    for estimator in RandomForestClassifier(20, class_weight="balanced"), LinearSVC():
        clf = EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(E, labels)
        assert clf.classes_.tolist() == sorted(names) and clf.estimator_.classes_.tolist() == [0, 1]
        assert (clf.predict(E) == np.array(labels)).mean() > .9


@pytest.mark.parametrize("names", [["0", "1"], ["=1+1", "<b>bold</b>"], ["$5 and $6", "déjà vu 名"], [-3, 7], [True, False], [.5, 1.5]],
                         ids=str)
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
    (["a", None], "Label None of image 1"), (["a", float("nan")], "Label nan of image 1"), ([1., np.nan], "Label nan of image 1"),
    ([pd.NA, "a"], "Label <NA> of image 0"),
    (["a", 1], "Labels mix kinds: 'a' is text, 1 of image 1.* is number"), ([True, 1], "Labels mix kinds"), ([np.inf, 1], "names no class"),
    (pd.Series(["a", None]), "names no class"), ([b"a", b"b"], "names no class"),
    (np.eye(2), "one class for each image, not an array of shape"), ("ab", "not an array of shape"),
    ([pd.Timestamp("2026-01-01")]*2, "names no class")], ids=str)
def test_labels_are_checked_once(backbone, labels, message):
    with pytest.raises(ValueError, match=message): check_labels(labels)
    with pytest.raises(ValueError, match=message): ImageSet(IMAGES[:2], labels)
    with pytest.raises(ValueError, match=message): EmbeddingClassifier(backbone, progress=False).fit(IMAGES[:2], labels)


@pytest.mark.parametrize("labels", [pd.Series(["a", "b"]), pd.Categorical(["a", "b"]), np.array(["a", "b"], object), torch.tensor([0, 1]),
                                    ("a", "b"),
                                    pd.Series(["a", "b"], dtype="string")], ids=repr)
def test_labels_of_many_containers(labels): assert len(set(check_labels(labels).tolist())) == 2


@pytest.mark.parametrize("estimator", [IsolationForest(), OneClassSVM(), LocalOutlierFactor(), LinearRegression(), KMeans(),
                                       StandardScaler(),
                                       make_pipeline(StandardScaler(), LinearRegression()),
                                       GridSearchCV(LinearRegression(), {"fit_intercept": [True]}), SVC(decision_function_shape="ovo")],
                                       ids=str)
def test_what_is_no_classifier_is_refused_before_the_first_image(backbone, estimator):
    with pytest.raises(ValueError, match=r"choose (a classifier|'ovr')"):
        EmbeddingClassifier(backbone, estimator, progress=False).fit(["no such file.png"]*4, [0, 1, 0, 1])


def test_fitted_elsewhere(backbone, E):
    labels = np.array(["good", "bad"]*12)
    encoder = LabelEncoder().fit(labels)
    estimator = RandomForestClassifier(20, random_state=0).fit(E, encoder.transform(labels))
    clf = EmbeddingClassifier.from_fitted(backbone, estimator, background=E, labels=labels, classes=encoder.classes_)
    assert clf.predict(E).tolist() == encoder.inverse_transform(estimator.predict(E)).tolist()
    with pytest.raises(ValueError, match="labels name 'bad', but the estimator's classes are"):
        EmbeddingClassifier.from_fitted(backbone, estimator, background=E, labels=labels)
    for classes in ["good"], ["good", "good"], ["good", "bad", "ugly"]:
        with pytest.raises(ValueError, match="must name the estimator's 2 classes"):
            EmbeddingClassifier.from_fitted(backbone, estimator, background=E, labels=labels, classes=classes)
    with pytest.raises(ValueError, match="outlier detector"):
        EmbeddingClassifier.from_fitted(backbone, IsolationForest().fit(E), background=E, labels=labels)
    part = EmbeddingClassifier.from_fitted(backbone, estimator, background=E[:1], labels=labels[:1],
                                           classes=encoder.classes_)  # not every class is in the background
    assert part.classes_.tolist() == ["bad", "good"]


LABELS = ["good", "defect"]*12
HEADS = {"forest": None, "threshold": FixedThresholdClassifier(LogisticRegression(max_iter=500), threshold=.999, pos_label="good"),
         "squashed": LinearSVC(),
         "ridge": RidgeClassifier(),
         "hard votes": VotingClassifier([("a", LogisticRegression(max_iter=500)), ("b", SVC()), ("c", KNeighborsClassifier())]),
         "hinge": SGDClassifier(random_state=0),
         "tuned": TunedThresholdClassifierCV(LogisticRegression(max_iter=500), cv=3),
         "weights": LogisticRegression(class_weight={"good": 1, "defect": 9}, max_iter=500)}


@pytest.mark.parametrize("name", HEADS)
def test_one_forecast_everywhere(backbone, E, name, tmp_path):
    clf = EmbeddingClassifier(backbone, HEADS[name], 8, progress=False).fit(E, LABELS)
    found, scores = clf.predictions(E), clf.scores(E)
    assert [f.label for f in found] == clf.predict(E).tolist() == clf.head_.predict(E)
    for f, row in zip(found, scores):
        k = clf.classes_.tolist().index(f.label)
        assert f.score == row[k] and f.margin == pytest.approx(row[k] - np.delete(row, k).max())
    against = [i for i, f in enumerate(found) if f.margin < 0]
    assert bool(against) == (name == "threshold")
    i = against[0] if against else 0
    ex = Explainer(clf, samples=200)(IMAGES[i])
    assert ex.prediction == found[i].label
    assert ex.predicted.margin == pytest.approx(ex.trust.margin) == pytest.approx(found[i].margin, abs=1e-5)
    assert ex.summary.startswith(f"{found[i].label} ({found[i].score:.0%}")
    assert any("against its scores" in note for note in ex.notes()) == bool(against)
    assert clf.head_.score_kind == {"squashed": "squashed margin", "ridge": "squashed margin", "hinge": "squashed margin",
                                    "hard votes": "vote"}.get(name, "probability")
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    assert loaded.predictions(E) == found


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
    tables = [pd.DataFrame(E), torch.from_numpy(E), torch.from_numpy(E).requires_grad_(), E.tolist(), list(E), tuple(E),
              E.astype(np.float64),
              pd.DataFrame(E, columns=[f"f{i}" for i in range(E.shape[1])])]
    for table in tables: assert (clf.scores(table) == clf.scores(E)).all()
    assert (EmbeddingClassifier(backbone, LogisticRegression(max_iter=500), 8, progress=False).fit(tables[0],
        LABELS).scores(E) == clf.scores(E)).all()
    for table in whole.astype(np.int64), whole.astype(np.int32), pd.DataFrame(whole.astype(int)):
        assert (clf.predict(table) == clf.predict(whole)).all()
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


LOGISTIC = LogisticRegression(max_iter=500)
SEMI = [SelfTrainingClassifier(LOGISTIC), make_pipeline(StandardScaler(), LabelPropagation()), LabelSpreading(),
        GridSearchCV(SelfTrainingClassifier(LOGISTIC), {"threshold": [.6, .8]}, cv=2)]
HALF = LABELS[:10] + ["-1"]*14


@pytest.mark.parametrize("estimator", SEMI, ids=str)
def test_minus_one_is_unlabelled(backbone, E, estimator, tmp_path):
    numbers = [{"good": 1, "defect": 0, "-1": -1}[label] for label in HALF]
    for labels, classes in (HALF, ["defect", "good"]), ([-1 if label == "-1" else label for label in HALF], ["defect", "good"]), (numbers,
        [0, 1]), (np.float64(numbers), [0, 1]):
        clf = EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(E, labels)
        assert clf.classes_.tolist() == classes and set(clf.predict(E).tolist()) <= set(classes)
        assert len(clf.labels_) == len(clf.background_) == 10
    clf = EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(ImageSet(IMAGES, HALF))
    assert len(clf.names_) == 10 and Explainer(clf, samples=100)(IMAGES[20]).prediction in ("good", "defect")
    assert EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone).predict(E).tolist() == clf.predict(E).tolist()


def test_minus_one_where_nothing_learns_from_it(backbone):
    for estimator in None, LOGISTIC, CalibratedClassifierCV(SelfTrainingClassifier(LOGISTIC), cv=2):
        with pytest.raises(ValueError, match="14 of 24 images have the label -1.*learns from labelled images only"):
            EmbeddingClassifier(backbone, estimator, progress=False).fit(["no such file.png"]*24, HALF)
    with pytest.raises(ValueError, match="All 4 images have the label -1"):
        EmbeddingClassifier(backbone, SEMI[0], progress=False).fit(["no such file.png"]*4, [-1]*4)


@pytest.mark.parametrize("labels", [[-1, 1], [-1., 0.], ["-1", "1"]], ids=str)
def test_minus_one_may_be_a_class(backbone, E, labels):
    assert EmbeddingClassifier(backbone, LOGISTIC, 8, progress=False).fit(E, labels*12).classes_.tolist() == labels


SEARCHES = {"weights": GridSearchCV(LOGISTIC, {"class_weight": [None, {"defect": 50, "good": 1}]}, cv=2),
            "distributions": RandomizedSearchCV(make_pipeline(StandardScaler(), LOGISTIC),
                                                {"logisticregression__class_weight": [{"defect": 5}, "balanced"]}, n_iter=2, cv=2),
            "estimators": GridSearchCV(make_pipeline(StandardScaler(), LOGISTIC),
                                       [{"logisticregression": [LogisticRegression(class_weight={"good": 3}), GaussianNB()]}], cv=2),
            "scorer": GridSearchCV(LOGISTIC, {"C": [.1, 1]}, scoring=make_scorer(f1_score, pos_label="defect"), cv=2),
            "nested": GridSearchCV(VotingClassifier([("a", GridSearchCV(LOGISTIC, {"class_weight": [{"defect": 2}]}, cv=2))]),
                                   {"a__estimator__C": [1, 2]}, cv=2)}


@pytest.mark.parametrize("name", SEARCHES)
def test_classes_named_within_searches(backbone, E, name):
    before = repr(SEARCHES[name].get_params())
    clf = EmbeddingClassifier(backbone, SEARCHES[name], 8, progress=False).fit(E, LABELS)
    assert np.isfinite(clf.estimator_.cv_results_["mean_test_score"]).all() and set(clf.predict(E)) <= {"good", "defect"}
    assert repr(SEARCHES[name].get_params()) == before, "the user's own is as before"
    again = EmbeddingClassifier(backbone, clf.estimator_, 8, progress=False).fit(E, LABELS)  # learned numbers before
    assert again.predict(E).tolist() == clf.predict(E).tolist()


def test_a_search_that_names_no_class_is_refused_before_the_first_image(backbone):
    for search in GridSearchCV(LOGISTIC, {"class_weight": [{"bad": 2}]}), GridSearchCV(LOGISTIC, {"C": [1]},
        scoring={"f": make_scorer(f1_score, pos_label="bad")}, refit="f"):
        with pytest.raises(ValueError, match="names the class 'bad', which is not among"):
            EmbeddingClassifier(backbone, search, progress=False).fit(["no.png"]*24, LABELS)


def test_shares_by_class_name(backbone, E):
    by_name = EmbeddingClassifier(backbone, GaussianNB(priors={"good": .2, "defect": .8}), 8, progress=False).fit(E, LABELS)
    assert (by_name.scores(E) == EmbeddingClassifier(backbone, GaussianNB(priors=[.8, .2]), 8, progress=False).fit(E,
        LABELS).scores(E)).all()
    with pytest.raises(ValueError, match="priors names no share of the class 'good'"):
        EmbeddingClassifier(backbone, GaussianNB(priors={"defect": 1.})).fit(E, LABELS)


class Sampler(StandardScaler):  # as imbalanced-learn's
    transform = property()
    def fit_resample(self, X, y): return X, y


def test_a_sampler_in_a_pipeline_of_scikit_learn(backbone):
    for steps in [Sampler(), LOGISTIC], [make_pipeline(Sampler(), LOGISTIC)]:
        with pytest.raises(ValueError, match="Sampler changes the number of images.*imblearn.pipeline"):
            EmbeddingClassifier(backbone, make_pipeline(StandardScaler(), *steps), progress=False).fit(["no such file.png"]*24, LABELS)


def test_more_components_than_features(backbone, E):
    for step in PCA(50), TruncatedSVD(50):
        with pytest.raises(ValueError,
                           match=r"\(n_components=50\) asks for 50 components, and n_features='sqrt' of 24 images leaves 4 features"):
            EmbeddingClassifier(backbone, make_pipeline(StandardScaler(), step, LOGISTIC), progress=False).fit(["no such file.png"]*24,
                LABELS)
    with pytest.raises(ValueError, match="n_components=50 .*n_features='sqrt' of 24 images has left 4 of 1280 features"):
        EmbeddingClassifier(backbone, VotingClassifier([("a", make_pipeline(PCA(50), LOGISTIC))]), progress=False).fit(E, LABELS)
    EmbeddingClassifier(backbone, make_pipeline(PolynomialFeatures(), PCA(10), LOGISTIC), progress=False).fit(E,
        LABELS)  # 4 features have become 15


def test_metadata_routing(backbone, E):
    weights = np.where(np.array(LABELS) == "good", 1., 0.)
    with config_context(enable_metadata_routing=True):
        for estimator in LOGISTIC, make_pipeline(StandardScaler(), LOGISTIC), GridSearchCV(LOGISTIC, {"C": [1, 2]},
            cv=2):  # nobody asked: the last step takes it
            assert (EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(E, LABELS,
                sample_weight=weights).predict(E) == "good").all()
        clf = EmbeddingClassifier(backbone, LOGISTIC, 8,
                                  progress=False).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        assert cross_validate(clf, E, LABELS, params={"sample_weight": weights}, cv=3)["test_score"].tolist() == [.5]*3


def test_training_images_are_known_again(backbone, tmp_path):
    "In other files and folders, under other names, after saving; not what only has the same name."
    train, others = ImageSet(IMAGES[:12], ["a", "b"]*6), ImageSet(IMAGES[12:], ["a", "b"]*6)
    assert train.names == others.names
    clf = EmbeddingClassifier(backbone, LogisticRegression(), 8, progress=False).fit(train)
    assert clf.knows(train).all() and not clf.knows(others).any()
    Image.fromarray(IMAGES[3]).save(tmp_path/"a.bmp")
    Image.fromarray(IMAGES[3]).save(tmp_path/"a.jpg", quality=60)
    (tmp_path/"broken.png").write_bytes(b"no image")
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    for known in clf, loaded:
        assert known.knows([tmp_path/"a.bmp", tmp_path/"a.jpg", tmp_path/"broken.png"]).tolist() == [True, False, False]
    assert loaded.knows([]).shape == (0,)


def test_without_hashes_names_decide(backbone, tmp_path):
    "A model folder of embcam 0.2 has none; unlabelled images are none of the training images."
    images = ImageSet(IMAGES[:12], ["a", "b"]*6)
    clf = EmbeddingClassifier(backbone, LogisticRegression(), 8, progress=False).fit(images[:6])
    clf.hashes_ = None
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    assert loaded.hashes_ is None and loaded.knows(images).tolist() == [True]*6 + [False]*6
    assert loaded.knows([f"any/where/{name}" for name in images.names[4:8]]).tolist() == [True, True, False, False]
    some = np.where(np.arange(12) < 8, images.labels, "-1")
    semi = EmbeddingClassifier(backbone, SelfTrainingClassifier(LogisticRegression()), 8, progress=False).fit(images, some)
    assert semi.knows(images).tolist() == [True]*8 + [False]*4


@pytest.mark.parametrize("make", [lambda backbone, images: EmbeddingClassifier(backbone, progress=False).fit(images),
                                  lambda backbone, images: EmbeddingClassifier.choose(backbone, images, heads="ridge", progress=False)])
def test_fit_runs_the_network_once_for_each_image(make):
    "Also for the 64 of them that say what is usual."
    images = make_logos(70, size=64, progress=False)
    backbone, seen = Backbone(size=64), []
    handle = fast_network(backbone.network, 64)[0].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try: classifier = make(backbone, images)
    finally: handle.remove()
    assert sum(seen) == len(images) and classifier.usual_
    np.testing.assert_allclose(classifier.background_, backbone.uncached().embed(images, progress=False), rtol=1e-4, atol=1e-5)
