"Edge cases of embcam.explanation: what is kept, what is said, and that it does not depend on who looked before."
import json
from dataclasses import replace

import numpy as np
import pytest

import families
from embcam.explanation import Explainer, Imputed, Signed, Trust
from embcam.explanation.builders import TARGETS, Case, as_builder
from embcam.explanation.records import SHOWN, TOP
from embcam.explanation.reliability import FAR, LIKE_RANDOM, LIKE_SHUFFLED, LOW_EVIDENCE, SMALL_MARGIN, WEAK_CLASS
from embcam.explanation.showing import activity, feature_grid
from embcam.images import make_logos
from embcam.maps import EnergyTarget
from embcam.network import Backbone

IMAGES = make_logos(30, seed=0, progress=False)


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "logit"])
def test_randomised_targets_are_seeded_and_as_many_as_asked_for(forest, target):
    e, head, builder = forest.background_[0], forest.head_, as_builder(target)
    case = Case(e, builder.rank(Explainer(forest).rank(e), e, head), 5, head)
    first, again, other = (builder.randomised(case, 3, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 3
    assert all((a.gradient(e) == b.gradient(e)).all() for a, b in zip(first, again))
    assert any((a.gradient(e) != b.gradient(e)).any() for a, b in zip(first, other))
    with pytest.raises(ValueError, match="among='best'"): builder.randomised(case, 1, among="best")


def test_a_case_keeps_the_first(forest):
    e = forest.background_[0]
    ranking = Explainer(forest).rank(e)
    assert (Case(e, ranking, 4, forest.head_).kept == ranking.features[:4]).all()
    reference = Imputed("TZZ").build(Case(e, ranking, 4, forest.head_)).reference
    assert set(np.flatnonzero(reference)) <= set(ranking.features[:4])


def test_a_figure_has_as_many_bars_as_it_shows_and_a_map_as_many_features_as_are_kept(forest, linear):
    assert (TOP, SHOWN) == (13, 13)
    assert [len(Explainer(forest, top=top)(IMAGES.images[0]).top) for top in ("auto", 5, 50)] == [TOP, 5, 20]
    assert len(Explainer(linear)(IMAGES.images[0]).top) == linear.backbone.n_features
    assert Explainer(forest, target="TZZ").n_top == TOP


def test_figure_and_notes_do_not_depend_on_who_looked_before(forest):
    explain = Explainer(forest, ranking="lime", samples=200)
    fresh, looked = (explain(IMAGES.images[0], name="one") for _ in range(2))
    assert str(looked.trust) in looked.show().get_suptitle()
    assert fresh.show(trust=False).get_suptitle() == looked.show(trust=False).get_suptitle()
    assert "trust" not in vars(fresh)  # nothing was measured for it
    assert fresh.notes() == looked.notes()
    assert fresh.show().get_suptitle() == looked.show().get_suptitle()
    assert set(looked.trust.warnings()) <= set(fresh.notes())
    assert not set(looked.trust.warnings()) & set(fresh.notes(trust=False))


@pytest.mark.parametrize("percentile, words", [(0., "0th"), (.01, "1st"), (.12, "12th"), (.93, "93rd"), (1., "100th")])
def test_trust_in_words(percentile, words):
    assert f": {words} percentile" in str(Trust(None, None, .5, 1., percentile))


def test_trust_warns_of_what_it_should():
    sound = Trust(None, {"combined": LIKE_RANDOM}, SMALL_MARGIN, 1., FAR, .5, LOW_EVIDENCE, WEAK_CLASS, .6, LIKE_SHUFFLED)
    assert sound.warnings() == []
    changes = dict(margin=.05, evidence=.05, auc=.6, shuffled=.95)
    assert [len(replace(sound, **{name: value}).warnings()) for name, value in changes.items()] == [1, 1, 1, 1]
    found = Trust(None, {"combined": .95}, -.1, 9., 1.).warnings()
    assert [text.split()[0] for text in found] == ["Random", "The", "The"]


def test_versus_is_the_difference_of_two_effects(linear):
    explain = Explainer(linear)
    asked = (("interrupted", None), ("good", None), ("interrupted", "good"))
    one, two, both = (explain(IMAGES.images[0], label=label, versus=versus) for label, versus in asked)
    effects = [dict(zip(ex.ranking.features, ex.ranking.effects)) for ex in (one, two, both)]
    for f in effects[0]: assert effects[2][f] == pytest.approx(effects[0][f] - effects[1][f], abs=1e-9)


@pytest.mark.parametrize("ranking", ["importances", "mutual information"])
def test_global_rankings_keep_the_same_features_for_every_image(forest, ranking):
    explain = Explainer(forest, ranking=ranking, top=5)
    assert (explain(IMAGES.images[0]).top == explain(IMAGES.images[1]).top).all()


def test_two_images_are_compared_without_a_class(forest):
    explain = Explainer.paper(forest, samples=200)
    with pytest.raises(ValueError, match="no meaning beside reference"):
        explain(IMAGES.images[0], reference=IMAGES.images[1], label="good")
    ex = explain(IMAGES.images[0], reference=IMAGES.images[0])
    assert set(ex.evidence.values()) == {0} and ex.trust.likeness is None
    with pytest.raises(ValueError, match="cannot compare two images"):
        explain.replace(method="cells")(IMAGES.images[0], reference=IMAGES.images[1])


@pytest.mark.parametrize("settings", [{}, dict(target=EnergyTarget(), method="gradcam"), dict(method="cells"), dict(target="TRR")], ids=str)
def test_a_record_is_plain_json(forest, settings):
    record = Explainer(forest, samples=200, **settings)(IMAGES.images[0]).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_builder_of_ones_own_is_taken_as_it_is(forest):
    class Halved(Signed):
        name = "halved"
    assert Explainer(forest, target=Halved()).builder.name == "halved"


@pytest.mark.parametrize("make", [lambda: Backbone(size=96, pooled="stages"), lambda: Backbone(size=96),
                                  lambda: Backbone(families.vit(), size=64)], ids=["stages", "last", "transformer"])
def test_every_feature_is_seen_in_the_image_that_activates_it_most(make):
    backbone = make()
    E = backbone.embed(IMAGES, progress=False)
    strongest = E.argmax(0)
    for i in np.unique(strongest):
        trace = backbone.trace(IMAGES.images[i])
        for f in np.flatnonzero((strongest == i) & (np.ptp(E, 0) > 0))[::1 if trace.pooled else 8]:
            grid = feature_grid(trace, int(f))
            assert activity(grid, strongest=True).max() == 1, backbone.feature_name(int(f))
            if trace.pooled: assert grid.mean() == pytest.approx(trace.embedding[f], abs=1e-4)  # it is the average of these cells


def test_a_feature_that_is_not_active_is_empty():
    assert not activity(np.array([[-1., -2]])).any() and activity(np.array([[-1., -2]]), strongest=True).tolist() == [[1, 0]]
    assert not activity(np.zeros((2, 2)), strongest=True).any()
