"Edge cases of embcam.features: selection, rankings, effects, stability."
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from embcam.ranking import RANKINGS, Head, Ranking, absent_features, add_effects, rank_features, ranking_stability, select_features
from embcam.ranking.rankings import EFFECTS
from embcam.ranking.rankings import check_options, jaccard, rank_exact, rank_lime
from embcam.ranking.selection import _information, feature_count
from embcam.ranking.stability import is_stochastic

RNG = np.random.default_rng(0)
E = np.abs(RNG.normal(size=(150, 14))).astype(np.float32)
TWO = (E[:, 0] + E[:, 1] > E[:, 2] + E[:, 3]).astype(int)
THREE = np.array(["low", "middle", "high"])[TWO + (E[:, 0] > 1)]
SELECTED = np.array([7, 0, 3, 1, 2])


def head(estimator, labels=THREE): return Head(estimator.fit(E[:, SELECTED], labels), SELECTED, E, labels)


FOREST = head(RandomForestClassifier(30, random_state=0))
LINEAR = {"logistic": LogisticRegression(), "scaled": make_pipeline(StandardScaler(), LogisticRegression(C=.1)),
          "pca": make_pipeline(PCA(3), LinearSVC()),
          "lda": LinearDiscriminantAnalysis(), "ridge": RidgeClassifier(), "search": GridSearchCV(LogisticRegression(), {"C": [.1, 1]})}


def in_order(values, ranking): return values[[SELECTED.tolist().index(f) for f in ranking.features]]


# selection

@pytest.mark.parametrize("n_features, k", [("sqrt", 12), ("all", 40), (1, 1), (40, 40), (np.int64(3), 3), (.5, 20), (.001, 1)])
def test_counts(n_features, k): assert feature_count(n_features, 150, 40) == k


@pytest.mark.parametrize("n_features", [0, 41, -1, "cube", None, True, 1.0, 0.0, 1.5, [3]])
def test_counts_that_make_no_sense(n_features):
    with pytest.raises(ValueError, match="n_features="): feature_count(n_features, 150, 40)


def test_more_images_than_features(): assert feature_count("sqrt", 10_000, 40) == 40


@pytest.mark.parametrize("embeddings, labels, message", [
    (E, np.zeros(150), "All 150 images are of one class"), (E, [1] + [0]*149, "has one training image"),
    (np.ones((150, 3)), TWO, "embeddings are equal"),
    (np.where(E > 2, np.nan, E), TWO, "NaN"), (np.where(E > 2, np.inf, E), TWO, "infinity")])
def test_selection_refuses(embeddings, labels, message):
    with pytest.raises(ValueError, match=message): select_features(embeddings, labels)


def test_a_class_of_one_does_not_stop_the_selection(): assert len(select_features(E, [2, *TWO[1:]])) == 12


def test_constant_features_come_last():
    flat = E.copy()
    flat[:, [0, 5]] = 3
    assert set(select_features(flat, TWO, "all").features[-2:]) == {0, 5}


@pytest.mark.parametrize("seed", range(4))
def test_information_is_scikit_learn_s_to_the_bit(seed):
    "Classes of one image and of eight or more, values that are equal but for the noise, and far from zero."
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(90) % [2, 5, 9, 10][seed])
    codes[0] = codes.max() + 1
    embeddings = np.maximum(rng.normal(size=(90, 20)), -.3).astype(np.float32) + 1000*(seed % 2)
    assert (_information(embeddings, codes, seed) == mutual_info_classif(embeddings, codes, random_state=seed)).all()


@pytest.mark.parametrize("seed", range(3))
def test_selection_does_not_depend_on_the_last_digits(seed):
    "With a class of few images scikit-learn's order does: its distances come from squares."
    rng = np.random.default_rng(seed)
    embeddings, labels = np.maximum(rng.normal(size=(60, 300)) + 1, 0).astype(np.float32), np.repeat(list("abc"), [4, 16, 40])
    nearly = (embeddings*(1 + 1e-7*rng.standard_normal(embeddings.shape))).astype(np.float32)
    assert (embeddings != nearly).any()
    assert (select_features(embeddings, labels, 40).features == select_features(nearly, labels, 40).features).all()


def test_selection_is_repeatable(): assert (select_features(E, TWO, seed=4).weights == select_features(E, TWO, seed=4).weights).all()


# rankings

def test_top_refuses_and_clamps():
    r = Ranking(np.arange(3), np.ones(3), "lime")
    for k in 0, -1, 1.5, "3", None:
        with pytest.raises(ValueError, match="top="): r.top(k)
    with pytest.warns(UserWarning, match="all 3 are used"): assert len(r.top(5)) == 3


def test_reordering_takes_everything_along():
    r = add_effects(rank_features(E[0], FOREST, ranking="permutation"), E[0], FOREST)
    back = r.reordered(np.arange(5)[::-1])
    for name in "features", "weights", "absent", "effects": assert (getattr(back, name) == getattr(r, name)[::-1]).all()
    assert len(r.reordered([0, 2])) == 2 and (back.name, back.label) == (r.name, r.label)
    assert Ranking(np.arange(3), np.ones(3), "x").reordered([2, 1, 0]).absent is None


def test_plot_names_and_hatches():
    r = Ranking(np.array([8, 2]), np.array([1., -2]), "lime", absent=np.array([False, True]))
    ax = r.plot(names=lambda f: f"blocks.4/{f}")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["blocks.4/8", "blocks.4/2 (absent)"] and ax.get_xlabel() == "weight (lime)"
    assert len(r.plot(1).get_yticklabels()) == 1


def test_absent_features():
    background = np.tile(np.arange(1., 101)[:, None], (1, 4))
    assert absent_features(np.array([90., 10, 0, 26]), background, np.arange(4)).tolist() == [False, True, True, False]
    background = np.array([[1.], [-200], [0], [0]])
    assert absent_features(np.array([1.]), background, np.array([0])).all()  # near zero beside the largest absolute value


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
def test_exact_contributions_add_up(name, labels):
    h = head(LINEAR[name], labels)
    for label in range(len(h.classes)):
        margins = h.margins(E)[:, label] - h.margins(E).mean(1)
        found = [rank_exact(e, h, label) for e in E[:5]]
        np.testing.assert_allclose(np.sum(found, 1), margins[:5] - margins.mean(), atol=1e-5)


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
def test_exact_equals_the_package_shap(labels):
    shap = pytest.importorskip("shap")
    h = head(LogisticRegression(), labels)
    values = shap.LinearExplainer(h.estimator, shap.maskers.Independent(h.training, max_samples=1000)).shap_values(h.values(E[:4]))
    if values.ndim == 2: values = np.stack([-values, values], -1)
    for label in range(len(h.classes)):
        found = [rank_exact(e, h, label) for e in E[:4]]
        np.testing.assert_allclose(found, values[:, :, label] - values.mean(-1), atol=1e-6)


def test_exact_versus_is_the_difference_of_two_margins():
    h = head(LogisticRegression())
    r = rank_features(E[0], h, "low", versus="high")
    margins = h.margins(E)[:, h.index("low")] - h.margins(E)[:, h.index("high")]
    np.testing.assert_allclose(r.weights.sum(), margins[0] - margins.mean(), atol=1e-9)
    assert (r.name, r.label, r.versus) == ("exact", "low", "high")


@pytest.mark.parametrize("name", ["surrogate", "lime", "shap", "permutation"])
def test_versus_is_the_difference_of_two_rankings(name):
    if name == "shap": pytest.importorskip("shap")
    questions = ("low", None), ("high", None), ("low", "high")
    one, two, both = (rank_features(E[0], FOREST, label, name, versus=versus) for label, versus in questions)
    sort = np.argsort
    np.testing.assert_allclose(both.weights[sort(both.features)], one.weights[sort(one.features)] - two.weights[sort(two.features)],
                               atol=1e-9)


def test_auto_takes_what_suits_the_head():
    assert rank_features(E[0], head(LinearSVC())).name == "exact"
    assert rank_features(E[0], FOREST, samples=200).name == rank_features(E[0], head(SVC(kernel="linear")), samples=200).name == "surrogate"


@pytest.mark.parametrize("name", [name for name, method in RANKINGS.items() if method.weights and not method.additive])
def test_rankings_are_repeatable_and_complete(name):
    if name == "shap": pytest.importorskip("shap")
    r, again = (rank_features(E[0], FOREST, ranking=name, seed=3) for _ in range(2))
    assert (r.weights == again.weights).all() and sorted(r.features) == sorted(SELECTED)
    assert (np.diff(np.abs(r.weights)) <= 0).all() and r.label == FOREST.predict(E[0])[0] and r.absent.shape == (5,)


@pytest.mark.parametrize("estimator", [SVC(), KNeighborsClassifier(), LinearSVC()], ids=lambda e: type(e).__name__)
def test_any_head_can_be_ranked(estimator):
    h = head(estimator)
    for name in "surrogate", "lime", "permutation": assert np.isfinite(rank_features(E[0], h, "high", name).weights).all()


def test_shap_of_a_head_without_trees():
    pytest.importorskip("shap")
    h = Head(LogisticRegression().fit(E[:, SELECTED], THREE), SELECTED, E[:20])
    label = h.index("high")
    assert abs(rank_features(E[0], h, "high", "shap").weights.sum() - (h.scores(E[0])[0, label] - h.scores(E[:20])[:, label].mean())) < 1e-6


def test_shap_through_a_search():
    pytest.importorskip("shap")
    search = head(GridSearchCV(RandomForestClassifier(10, random_state=0), {"max_depth": [3]}))
    plain = Head(search.estimator.best_estimator_, SELECTED, E)
    assert (RANKINGS["shap"](E[0], search, 0) == RANKINGS["shap"](E[0], plain, 0)).all()
    assert (RANKINGS["importances"](E[0], search, 0) == plain.estimator.feature_importances_).all()


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
def test_importances_of_a_linear_head_are_its_coefficients(labels):
    h = head(LogisticRegression(), labels)
    coefficients = h.estimator.coef_ if len(h.classes) > 2 else np.vstack([-h.estimator.coef_, h.estimator.coef_])
    for label in range(len(h.classes)): np.testing.assert_array_equal(RANKINGS["importances"](E[0], h, label), coefficients[label])


def test_importances_of_pairs_are_not_taken_for_classes():  # three classes, three pairs: coef_ has the shape of coefficients
    with pytest.raises(ValueError, match="SVC has neither"): rank_features(E[0], head(SVC(kernel="linear")), ranking="importances")


def test_lime_settles():
    few = head(RandomForestClassifier(10, random_state=0))
    assert (rank_lime(E[0], few, 0, samples="auto", settle=2, most=2500) != rank_lime(E[0], few, 0, samples=1250)).any()
    assert (rank_lime(E[0], few, 0, samples=300, kernel_width=.5) != rank_lime(E[0], few, 0, samples=300)).any()


def test_a_callable_ranks():
    def by_value(embedding, head, label, seed=0, scale=1): return scale*head.values(embedding)[0]
    r = rank_features(E[0], FOREST, ranking=by_value, scale=-2)
    assert r.name == "by_value" and (r.weights == in_order(-2*FOREST.values(E[0])[0], r)).all()
    with pytest.raises(TypeError, match="by_value has no option 'scales': choose scale."):
        rank_features(E[0], FOREST, ranking=by_value, scales=1)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((1, 5)), np.full(5, np.nan), np.full(5, np.inf), 1.])
def test_callables_that_return_nonsense(bad):
    with pytest.raises(ValueError, match="for 5 features, or some that are not finite"):
        rank_features(E[0], FOREST, ranking=lambda *args, seed: bad)
    ranking = rank_features(E[0], FOREST, ranking="importances")
    with pytest.raises(ValueError, match="for 5 features"): add_effects(ranking, E[0], FOREST, lambda *args, seed: bad)


@pytest.mark.parametrize("arguments, error, message", [
    (dict(ranking="limes"), ValueError, "ranking='limes': choose 'auto', 'exact'"), (dict(label="best"), ValueError, "label='best'"),
    (dict(versus="best"), ValueError, "versus='best'"), (dict(label="low", versus="low"), ValueError, "name two classes"),
    (dict(ranking="exact"), ValueError, "not linear"), (dict(ranking="lime", sample=9), TypeError, "no option 'sample': choose samples"),
    (dict(sample=9), TypeError, "no option 'sample'"), (dict(ranking="importances", methd="gradcam"), TypeError, "no options, but 'methd'"),
    (dict(ranking="permutation", seeds=2), TypeError, "no option 'seeds'")])
def test_rank_features_refuses(arguments, error, message):
    with pytest.raises(error, match=message): rank_features(E[0], FOREST, **arguments)


def test_options_of_lime_are_known():
    check_options(rank_lime, dict(samples="auto", settle=5, most=9, kernel_width=2, discretizer="decile", feature_selection="none"))
    for own in "random_state", "mode", "training_data", "seed", "label", "embedding":
        with pytest.raises(TypeError, match=f"no option '{own}'"): check_options(rank_lime, {own: 1})
    check_options(lambda e, h, label, **anything: None, dict(x=1))


# the range of the training values

LOGS = {"logs": make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
        "roots": make_pipeline(FunctionTransformer(np.sqrt), StandardScaler(), SVC())}


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("name", LOGS)
def test_no_draw_leaves_the_range(name, labels):
    h = head(LOGS[name], labels)
    asked = []

    class Watched:  # the same head, but it keeps what it is asked
        classes_ = h.classes
        def __getattr__(self, name): return getattr(h.estimator, name)
        def keep(self, ask, values):
            asked.append(values)
            return ask(values)

        def decision_function(self, values): return self.keep(h.estimator.decision_function, values)

        if hasattr(h.estimator, "predict_proba"):
            def predict_proba(self, values): return self.keep(h.estimator.predict_proba, values)

    w, beyond = Head(Watched(), SELECTED, E, labels), np.where(np.arange(14) == 7, 9, E[0])  # feature 7 lies above its range
    low, high = np.minimum(h.training.min(0), beyond[SELECTED]), np.maximum(h.training.max(0), beyond[SELECTED])
    rankings = [RANKINGS[name] for name in ("surrogate", "lime", "permutation")]
    for ask in [*rankings, *(EFFECTS[name] for name in ("surrogate", "lime", "difference", "gradient"))]:
        asked.clear()
        assert np.isfinite(ask(beyond, w, 0)).all() and all((v >= low).all() and (v <= high).all() for v in asked) and asked
    assert np.isfinite(rank_lime(beyond, w, 0, discretize_continuous=False, sample_around_instance=True)).all()


def test_shap_stays_within_the_range():
    pytest.importorskip("shap")
    assert np.isfinite(RANKINGS["shap"](E[0], head(LOGS["logs"]), 0)).all()
    assert np.isfinite(EFFECTS["shap"](E[0], head(LOGS["roots"]), 0)).all()


@pytest.mark.parametrize("options", [{}, dict(discretize_continuous=False), dict(discretizer="decile"),
                                     dict(discretize_continuous=False, sample_around_instance=True)], ids=str)
def test_forests_keep_the_bits_of_lime(options):
    lime = pytest.importorskip("lime.lime_tabular")
    for h in FOREST, head(ExtraTreesClassifier(20, random_state=0)):
        explanation = lime.LimeTabularExplainer(h.training, random_state=2, **options).explain_instance(
            h.values(E[0])[0], h.estimator.predict_proba, labels=(1,), num_features=5, num_samples=500)
        assert dict(explanation.as_map()[1]) == dict(enumerate(rank_lime(E[0], h, 1, 2, 500, **options)))


@pytest.mark.parametrize("name", ["surrogate", "lime", "permutation"])
def test_constant_features_and_a_single_one(name):
    flat = E.copy()
    flat[:, [3, 7]] = 2
    h = Head(LOGS["logs"].fit(flat[:, SELECTED], THREE), SELECTED, flat, THREE)
    ranking = rank_features(flat[0], h, ranking=name)
    for source in EFFECTS.keys() - {"exact", "shap"}:
        effects = add_effects(ranking, flat[0], h, source).effects
        assert np.isfinite(effects).all()
        if source in ("difference", "gradient"): assert (effects[np.isin(ranking.features, [3, 7])] == 0).all()
    moved = np.where(np.arange(14) == 3, 5, flat[0])  # constant in training, another value here
    assert np.abs(EFFECTS["gradient"](moved, h, 0)).max() < 10
    for estimator in RandomForestClassifier(5, random_state=0), SVC():
        alone = Head(estimator.fit(E[:, [4]], TWO), np.array([4]), E, TWO)
        r = rank_features(E[0], alone, ranking=name)
        assert r.features.tolist() == [4] and np.isfinite(add_effects(r, E[0], alone).effects).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("ask", [RANKINGS["surrogate"], RANKINGS["lime"], RANKINGS["permutation"], EFFECTS["surrogate"],
                                 EFFECTS["difference"]])
def test_a_head_that_gives_nan_is_named(ask):
    class Broken(RandomForestClassifier):
        def predict_proba(self, values): return np.where(values[:, :1] > 1, np.nan, super().predict_proba(values))
    with pytest.raises(ValueError, match="Broken gave nan as a score, within the range"): ask(E[0], head(Broken(5, random_state=0)), 0)


def test_steps_end_at_the_range():
    h = head(make_pipeline(FunctionTransformer(np.square), LinearSVC()), TWO)
    for edge in E.min(0), E.max(0):
        np.testing.assert_allclose(EFFECTS["gradient"](edge, h, 1), 2*edge[SELECTED]*h.estimator[1].coef_[0], atol=2e-3)


# effects

@pytest.mark.parametrize("name", LINEAR)
def test_gradient_equals_coefficients(name):
    h = head(LINEAR[name])
    for label in range(3): np.testing.assert_allclose(EFFECTS["gradient"](E[0], h, label), h.linear[0][label], rtol=1e-5, atol=1e-6)


def test_gradient_of_a_sparse_head_is_no_error():
    h = head(SGDClassifier(loss="log_loss", penalty="l1", alpha=.2, random_state=0), TWO)
    assert (EFFECTS["gradient"](E[0], h, 1) == 0).mean() > .5


@pytest.mark.parametrize("estimator", [RandomForestClassifier(10), KNeighborsClassifier()], ids=lambda e: type(e).__name__)
def test_step_functions_have_no_gradient(estimator):
    with pytest.raises(ValueError, match=f"{type(estimator).__name__} does not move"): EFFECTS["gradient"](E[0], head(estimator), 1)


def test_effects_belong_to_their_ranking():
    h = head(LogisticRegression())
    sources = dict(exact="exact", surrogate="surrogate", lime="lime", permutation="difference", importances="difference")
    for name, source in sources.items():
        r = rank_features(E[0], h, "high", name)
        np.testing.assert_array_equal(add_effects(r, E[0], h).effects, in_order(EFFECTS[source](E[0], h, h.index("high")), r))


def test_effects_of_one_class_versus_another():
    r = rank_features(E[0], FOREST, "low", "permutation", versus="high")
    difference = [EFFECTS["difference"](E[0], FOREST, FOREST.index(c)) for c in ("low", "high")]
    np.testing.assert_allclose(add_effects(r, E[0], FOREST).effects, in_order(difference[0] - difference[1], r))


def test_effects_of_a_global_ranking():  # about the predicted class; features that the head does not read have none
    r = add_effects(Ranking(np.array([13, 0, 3]), np.ones(3), "mutual information"), E[0], FOREST)
    assert r.effects[0] == 0 and r.effects[1] == EFFECTS["difference"](E[0], FOREST, FOREST.index(FOREST.predict(E[0])[0]))[1]


def test_lime_effects_take_the_options_of_the_ranking():
    r = rank_features(E[0], FOREST, "low", "lime", samples=300)
    assert (add_effects(r, E[0], FOREST, samples=300).effects != add_effects(r, E[0], FOREST, samples=301).effects).any()
    assert add_effects(r, E[0], FOREST, samples="auto", settle=2, most=1250, kernel_width=2.).effects.shape == (5,)
    with pytest.raises(TypeError, match="effects_lime has no option 'sample'"): add_effects(r, E[0], FOREST, sample=3)
    with pytest.raises(ValueError, match="effects='limes'"): add_effects(r, E[0], FOREST, "limes")


def test_shap_effects_of_average_values_are_finite():
    pytest.importorskip("shap")
    assert np.isfinite(EFFECTS["shap"](E.mean(0), FOREST, 0)).all()


# stability

def test_jaccard(): assert [jaccard([], []), jaccard([1, 1, 2], [2]), jaccard([1], [1])] == [0, .5, 1]


def test_stability_of_one_and_of_many():
    rankings = [Ranking(np.array(f), np.ones(4), "lime") for f in ([1, 2, 3, 4], [1, 3, 2, 4], [1, 4, 2, 3])]
    s = ranking_stability(rankings, k=2)
    assert s.features[0] == 1 and s.share.tolist() == [1, 1/3, 1/3, 1/3] and s.overlap == pytest.approx(1/3) and not s.stable
    assert (s.k, s.repeats) == (2, 3) and "overlap 0.33, not stable" in repr(s)
    alone = ranking_stability(rankings[:1], k=9)
    assert (alone.overlap, alone.stable, alone.k, alone.repeats) == (1, True, 4, 1)


@pytest.mark.parametrize("hits, n", [(8, 8), (3, 8), (1, 5)])
def test_interval_is_wilsons(hits, n):
    s = ranking_stability([Ranking(np.array([0 if i < hits else 1]), np.ones(1), "lime") for i in range(n)], k=1)
    at, p, z = s.features.tolist().index(0), hits/n, norm.ppf(.975)
    centre, half = (p + z*z/2/n)/(1 + z*z/n), z*np.sqrt(p*(1 - p)/n + z*z/4/n/n)/(1 + z*z/n)
    np.testing.assert_allclose([s.low[at], s.high[at]], [centre - half, centre + half])


def test_what_is_stochastic():
    given = Ranking(np.arange(2), np.ones(2), "lime")
    steady = ["exact", "shap", "importances", "mutual information", given]
    assert not any(is_stochastic(ranking, FOREST) for ranking in steady)
    assert all(is_stochastic(ranking, FOREST) for ranking in ("lime", "permutation", lambda *args: None))
    assert [is_stochastic("auto", h) for h in (FOREST, head(LinearSVC()), head(SVC()))] == [False, False, True]
    assert [is_stochastic("surrogate", h) for h in (FOREST, head(SVC()))] == [False, True]


def test_the_selection_is_no_ranking_of_one_prediction():
    with pytest.raises(ValueError, match="'mutual information' is the classifier's own selection"):
        rank_features(E[0], FOREST, ranking="mutual information")
