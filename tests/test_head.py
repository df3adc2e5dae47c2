"Edge cases of embcam.head: every kind of scikit-learn classifier behind one interface."
import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (AdaBoostClassifier, ExtraTreesClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier,
                              RandomForestClassifier)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, Normalizer, PolynomialFeatures, QuantileTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from embcam.ranking import Head
from embcam.ranking.questions import class_margins, class_scores, pipeline_steps

RNG = np.random.default_rng(0)
E = np.abs(RNG.normal(size=(120, 12))).astype(np.float32)
TWO = (E[:, 0] + E[:, 1] > E[:, 2] + E[:, 3]).astype(int)
THREE = np.array(["low", "middle", "high"])[TWO + (E[:, 0] > 1)]
SELECTED = np.array([5, 0, 3, 1, 2, 11])  # in no order, and not all


def head(estimator, labels=THREE, selected=SELECTED):
    return Head(estimator.fit(E[:, selected], labels), selected, E, labels)


def scaled(*steps): return make_pipeline(StandardScaler(), *steps)


LINEAR = [LogisticRegression(), LogisticRegression(fit_intercept=False), LinearSVC(), RidgeClassifier(), SGDClassifier(random_state=0),
          Perceptron(),
          LinearDiscriminantAnalysis(), make_pipeline(LogisticRegression()), scaled(LogisticRegression()),
          make_pipeline(MinMaxScaler(), LinearSVC()),
          scaled(PCA(4), LogisticRegression()), scaled(PCA(4, whiten=True), RidgeClassifier()),
          make_pipeline(SelectKBest(k=3), LinearDiscriminantAnalysis()),
          Pipeline([("scaler", "passthrough"), ("head", LogisticRegression())]),
          scaled(make_pipeline(MinMaxScaler(), LogisticRegression())),
          GridSearchCV(scaled(LogisticRegression()), {"logisticregression__C": [.1, 1]}), scaled(GridSearchCV(LinearSVC(), {"C": [.1, 1]}))]
NOT_LINEAR = [SVC(), SVC(kernel="linear"), SVC(kernel="poly"), scaled(PolynomialFeatures(2), LogisticRegression(max_iter=500)),
              make_pipeline(Normalizer(), LogisticRegression()), make_pipeline(QuantileTransformer(n_quantiles=20), LogisticRegression()),
              make_pipeline(FunctionTransformer(np.log), LogisticRegression()),
              RandomForestClassifier(5), GradientBoostingClassifier(n_estimators=3), KNeighborsClassifier(), GaussianNB(),
              MLPClassifier(max_iter=20),
              QuadraticDiscriminantAnalysis()]
STEPS = [RandomForestClassifier(20), RandomForestClassifier(300, n_jobs=2), ExtraTreesClassifier(20), DecisionTreeClassifier(),
         GradientBoostingClassifier(n_estimators=5), HistGradientBoostingClassifier(max_iter=5), KNeighborsClassifier(),
         scaled(RandomForestClassifier(10)),
         AdaBoostClassifier(n_estimators=20), BernoulliNB(binarize=.5), scaled(SelectKBest(k=3), DecisionTreeClassifier(max_depth=1))]

SMOOTH = [SGDClassifier(loss="log_loss", penalty="l1", alpha=.02, random_state=0),
          SVC(), SVC(C=1e4, gamma=5), GaussianNB(), MLPClassifier(max_iter=20), GaussianProcessClassifier(),
          KNeighborsClassifier(weights="distance"), scaled(SelectKBest(k=3), LogisticRegression(C=1e6)), scaled(MLPClassifier(max_iter=20)),
          make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
          make_pipeline(QuantileTransformer(n_quantiles=20), LinearSVC())]


def name(estimator): return repr(estimator).replace("\n", "")[:60]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("estimator", LINEAR, ids=name)
def test_linear_heads_give_their_coefficients(estimator, labels):
    h = head(estimator, labels)
    coefficients, intercepts = h.linear
    assert coefficients.shape == (len(h.classes), 6) and coefficients.dtype == np.float64
    new = 5*RNG.normal(size=(20, 12))  # far from the training values, too
    np.testing.assert_allclose(new[:, SELECTED] @ coefficients.T + intercepts, h.margins(new), rtol=1e-4, atol=1e-4)
    if len(h.classes) == 2: np.testing.assert_array_equal(coefficients[0], -coefficients[1])
    assert not h.stepwise and "linear" in repr(h)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", NOT_LINEAR, ids=name)
def test_other_heads_are_not_called_linear(estimator):
    h = head(estimator)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        assert h.linear is None


def test_a_linear_kernel_is_linear_for_two_classes_only():
    h = head(SVC(kernel="linear"), TWO)
    np.testing.assert_allclose(h.values(E) @ h.linear[0].T + h.linear[1], h.margins(E), atol=1e-5)
    assert head(SVC(kernel="rbf"), TWO).linear is None


@pytest.mark.parametrize("estimator", STEPS, ids=name)
def test_step_functions_are_seen(estimator): assert head(estimator).stepwise


def test_a_large_forest_on_many_features_still_moves_in_steps():
    many = np.abs(RNG.normal(size=(300, 400)))
    labels = (many[:, 0] + many[:, 1] > many[:, 2] + many[:, 3]).astype(int)
    assert Head(RandomForestClassifier(200, random_state=0).fit(many, labels), np.arange(400), many).stepwise


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", SMOOTH, ids=name)
def test_smooth_heads_are_not_called_stepwise(estimator): assert not head(estimator).stepwise


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", [LogisticRegression(C=1e12, max_iter=1000), GaussianNB(),
                                       MLPClassifier(max_iter=200, random_state=0), Perceptron()], ids=name)
def test_saturated_heads_are_not_called_stepwise(estimator):
    far = 100*E[:, SELECTED]
    assert not Head(estimator.fit(far, TWO), np.arange(6), far).stepwise


@pytest.mark.parametrize("n", [120, 400])  # beyond 255 values the thresholds of the histogram are training values themselves
@pytest.mark.parametrize("labels", [2, 3])
def test_boosted_histograms_move_in_steps(n, labels):
    many = np.abs(np.random.default_rng(1).normal(size=(n, 60)))
    classes = np.digitize(many[:, 0] + many[:, 1] - many[:, 2], np.linspace(0, 1.5, labels + 1)[1:-1])
    assert Head(HistGradientBoostingClassifier().fit(many, classes), np.arange(60), many).stepwise


def test_most_coefficients_zero_is_not_stepwise():
    many = np.abs(np.random.default_rng(2).normal(size=(300, 60)))
    sparse = SGDClassifier(loss="log_loss", penalty="l1", alpha=.01, random_state=0)
    h = Head(sparse.fit(many, many[:, :20].sum(1) > many[:, 20:40].sum(1)), np.arange(60), many)
    assert (h.linear[0][1] == 0).any() and not h.stepwise


def test_what_is_constant_moves_nowhere():
    h = Head(RandomForestClassifier(5, random_state=0).fit(E[:, SELECTED], TWO), SELECTED, np.tile(E[:1], (9, 1)))
    assert not h.stepwise and not Head(h.estimator, SELECTED, E[:1]).stepwise


def test_a_constant_head_is_linear_and_not_stepwise():
    h = head(SGDClassifier(loss="log_loss", penalty="l1", alpha=1e3, learning_rate="constant", eta0=1e-4, random_state=0), TWO)
    assert not h.linear[0].any() and not h.stepwise


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("labels", [TWO, THREE, TWO.astype(bool)], ids=["two", "three", "bool"])
@pytest.mark.parametrize("estimator", [LINEAR[0], LINEAR[2], LINEAR[8], *NOT_LINEAR], ids=name)
def test_scores_margins_predictions(estimator, labels):
    h = head(estimator, labels)
    scores, margins = h.scores(E), h.margins(E)
    assert scores.shape == margins.shape == (120, len(set(labels.tolist())))
    np.testing.assert_allclose(scores.sum(1), 1)
    assert h.score_kind == ("probability" if hasattr(estimator, "predict_proba") else "squashed margin")
    assert h.predict(E) == estimator.predict(E[:, SELECTED]).tolist() and h.predict(E[0]) == h.predict(E)[:1]
    np.testing.assert_allclose(h.scores(E[3]), h.scores(E)[3:4], rtol=1e-6)
    assert [h.index(c) for c in estimator.classes_] == list(range(len(estimator.classes_)))


@pytest.mark.parametrize("estimator", [SVC(decision_function_shape="ovo"), scaled(SVC(decision_function_shape="ovo")),
                                       GridSearchCV(SVC(decision_function_shape="ovo"), {"C": [1, 2]})], ids=name)
def test_margins_between_pairs_are_refused(estimator):
    h = head(estimator)
    for ask in h.margins, h.scores:
        with pytest.raises(ValueError, match="choose 'ovr'"): ask(E)
    assert h.linear is None and h.predict(E[0])
    assert head(estimator, TWO).margins(E).shape == (120, 2)


def test_scores_are_finite_far_away():
    estimator = LinearSVC().fit(E, THREE)
    for factor in 1e6, -1e6:
        scores = class_scores(estimator, factor*np.ones((1, 12)))
        assert np.isfinite(scores).all() and abs(scores.sum() - 1) < 1e-9


def test_certain_probabilities_have_finite_margins():
    assert np.abs(class_margins(RandomForestClassifier(3, random_state=0).fit(E, TWO), E)).max() < 21


@pytest.mark.parametrize("label", ["lowest", 1, None, np.str_("lowest")])
def test_unknown_classes(label):
    with pytest.raises(ValueError, match="versus=.*is not among the classes"): head(LogisticRegression()).index(label, "versus")


def test_labels_are_plain_python_values():
    h = head(LogisticRegression(), TWO)
    assert type(h.predict(E[0])[0]) is int and type(h.classes[0]) is int and h.index(np.int64(1)) == 1


def test_a_head_is_frozen_and_finds_out_once():
    h = head(LogisticRegression())
    assert h.linear is h.linear and h.training is h.training
    with pytest.raises(AttributeError): h.selected = SELECTED
    assert h.training.dtype == np.float64 and h.training.shape == (120, 6)
    assert h.name == "LogisticRegression" and head(scaled(LinearSVC())).name == "LinearSVC"


class Sampler(StandardScaler):  # as those of imbalanced-learn, which have no transform
    transform = property()
    def fit_resample(self, X, y): return np.concatenate([X, X[:9]]), np.concatenate([y, y[:9]])


class Resampled(Pipeline):  # as imbalanced-learn's pipeline: samplers work in `fit` only
    def _validate_steps(self): pass

    def _iter(self, with_final=True, filter_passthrough=True):
        for i, name, step in super()._iter(with_final, filter_passthrough):
            if not hasattr(step, "fit_resample"): yield i, name, step


def test_samplers_do_nothing_to_a_prediction():
    X, sampler = E[:, SELECTED].astype(float), Sampler()
    scaler = StandardScaler().fit(X)
    estimator = Resampled([("scale", scaler), ("sample", sampler),
                           ("head", LogisticRegression().fit(*sampler.fit_resample(scaler.transform(X), THREE)))])
    found = Head(estimator, SELECTED, E, THREE)
    coefficients, intercepts = found.linear
    np.testing.assert_allclose(X @ coefficients.T + intercepts, found.margins(E), rtol=1e-6)
    assert len(pipeline_steps(make_pipeline(StandardScaler(), estimator))[0]) == 2
