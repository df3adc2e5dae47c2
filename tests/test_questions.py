"Every estimator of scikit-learn that can say something about a new image is explained completely, or refused in one sentence."
import warnings
from itertools import product
from math import factorial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_regressor
from sklearn.cluster import DBSCAN, KMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVR
from sklearn.utils import all_estimators

from embcam.maps import cell_shapley
from embcam.model import EmbeddingClassifier, EmbeddingModel
from embcam.ranking import Head, rank_features
from embcam.ranking.questions import NoQuestion, check_asked
from embcam.ranking.surrogate import scores_within

RNG = np.random.default_rng(0)
N, D, CELLS = 90, 8, (2, 5)
E = np.abs(RNG.normal(size=(N, D)) + 2)  # not negative, as many embeddings are
NUMBER = E[:, 0] + E[:, 1]*E[:, 2]
CLASSES = (NUMBER > np.median(NUMBER)).astype(int)
SEVERAL = np.column_stack([CLASSES, E[:, 3] > 2]).astype(int)
PARTS = RNG.normal(size=(*CELLS, D))/8
IMAGE = E.mean(0) + PARTS.sum((0, 1))

NEEDS = {  # what cannot be made without an estimator, or answers only with another setting
    "estimator": lambda name: Ridge() if "Regressor" in name or "Target" in name or "RANSAC" in name else LogisticRegression(),
    "estimators": lambda name: [("one", Ridge())] if "Regressor" in name else [("one", LogisticRegression())]}
SETTINGS = {"LocalOutlierFactor": dict(novelty=True), "KernelPCA": dict(fit_inverse_transform=True), "Birch": dict(n_clusters=3),
            "DictionaryLearning": dict(max_iter=5), "MiniBatchDictionaryLearning": dict(max_iter=5), "NMF": dict(n_components=3, tol=1e-10,
            max_iter=3000), "GaussianRandomProjection": dict(n_components=4), "SparseRandomProjection": dict(n_components=4),
            "RadiusNeighborsClassifier": dict(radius=10), "RadiusNeighborsRegressor": dict(radius=10),
            "SelfTrainingClassifier": dict(estimator=LogisticRegression())}
SEVERAL_LABELS = {"MultiOutputClassifier", "ClassifierChain", "MultiOutputRegressor", "RegressorChain", "MultiTaskLasso",
                  "MultiTaskElasticNet", "MultiTaskLassoCV", "MultiTaskElasticNetCV", "CCA", "PLSCanonical", "PLSSVD"}
UNFIT = {  # read text, pictures, kernels, one feature, class labels or lists of settings, not embeddings
    "ColumnTransformer", "DictVectorizer", "FeatureUnion", "GridSearchCV",
    "HalvingGridSearchCV", "HalvingRandomSearchCV", "IsotonicRegression", "LabelBinarizer", "LabelEncoder",
    "MultiLabelBinarizer", "Pipeline", "RandomizedSearchCV", "SparseCoder", "TfidfVectorizer",
    "CountVectorizer", "KernelCenterer", "FrozenEstimator"}


def made(name, kind):
    "An instance with few settings changed, or None where it cannot be made."
    options = dict(SETTINGS.get(name, {}))
    try: return kind(**options)
    except TypeError:
        for need, choose in NEEDS.items():
            try: return kind(**{need: choose(name)}, **options)
            except TypeError: continue
    return None


def fitted(name, kind):
    "Fitted on numbers, classes or several labels, whatever it takes; None where it does not learn from embeddings."
    if name in SEVERAL_LABELS: targets = [SEVERAL.astype(float) if "Classifier" not in name and name != "ClassifierChain" else SEVERAL]
    else: targets = [NUMBER, CLASSES] if "Regress" in name or "SVR" in name else [CLASSES, NUMBER]
    for y in targets:
        estimator = made(name, kind)
        if estimator is None: return None
        if "random_state" in estimator.get_params(): estimator.set_params(random_state=0)
        try: return estimator.fit(E, y)
        except (ValueError, TypeError, AttributeError, NotImplementedError): continue
    return None


def completeness(head):
    "The kind, and how far the cells are from adding up to the answer less that of the origin, over the span of the answers."
    question = head.question(None, embedding=IMAGE)
    head, origin = question.head, E.mean(0)
    span = np.ptp(question.of(head.margins(np.vstack([E, IMAGE, origin])))) + 1e-300
    if head.is_exact(IMAGE):
        values = PARTS.reshape(-1, D) @ question.of(head.slopes(IMAGE).T)
        gained = np.diff(question.of(head.margins(np.stack([origin, IMAGE]))))[0]
        return question.kind, abs(values.sum() - gained)/span
    within = scores_within(head, IMAGE)
    values, error = cell_shapley(PARTS, origin, lambda X: question.of(within(X)), pairs=3)
    assert error.shape == CELLS and np.isfinite(error).all()
    gained = np.diff(question.of(within(np.stack([origin, IMAGE]))))[0]
    return "sampled", abs(values.sum() - gained)/(np.ptp(question(E)) + 1e-300)


@pytest.mark.parametrize("name, kind", all_estimators(), ids=[name for name, _ in all_estimators()])
def test_every_estimator_is_explained_or_refused(name, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = fitted(name, kind)
        if estimator is None:
            assert name in UNFIT, f"{name} could not be fitted"
            return
        assert name not in UNFIT
        head = Head(estimator, np.arange(D), E)
        try: assert head.task
        except NoQuestion as refusal:
            assert str(refusal).count(". ") == 0 and str(refusal).endswith("."), refusal
            return
        how, error = completeness(head)
        assert error < (1e-9 if how in ("affine", "quadratic") else 1e-5), (how, error)
        assert np.isfinite(rank_features(IMAGE, head, head.predict(IMAGE)[0]).weights).all()


def enumerated(score):
    "Shapley values of the ten cells from all 1,024 subsets."
    players = PARTS.reshape(-1, D)
    n = len(players)
    member = np.array(list(product([0, 1], repeat=n)), float)
    answers = score(E.mean(0) + member @ players)
    weight = np.array([factorial(s)*factorial(n - s - 1)/factorial(n) for s in range(n)])
    sizes = member.sum(1).astype(int)
    codes = (member @ 2**np.arange(n - 1, -1, -1)).astype(int)
    def gain(i):
        without = member[:, i] == 0
        return (weight[sizes[without]]*(answers[codes[without] + 2**(n - 1 - i)] - answers[without])).sum()
    return np.array([gain(i) for i in range(n)])


QUADRATIC = {
    "Ridge": make_pipeline(StandardScaler(), Ridge()), "products": make_pipeline(PolynomialFeatures(2), Ridge()),
    "LedoitWolf": make_pipeline(StandardScaler(), LedoitWolf()), "GaussianMixture": GaussianMixture(1, reg_covar=1e-3),
    "PCA": PCA(3), "KMeans": KMeans(3, random_state=0), "NearestNeighbors": NearestNeighbors()}


@pytest.mark.parametrize("name", QUADRATIC)
def test_exact_kinds_equal_enumeration(name):
    head = Head(QUADRATIC[name].fit(E, NUMBER), np.arange(D), E)
    question = head.question(None, embedding=IMAGE)
    assert question.kind in ("affine", "quadratic")
    values = PARTS.reshape(-1, D) @ question.of(question.head.slopes(IMAGE).T)
    expected = enumerated(lambda X: question.of(question.head.margins(X)))
    np.testing.assert_allclose(values, expected, atol=1e-9*np.abs(expected).max())


def test_one_cluster_rather_than_another_is_affine():
    head = Head(KMeans(3, random_state=0).fit(E), np.arange(D), E)
    question = head.question("cluster 0", "cluster 2")
    expected = enumerated(lambda X: question.of(head.margins(X)))
    np.testing.assert_allclose(PARTS.reshape(-1, D) @ question.of(head.slopes(IMAGE).T), expected, atol=1e-9)
    assert repr(head.question("cluster 0 rather than cluster 2")) == repr(question)


def test_a_mixture_that_only_looks_quadratic_is_sampled():
    mixed = np.vstack([E, E + 6])
    head = Head(BayesianGaussianMixture(n_components=2, random_state=0).fit(mixed), np.arange(D), mixed)
    far = mixed.mean(0) + 3
    assert not head.is_exact(far) and rank_features(far, head).name == "surrogate"


def test_answers_of_several_outputs_are_asked_for_once():
    asked = []
    class Counted(Ridge):
        def predict(self, X):
            asked.append(len(X))
            return super().predict(X)
    head = Head(Counted().fit(E, np.column_stack([NUMBER, CLASSES, E[:, 3]])), np.arange(D), E, names=["a", "b", "c"])
    head.slopes(IMAGE)
    before = len(asked)
    for name in "abc": assert rank_features(IMAGE, head, name).name == "exact"
    assert len(asked) - before <= 3  # one for each default prediction, none for slopes


def test_path_of_a_smooth_answer_adds_up():
    head = Head(make_pipeline(StandardScaler(), SVR(C=10)).fit(E, NUMBER), np.arange(D), E)
    slopes = head.slopes(IMAGE)[0]
    assert head.question("value").kind == "smooth"
    assert abs(slopes @ (IMAGE - E.mean(0)) - np.diff(head.margins(np.stack([E.mean(0), IMAGE]))[:, 0])[0]) < 1e-9


@pytest.mark.parametrize("estimator", [DBSCAN(), make_pipeline(StandardScaler(), DBSCAN())])
def test_what_says_nothing_is_refused_before_it_is_fitted(estimator):
    with pytest.raises(NoQuestion, match="DBSCAN says nothing about a new image"): check_asked(estimator)


class Table:
    "Stands in for a network: what it is given are embeddings already."
    n_features, arch = D, "table"


def test_a_model_is_an_estimator():
    model = EmbeddingModel(Table(), make_pipeline(StandardScaler(), Ridge()), progress=False)
    search = GridSearchCV(model, {"n_features": [3, "all"], "estimator__ridge__alpha": [.1, 1]}, cv=3).fit(E, NUMBER)
    assert search.best_estimator_.score(E, NUMBER) > .8
    assert clone(model).get_params(deep=False).keys() == model.get_params(deep=False).keys()
    assert is_regressor(model) and not hasattr(model, "score_samples") and hasattr(EmbeddingModel(Table(), PCA(2)), "score_samples")


@pytest.mark.parametrize("estimator, y, message", [
    (Ridge(), [np.nan, *NUMBER[1:]], "y is nan for image 0"), (Ridge(), ["much", *NUMBER[1:]], "holds 'much' for image 0"),
    (Ridge(), np.ones(N), "All 90 images have the value 1"), (Ridge(), NUMBER[:5], "90 images need as many numbers, not 5"),
    (DBSCAN(), None, "DBSCAN says nothing about a new image"), (Ridge(), None, "fit needs the numbers of each image"),
    (LogisticRegression(), np.full((N, 2), .5), "All 90 images have the value 0.5 of output 0")])
def test_wrong_numbers_are_one_sentence(estimator, y, message):
    with pytest.raises(ValueError, match=message): EmbeddingModel(Table(), estimator, progress=False).fit(E, y)


def test_several_labels_and_their_names():
    y = pd.DataFrame(SEVERAL, columns=["bright", "round"])
    model = EmbeddingModel(Table(), MultiOutputClassifier(LogisticRegression()), progress=False).fit(E, y)
    assert model.head_.classes == ["bright", "round"] and model.head_.task == "labels"
    assert rank_features(IMAGE, model.head_, "round").label == "round"


def test_features_without_labels_cannot_be_selected():
    with pytest.raises(ValueError, match="no feature can be preferred"): EmbeddingModel(Table(), KMeans(2), n_features=3).fit(E)


def test_a_classifier_stays_one():
    with pytest.raises(ValueError, match="Ridge is a regressor"): EmbeddingClassifier(Table(), Ridge()).fit(E, NUMBER)
    kinds = EmbeddingClassifier, EmbeddingModel
    one, other = (kind(Table(), LogisticRegression(), "all", progress=False).fit(E, CLASSES) for kind in kinds)
    np.testing.assert_array_equal(one.predict_proba(E), other.predict_proba(E))
    assert one.threshold() is None
