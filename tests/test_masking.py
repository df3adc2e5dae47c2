"Edge cases of embcam.masking."
import numpy as np
import pytest

from embcam.ranking import TOZ, TRR, TZZ, ImputationStrategy, impute, similarity
from embcam.ranking.masking import STRATEGIES, as_strategy

E = np.random.default_rng(42).random(20).astype(np.float32)
SELECTED = np.array([3, 9, 1, 12])
NEVER_SELECTED = np.setdiff1d(np.arange(20), SELECTED)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=repr)
@pytest.mark.parametrize("top", [SELECTED[:1], SELECTED, SELECTED[:0], [12, 3]])
def test_only_what_is_not_top_ranked_is_replaced(strategy, top):
    r = impute(E, top, SELECTED, strategy)
    assert (r[np.asarray(top, int)] == E[np.asarray(top, int)]).all() and r.dtype == np.float32 and r.shape == E.shape
    others = np.setdiff1d(SELECTED, top)
    if strategy is TRR: assert (r[others] != E[others]).all() and ((0 <= r) & (r < 1)).all()
    else: assert (r[others] == (strategy is TOZ)).all() and not r[NEVER_SELECTED].any()


def test_the_embedding_is_left_alone():
    before = E.copy()
    impute(E, SELECTED[:1], SELECTED, TRR)
    assert (E == before).all()


def test_random_values_do_not_depend_on_what_is_kept():
    one, two = impute(E, [3], SELECTED, TRR, seed=5), impute(E, [9], SELECTED, TRR, seed=5)
    rest = np.setdiff1d(np.arange(20), [3, 9])
    assert (one[rest] == two[rest]).all() and (one[rest] != impute(E, [3], SELECTED, TRR, seed=6)[rest]).all()


def test_half_random():
    strategy = ImputationStrategy("TRZ", selected="random", rest=0)
    r = impute(E, [3], SELECTED, strategy)
    assert not r[NEVER_SELECTED].any() and r[SELECTED[1:]].all()


def test_names_and_objects():
    assert (impute(E, [3], SELECTED, "TOZ") == impute(E, [3], SELECTED,
                                                      TOZ)).all() and as_strategy(TRR) is TRR and as_strategy("TRR") is TRR
    for wrong in "tzz", "", "TMM":
        with pytest.raises(ValueError, match="choose TOZ, TZZ, TRR"): as_strategy(wrong)
    with pytest.raises(ValueError, match="'zero' fills no feature"): ImputationStrategy("T", selected=1, rest="zero")


def test_an_array_fills_each_feature():
    mean = np.arange(20.)
    r = impute(E, [3], SELECTED, ImputationStrategy("TMM", mean, mean))
    assert r[3] == E[3] and (np.delete(r, 3) == np.delete(mean, 3)).all()
    with pytest.raises(ValueError): impute(E, [3], SELECTED, ImputationStrategy("TMM", mean[:5], 0))


@pytest.mark.parametrize("top, selected, message", [([20], [20], "top names feature 20, but the embedding has 20 values"),
                                                    ([-1], [-1, 2], "top names feature -1"), ([3], [3, 99], "selected names feature 99"),
                                                    ([0, 3, 5], [3], r"\[0, 5\] are not among the selected")])
def test_features_that_do_not_exist(top, selected, message):
    with pytest.raises(ValueError, match=message): impute(E, top, selected)


def test_similarity():
    assert similarity(E, E) == pytest.approx(1) and similarity(-E, E) == pytest.approx(-1) and isinstance(similarity(E, E), float)
    rows = similarity(np.stack([E, 0*E, 2*E]), np.stack([E, E, E]))
    np.testing.assert_allclose(rows, [1, 0, 1])
    assert similarity(0*E, 0*E) == 0


@pytest.mark.parametrize("scale", [1e-12, .03, 1, 1e6])
def test_similarity_of_tzz_is_the_share_of_length(scale):
    e = (E*scale).astype(np.float32)
    assert similarity(impute(e, SELECTED[:2], SELECTED, TZZ), e) == pytest.approx(np.linalg.norm(E[SELECTED[:2]])/np.linalg.norm(E),
        rel=1e-5)
