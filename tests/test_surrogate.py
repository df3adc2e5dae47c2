"Edge cases of embcam.surrogate: forests as boxes, the limit of LIME, shared draws."
import numpy as np
import pytest
from lime.lime_tabular import LimeTabularExplainer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (AdaBoostClassifier, BaggingClassifier, ExtraTreesClassifier, GradientBoostingClassifier,
                              HistGradientBoostingClassifier,
                              RandomForestClassifier)
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from embcam.ranking import Head
from embcam.ranking.questions import class_scores
from embcam.ranking.surrogate import bins_of, boxes_of, _forest_boxes, _quartile_bins, has_limit, rank_surrogate, slopes_surrogate

RNG = np.random.default_rng(0)
E = np.maximum(RNG.normal(.3, 1, size=(200, 10)), 0).astype(np.float32)  # as after a ReLU: a third are exactly zero
E[:, 4] = np.where(E[:, 4] > 1.5, E[:, 4], 0)  # mostly zero: quartiles coincide
E[:, 9] = 2  # constant
TWO = (E[:, 0] + E[:, 1] > E[:, 2] + E[:, 3]).astype(int)
THREE = np.array(["low", "middle", "high"])[TWO + (E[:, 0] > 1)]
ALL = np.arange(10)


def head(estimator, labels=THREE, selected=ALL): return Head(estimator.fit(E[:, selected], labels), selected, E, labels)


FORESTS = [RandomForestClassifier(20, random_state=0), RandomForestClassifier(20, class_weight="balanced", max_depth=3, random_state=0),
           ExtraTreesClassifier(20, random_state=0), DecisionTreeClassifier(random_state=0), DecisionTreeClassifier(max_depth=1),
           ExtraTreeClassifier(random_state=0),
           RandomForestClassifier(5, max_leaf_nodes=4, random_state=0),
           GridSearchCV(RandomForestClassifier(5, random_state=0), {"max_depth": [2, 4]})]
OTHERS = [SVC(), KNeighborsClassifier(), GaussianNB(), HistGradientBoostingClassifier(max_iter=5),
          GradientBoostingClassifier(n_estimators=5), AdaBoostClassifier(n_estimators=5),
          make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)), BaggingClassifier(n_estimators=3)]


def name(estimator): return repr(estimator).replace("\n", "")[:60]


def lime_weights(h, x, label, samples, seed, **options):
    explainer = LimeTabularExplainer(h.training, random_state=seed, **options)
    found = explainer.explain_instance(x, h.estimator.predict_proba, labels=(label,), num_features=len(x), num_samples=samples)
    return np.array([weight for _, weight in sorted(found.as_map()[label])])/(1 if explainer.discretizer else explainer.scaler.scale_)


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("estimator", FORESTS, ids=name)
def test_boxes_are_the_forest(estimator, labels):
    h = head(estimator, labels)
    assert has_limit(h)
    for x in [*h.training[::20], *RNG.normal(size=(5, 10))]:
        np.testing.assert_allclose(boxes_of(h).scores(x), class_scores(h.estimator, x[None])[0], atol=1e-12)


def test_every_leaf_has_one_place_in_the_boxes():
    tree = DecisionTreeClassifier(random_state=0).fit(E, THREE)
    boxes = _forest_boxes([tree.tree_])
    assert len(boxes.votes) == tree.get_n_leaves() and (np.diff(boxes.leaf) >= 0).all()
    assert (boxes.thresholds[boxes.low] < boxes.thresholds[boxes.high]).all()
    assert len(np.unique(np.stack([boxes.leaf, boxes.feature]), axis=1).T) == len(boxes.leaf)  # one side for each feature


@pytest.mark.parametrize("estimator", OTHERS, ids=name)
def test_other_heads_are_sampled(estimator):
    h = head(estimator)
    assert not has_limit(h)
    for ask in rank_surrogate, slopes_surrogate:
        first = ask(E[0], h, 1, seed=1, samples=256)
        assert first.shape == (10,) and np.isfinite(first).all() and (first == ask(E[0], h, 1, seed=1, samples=256)).all()


def test_a_very_large_forest_is_sampled(monkeypatch):
    monkeypatch.setattr("embcam.ranking.surrogate._LARGEST", 10)
    assert not has_limit(head(RandomForestClassifier(20, random_state=0)))


def test_a_forest_that_does_not_average_its_trees_is_sampled():
    class Sharper(RandomForestClassifier):
        def predict_proba(self, values):
            p = super().predict_proba(values)**2
            return p/p.sum(1, keepdims=True)
    assert not has_limit(head(Sharper(5, random_state=0)))


@pytest.mark.parametrize("options, ask", [({}, rank_surrogate), (dict(discretize_continuous=False), slopes_surrogate)],
                         ids=["bins", "normal"])
@pytest.mark.parametrize("estimator", [FORESTS[0], FORESTS[4], FORESTS[5]], ids=name)
def test_lime_tends_to_the_limit(estimator, options, ask):
    h = head(estimator)
    for i in 0, 7:
        limit, varies = ask(E[i], h, 2), np.arange(10) != 9  # lime's coefficient of a constant feature is an accident
        many = np.mean([lime_weights(h, h.values(E[i])[0], 2, 20_000, seed, **options) for seed in range(3)], 0)
        assert np.abs(many - limit)[varies].max() < .05*np.abs(limit).max() + .004 and limit[9] == 0


@pytest.mark.parametrize("ask", [rank_surrogate, slopes_surrogate])
def test_draws_tend_to_the_limit(ask):  # the same forest, sampled because a step stands before it
    plain = head(FORESTS[0])
    piped = Head(make_pipeline("passthrough", plain.estimator), ALL, E, THREE)
    assert not has_limit(piped)
    for i in range(3):
        limit = ask(E[i], plain, 0)
        assert np.abs(ask(E[i], piped, 0, samples=2**15) - limit).max() < .05*np.abs(limit).max() + .004


def test_shared_draws_ask_the_head_once():
    asked = []

    class Counting(SVC):
        def decision_function(self, values):
            asked.append(len(values))
            return super().decision_function(values)
    h = head(Counting())
    for e in E[:5]:
        for label in 0, 1: rank_surrogate(e, h, label, samples=200)
    assert asked == [256]


@pytest.mark.parametrize("estimator", [FORESTS[0], FORESTS[3], SVC()], ids=name)
def test_one_feature_and_two_classes(estimator):
    h = head(estimator, TWO, np.array([3]))
    for ask in rank_surrogate, slopes_surrogate:
        np.testing.assert_allclose(ask(E[0], h, 0), -ask(E[0], h, 1), atol=1e-12)
        assert ask(E[0], h, 0).shape == (1,)


@pytest.mark.parametrize("estimator", [FORESTS[0], GaussianNB(var_smoothing=1e-3), KNeighborsClassifier()], ids=name)
def test_values_out_of_range_and_constant_ones(estimator):
    h = head(estimator)
    for e in (E[0]*100, -E[0] - 5, np.where(ALL == 9, 7, E[0])):
        for ask in rank_surrogate, slopes_surrogate: assert np.isfinite(ask(e, h, 0)).all() and abs(ask(e, h, 0)[9]) < 1e-9


def test_a_head_that_asks_nothing():
    for estimator in RandomForestClassifier(3).fit(E, np.ones(200)), DummyClassifier().fit(E, TWO):
        h = Head(estimator, ALL, E)
        for ask in rank_surrogate, slopes_surrogate: np.testing.assert_allclose(ask(E[0], h, 0), np.zeros(10), atol=1e-12)


def test_bins_are_those_of_lime():
    explainer, bins = LimeTabularExplainer(E, random_state=0), bins_of(head(FORESTS[3]))
    np.testing.assert_array_equal(bins.find(E), explainer.discretizer.discretize(E))
    for j in range(10):
        frequencies = dict(zip(explainer.feature_values[j], explainer.feature_frequencies[j]))
        np.testing.assert_allclose(bins.share[j], [frequencies.get(b, 0) for b in range(4)])
    assert _quartile_bins(np.ones((1, 2))).share.tolist() == [[1, 0, 0, 0]]*2
