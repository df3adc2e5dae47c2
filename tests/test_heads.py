"Heads and their choice: odd training sets, probabilities that hold, groups, files, and what is fitted again."
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.images import ImageSet
from embcam.judging import shuffled_labels
from embcam.model import HEADS, choose_head
from embcam.model.head_choice import _pick, cross_calibrated, learning_curve, make_folds, out_of_fold
from embcam.model.heads import STRENGTHS, as_logistic, fit_calibration, linear_path
from embcam.model.scoring import calibration_chance, calibration_error, good_class, log_losses, mean_auc, score_card, weakness
from embcam.model.scoring import wilson_interval
from embcam.ranking import Head

LINEAR = tuple(STRENGTHS)


def blobs(n: int, classes: int = 2, d: int = 30, apart: float = 1., seed: int = 0):
    "Clouds of points, n a class, with centres that far apart; a few features are constant."
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), n)
    E = rng.standard_normal((len(codes), d)) + apart*rng.standard_normal((classes, d))[codes]
    E[:, :2] = 0, 3
    return E.astype(np.float32), codes


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("d", [30, 300])  # fewer features than images, and more
def test_a_linear_head_is_a_logistic_regression(name, classes, d):
    E, codes = blobs(40, classes, d, .3)
    E, F = E.astype(float), blobs(40, classes, d, .3, seed=1)[0].astype(float)
    scaler, path = linear_path(name, E, codes, STRENGTHS[name])
    for coefficients, intercepts in path:
        assert coefficients.shape == (classes, d) and np.isfinite(coefficients).all() and np.isfinite(intercepts).all()
        margins = scaler.transform(F) @ coefficients.T + intercepts
        model = as_logistic(scaler, coefficients, intercepts, 2., np.arange(classes)/3)
        np.testing.assert_allclose(model.predict_proba(F), softmax(2*margins + np.arange(classes)/3, axis=1), atol=1e-9)
        assert Head(model, np.arange(d), E, codes).linear is not None


@pytest.mark.parametrize("labels", [[0, 1], [True, False], ["good", "déjà vu"], [-3, 7], [.5, 1.5], ["1", "10"]], ids=str)
def test_labels_of_any_kind(labels):
    E, codes = blobs(12)
    choice = choose_head(E, [labels[k] for k in codes], heads=LINEAR, progress=False)
    assert choice.classes.tolist() == sorted(labels) and choice.estimator.classes_.tolist() == [0, 1]
    told = choice.classes[choice.estimator.predict(E[:, choice.selected])]
    assert np.mean(told == np.array([labels[k] for k in codes])) > .9


@pytest.mark.parametrize("n, classes", [(10, 2), (10, 4), (10, 30), (4, 3), (3, 2)])
def test_small_sets_and_many_classes(n, classes):
    E, codes = blobs(n, classes)
    choice = choose_head(E, codes, heads=LINEAR, progress=False)
    assert choice.folds and not choice.note and choice.table["log loss"].notna().all()
    assert choice.probabilities.shape == (n*classes, classes) and np.allclose(choice.probabilities.sum(1), 1)
    low, high = choice.accuracy[1:]
    assert 0 <= low < high <= 1 and low < choice.accuracy[0] < high + 1e-9
    assert choice.recall["recall"].is_monotonic_increasing and choice.recall["of"].sum() == n*classes


def test_scores_of_pure_noise_are_near_chance():
    rng = np.random.default_rng(0)
    E, codes = rng.standard_normal((40, 300)), np.repeat(np.arange(4), 10)
    choice = choose_head(E, codes, heads=LINEAR, progress=False)
    F = rng.standard_normal((200, 300))
    assert choice.estimator.predict_proba(F[:, choice.selected]).max() < .6
    raw = linear_path("lda", E, codes, (.1,))[1][0]
    assert softmax(F @ raw[0].T + raw[1], axis=1).max() > .9, "as it is it would be sure"


@pytest.mark.parametrize("name", LINEAR)
def test_calibrated_scores_hold_on_new_images(name):
    E, codes = blobs(900, 3, 60, .25, seed=1)
    some = np.random.default_rng(0).permutation(len(codes))
    learn, held = some[:600], some[600:]
    choice = choose_head(E[learn], codes[learn], heads=(name,), progress=False)
    p = choice.estimator.predict_proba(E[held][:, choice.selected])
    assert calibration_error(p, codes[held]) < calibration_chance(p) + .03
    right = p.argmax(1) == codes[held]
    assert p.max(1)[~right].mean() < p.max(1)[right].mean() - .05
    assert log_losses(p, codes[held]).mean() < log_losses(choice.probabilities, codes[learn]).mean() + .11


def test_groups_stay_on_one_side():
    rng = np.random.default_rng(0)
    parts = np.repeat(np.arange(40), 5)  # each photographed five times, its label has nothing to do with its looks
    codes = (np.arange(40) % 2)[parts]
    E = rng.standard_normal((40, 50))[parts] + .1*rng.standard_normal((200, 50))
    apart = choose_head(E, codes, groups=parts, heads=("ridge",), progress=False)
    for train, test in apart.folds: assert not set(parts[train]) & set(parts[test])
    mixed = choose_head(E, codes, heads=("ridge",), progress=False)
    assert apart.table["AUC"]["ridge"] < .7 < .95 < mixed.table["AUC"]["ridge"]
    named = choose_head(E, codes, groups=[f"part {k}" for k in parts], heads=("ridge",), progress=False)
    assert named.table["AUC"]["ridge"] < .7
    learning_curve(apart, E, groups=[f"part {k}" for k in parts])


def test_too_few_to_compare():
    E, codes = blobs(6)
    for labels, groups, what in ((np.append(codes, 2), None, "class, 2, has 1 training images"),
                                 (np.append(codes, 1), [0]*6 + [1, 2, 3, 4, 5, 6, 7], "class, 0, has 1 groups of training images")):
        X = np.vstack([E, E[:1]])
        choice = choose_head(X, labels, groups=groups, progress=False)
        assert choice.name == "forest" and what in choice.note and not len(choice.table) and choice.accuracy is choice.recall is None
        alone = choose_head(X, labels, groups=groups, heads=("logistic",), progress=False)
        assert "not calibrated" in alone.note and alone.estimator.predict_proba(X[:, alone.selected]).shape == (13, len(set(labels)))
        with pytest.raises(ValueError, match="no learning curve"): learning_curve(choice, X)


def test_what_cannot_be_learned():
    E, codes = blobs(6)
    with pytest.raises(ValueError, match="choose 'auto', 'ridge'"): choose_head(E, codes, heads=("forrest",))
    with pytest.raises(ValueError, match="All 12 embeddings are equal"): choose_head(np.ones((12, 5)), codes)
    with pytest.raises(ValueError, match="of one class"): choose_head(E, np.zeros(12, int))


def test_classes_without_spread():
    E = np.repeat(np.eye(3), 6, 0)  # all images of a class are equal
    codes = np.repeat(np.arange(3), 6)
    for name in LINEAR:
        choice = choose_head(E, codes, heads=(name,), progress=False)
        assert choice.accuracy[0] == 1 and np.isfinite(choice.probabilities).all()


def test_a_count_of_features_is_chosen_within_folds():
    E, codes = blobs(30, 3, 60)
    choice = choose_head(E, codes, heads=("lda", "ridge"), n_features=8, progress=False)
    assert len(choice.selected) == 8 and choice.n_features == 8
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((60, 400))
    again = choose_head(noise, np.repeat([0, 1], 30), heads=("lda",), n_features=5, progress=False)
    assert again.table["AUC"]["lda"] < .75, "selection on all images would see the labels of the fold"


def test_the_same_seed_gives_the_same_choice():
    E, codes = blobs(15, 3, apart=.4)
    a, b = (choose_head(E, codes, seed=3, progress=False) for _ in range(2))
    assert a.name == b.name and (a.probabilities == b.probabilities).all()
    assert a.table.drop(columns="seconds").equals(b.table.drop(columns="seconds"))


def test_a_strength_for_those_who_fit_again():
    E, codes = blobs(15, 3, apart=.4)
    choice = choose_head(E, codes, heads=LINEAR, progress=False)
    again = clone(choice.estimator)
    assert again[-1].C in STRENGTHS["logistic"] and type(again[-1]) is LogisticRegression
    assert mean_auc(codes, again.fit(E, codes).predict_proba(E)) > .9


def test_calibration_of_a_fold_does_not_see_the_fold():
    E, codes = blobs(20, 2, apart=.3)
    folds = make_folds(codes)
    [margins] = out_of_fold("ridge", E.astype(float), codes, folds, strengths=(1.,))
    train, test = folds[0]
    other = codes.copy()
    other[test] = 1 - other[test]
    assert (cross_calibrated(margins, codes, folds)[test] == cross_calibrated(margins, other, [(train, test)])[test]).all()


def test_margins_that_say_nothing():
    scale, offsets = fit_calibration(np.zeros((30, 3)), np.repeat([0, 1, 2], [20, 5, 5]))
    assert np.isfinite(scale) and softmax(offsets)[0] > .5


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return ImageSet([np.uint8(np.clip(rng.normal(90 + 30*(i % 2), 40, (48, 48, 3)), 0, 255)) for i in range(24)], ["good", "bad"]*12)


@pytest.fixture(scope="module")
def backbone(): return Backbone(size=64)


def test_a_choice_becomes_a_classifier(backbone, images, tmp_path):
    clf = EmbeddingClassifier.choose(backbone, images, heads=LINEAR, progress=False)
    assert clf.names_ == list(images.names) and clf.knows(images).all() and clf.backbone.bits == 8
    assert clf.classes_.tolist() == ["bad", "good"] and clf.n_features == "all" and clf.choice_.name in LINEAR
    loaded = EmbeddingClassifier.load(clf.save(tmp_path/"model"), backbone=backbone)
    assert (loaded.scores(images) == clf.scores(images)).all() and loaded.names_ == clf.names_ and loaded.knows(images).all()
    ex = Explainer(loaded)(images.images[0])
    assert ex.ranking.name == "exact" and ex.probabilities[ex.prediction] == pytest.approx(clf.scores(images)[0].max(), abs=1e-5)
    E = backbone.embed(images, progress=False)
    table = EmbeddingClassifier.choose(backbone, E, images.labels, heads=LINEAR, progress=False)
    assert table.names_ is None and table.predict(E).tolist() == clf.predict(E).tolist()
    assert set(shuffled_labels(Explainer(clf)).classifier.predict(E)) <= {"good", "bad"}
    assert clone(clf).fit(images).score(images, images.labels) > .8


def test_a_forest_stays_a_plain_forest(backbone, images):
    clf = EmbeddingClassifier.choose(backbone, images, heads=("forest",), progress=False)
    plain = EmbeddingClassifier(backbone, progress=False).fit(images)
    assert type(clf.estimator_) is RandomForestClassifier and clf.selected_.tolist() == plain.selected_.tolist()
    assert (clf.scores(images) == plain.scores(images)).all()


def test_groups_of_an_image_set_are_used(backbone, images):
    E = backbone.embed(images, progress=False)
    clf = EmbeddingClassifier.choose(backbone, E, images.labels, heads=("ridge",), groups=np.arange(24)//2, progress=False)
    for train, test in clf.choice_.folds: assert not set(train//2) & set(test//2)


def test_unlabelled_images_are_refused(backbone, images):
    with pytest.raises(ValueError, match="the label -1, which means unlabelled"):
        EmbeddingClassifier.choose(backbone, images.images, ["good", "bad"]*11 + [-1, -1], progress=False)


def test_a_card():
    card = score_card(["good"]*6 + ["bad"]*4, np.array([[.2, .8]]*5 + [[.9, .1]] + [[.3, .7]]*2 + [[.6, .4]]*2), np.array(["bad", "good"]))
    text = str(card)
    assert text.splitlines()[0] == "defects called good: 2 of 4 (50%); good called a defect: 1 of 6 (17%)"
    assert "right: 7 of 10, 70.0%" in text and "recall, the worst class first: bad 2 of 4 (50%), good 5 of 6 (83%)" in text
    assert card.score_right == pytest.approx((5*.8 + 2*.6)/7) and card.score_wrong == pytest.approx((.9 + 2*.7)/3)
    assert wilson_interval(7, 10) == card.interval


def test_a_card_without_some_class_or_any_mistake():
    card = score_card(["a", "a"], np.array([[.7, .2, .1]]*2), np.array(["a", "b", "c"]))
    assert card.auc is None and "no AUC ROC: No image of class 'b'" in str(card) and np.isnan(card.score_wrong) and "nan" not in str(card)
    wrong = score_card(["a", "b"], np.array([[.2, .8], [.9, .1]]), np.array(["a", "b"]))
    assert wrong.accuracy == 0 and "nan" not in str(wrong) and "This model is weak: it is right in 0%" in str(wrong)


def test_weak_is_said_in_words():
    def card(right, n, auc_scores):
        codes = np.arange(n) % 2
        told = np.where(np.arange(n) < right, codes, 1 - codes)
        p = np.eye(2)[told]*auc_scores + (1 - auc_scores)/2
        return score_card(codes, p, np.array([0, 1]))
    assert "right in 60%" in weakness(card(60, 100, .5)) and weakness(card(95, 100, .5)) == ""


@pytest.mark.parametrize("names, good", [(["Good", "open"], "Good"), (["ok", "good"], None), ([0, 1], None),
                                         (["normal", "crack"], "normal"), (["defect-free", "crack"], None)])
def test_the_good_class(names, good): assert good_class(names) == good


def test_all_heads_are_made():
    for make, n_features in HEADS.values(): assert clone(make(0)) is not None and n_features in ("all", "sqrt")


def test_a_tie_goes_to_the_first():
    codes = np.tile([0, 1], 10)
    folds = make_folds(codes)
    p = np.stack([1 - codes*.6 - .2, codes*.6 + .2], 1)
    assert _pick({"forest": p, "ridge": p}, codes, folds) == "forest" and _pick({"ridge": p, "forest": p}, codes, folds) == "ridge"
    assert _pick({"ridge": p[:, ::-1], "forest": p}, codes, folds) == "forest"
