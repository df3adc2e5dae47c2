"Edge cases of embcam.metrics: parity with plain loops, scikit-learn and grad-cam, ties, empty maps, heads without probabilities."
import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADMostRelevantFirst
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.svm import SVC
from torch import nn

from embcam.judging import FAITHFULNESS, MASK_METRICS, METRICS, embedding_deletion
from embcam.judging.faithfulness import LOW_IS_GOOD, deletion, insertion, removal_curve, road, score_images, sensitivity_n
from embcam.judging.metrics import average_precision, best_iou, pixel_auc, pointing_game, rank_accuracy
from embcam.judging.removal import IMPUTERS, impute_pixels, superpixels, to_input_resolution
from embcam.model import EmbeddingClassifier
from embcam.network import Backbone
from embcam.ranking import Ranking

AREA = np.zeros((40, 40), bool)
AREA[10:20, 10:26] = True  # a tenth of the image
CORNER = np.zeros((32, 32, 3), np.uint8)
CORNER[:16, :16] = 255
REASON = CORNER[..., 0]/255.


class Brightness(ClassifierMixin, BaseEstimator):
    "The probability of 'bright' is the first feature."
    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.unique(y), 1
        return self

    def predict_proba(self, X): return np.c_[X[:, 0], 1 - X[:, 0]]

    def predict(self, X): return self.classes_[(X[:, 0] < .5).astype(int)]


@pytest.fixture(scope="module")
def eye():
    "Averages of the four quarters in three colours."
    quarters = nn.Sequential()
    quarters.add_module("pool", nn.AvgPool2d(16))
    quarters.add_module("flatten", nn.Flatten())
    return Backbone(quarters, target_layers="pool", size=32, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module")
def known(eye):
    head = Brightness().fit(np.eye(2, 1), ["bright", "dark"])
    return EmbeddingClassifier.from_fitted(eye, head, selected=[0], background=np.eye(2, 12), labels=["bright", "dark"])


@pytest.fixture
def relevance(): return gaussian_filter(np.random.default_rng(0).normal(size=(40, 40)), 3) + .05*AREA


@pytest.fixture
def photo(): return np.random.default_rng(1).integers(0, 256, (24, 20, 3)).astype(np.uint8)


@pytest.mark.parametrize("empty", [np.zeros((40, 40)), np.full((40, 40), 3.), np.full((40, 40), -3.), -np.random.default_rng(0).random((40,
    40))])
def test_empty_maps_score_as_chance(empty):
    found = {name: metric(empty, AREA) for name, metric in MASK_METRICS.items()}
    assert found.pop("pixel_auc") == .5
    assert found.pop("pointing_game_15") > .5  # most of such a small image is near the mask
    assert list(found.values()) == pytest.approx([.1]*5)


@pytest.mark.parametrize("name", MASK_METRICS)
def test_scale_mirror_and_transpose_do_not_matter(name, relevance):
    metric = MASK_METRICS[name]
    others = metric(1e-20*relevance, AREA), metric(relevance[:, ::-1], AREA[:, ::-1]), metric(relevance.T, AREA.T)
    assert others == pytest.approx([metric(relevance, AREA)]*3)
    assert metric(AREA*1., AREA) == pytest.approx(1)


@pytest.mark.parametrize("name", MASK_METRICS)
@pytest.mark.parametrize("relevance, mask, message", [
    (np.ones((4, 4)), np.zeros((4, 4)), "mask is empty"), (np.full((4, 4), np.nan), np.eye(4), "NaN"),
    (np.full((4, 4), np.inf), np.eye(4), "infinite"),
    (np.zeros((4, 4, 3)), np.eye(4), r"\(4, 4, 3\)"), (np.zeros(4), np.eye(4), "two axes")])
def test_what_is_no_map_is_refused(name, relevance, mask, message):
    with pytest.raises(ValueError, match=message): MASK_METRICS[name](relevance, mask)


def test_mask_of_the_whole_image():
    values = {name: metric(np.arange(16.).reshape(4, 4), np.ones((4, 4))) for name, metric in MASK_METRICS.items()}
    assert values.pop("pixel_auc") == .5
    assert set(values.values()) == {1.}


def test_parity_with_plain_loops_and_scikit_learn(relevance):
    "Relevance is rounded, so that there are many ties."
    rng = np.random.default_rng(0)
    coarse, small = np.round(4*relevance[8:24, 8:24]/relevance.max()), AREA[8:24, 8:24]
    pairs = np.mean([(a > b) + .5*(a == b) for a in coarse[small] for b in coarse[~small]])
    assert [pixel_auc(coarse, small), roc_auc_score(small.ravel(), coarse.ravel())] == pytest.approx([pairs]*2)
    assert average_precision(coarse, small) == pytest.approx(average_precision_score(small.ravel(), coarse.ravel()))
    assert best_iou(coarse,
                    small) == pytest.approx(max(((coarse >= t) & small).sum()/((coarse >= t) | small).sum() for t in np.unique(coarse)))
    orders = [np.lexsort((rng.random(coarse.size), -coarse.ravel()))[:small.sum()] for _ in range(1000)]
    assert rank_accuracy(coarse, small) == pytest.approx(np.mean([small.ravel()[order].mean() for order in orders]), abs=.01)
    near = [np.hypot(*(np.argwhere(AREA) - at).T).min() <= 4 for at in np.argwhere(relevance == relevance.max())]
    assert pointing_game(relevance, AREA, 4) == np.mean(near)


def test_a_small_map_is_resized_to_its_mask():
    assert pixel_auc(np.kron(np.eye(2), np.ones((5, 5))), np.kron(np.eye(2), np.ones((50, 50)))) > .99


def test_scores_of_a_head_without_probabilities(eye):
    margin = EmbeddingClassifier.from_fitted(eye, SVC().fit([[0.], [.2], [.8], [1.]], list("ddbb")), [0], np.eye(2, 12), list("bd"))
    assert np.diff(score_images(margin, [CORNER, CORNER//2, 0*CORNER], "d")).min() > 0  # darker is more "d"
    assert margin.scores(np.eye(2, 12)).sum(1) == pytest.approx(1)


@pytest.mark.parametrize("shape, shown", [((480, 640), (32, 43)), ((640, 480), (43, 32)), ((32, 32), (32, 32)), ((20, 500), (20, 500))])
def test_only_large_images_are_reduced(eye, shape, shown):
    assert to_input_resolution(np.zeros((*shape, 3), np.uint8), eye).shape == (*shown, 3)


@pytest.mark.parametrize("fill", IMPUTERS)
def test_imputation(fill, photo):
    removed = np.random.default_rng(2).random(photo.shape[:2]) < .4
    one = impute_pixels(photo, removed, fill)
    assert one.dtype == np.uint8 and (one[~removed] == photo[~removed]).all() and (one[removed] != photo[removed]).any()
    assert (one == impute_pixels(photo, removed, fill)).all()  # seeded
    assert (impute_pixels(photo, np.zeros_like(removed), fill) == photo).all()
    assert impute_pixels(photo, np.ones_like(removed), fill).std() < photo.std()  # everything can go


def test_unknown_fill(photo):
    with pytest.raises(ValueError, match="fill='black'"): impute_pixels(photo, np.ones(photo.shape[:2], bool), "black")


def test_noisy_imputation_is_exact_on_a_ramp_and_equals_grad_cam(photo):
    noisy, rng = IMPUTERS["noisy"], np.random.default_rng(0)
    ramp, hole = np.repeat(np.uint8(np.arange(0, 240, 8))[None, :, None], 30, 0).repeat(3, 2), np.zeros((30, 30), bool)
    hole[8:20, 8:20] = True
    assert noisy(ramp, hole, rng, noise=0) == pytest.approx(ramp.astype(float), abs=1e-6)
    removed = rng.random(photo.shape[:2]) < .4
    theirs = NoisyLinearImputer(noise=0)(torch.tensor(photo.transpose(2, 0, 1)/255.).float(), torch.tensor(~removed).float())
    assert noisy(photo, removed, rng, noise=0)/255 == pytest.approx(theirs.permute(1, 2, 0).numpy(), abs=1e-5)


def test_areas_of_a_known_classifier(known):
    "The white quarter is a quarter of the image; its mean is 64 of 255."
    ends, quarter = dict(image=CORNER, classifier=known, label="bright", steps=4), 64/255
    low, high = .25*(1/2 + quarter*3.5), .25*(1/2 + 3 + quarter/2)
    found = [metric(m, **ends) for metric in (deletion, insertion) for m in (REASON, 1 - REASON)]
    assert found == pytest.approx([low, high, high, low], abs=1e-6)
    assert insertion(-REASON, **ends) == insertion(0*REASON, **ends)  # both empty: the same random order
    assert np.mean([deletion(0*REASON, **ends, seed=seed) for seed in range(20)]) == pytest.approx((1 + quarter)/2, abs=.01)
    assert road(REASON, CORNER, known, "bright") < road(REASON, CORNER, known, "bright", first="least")
    with pytest.raises(ValueError, match="first='worst'"): removal_curve(REASON, CORNER, known, "bright", [0], first="worst")


def test_exactly_the_wanted_share_is_removed_of_a_sparse_map(known):
    "Most values are zero: the grad-cam package removes everything (as Quantus did, #333); here ties are drawn."
    sparse = np.zeros((32, 32), np.float32)
    sparse[0] = 1
    remover = ROADMostRelevantFirst(percentile=80).perturbation
    remover.imputer = lambda image, kept: kept  # what it would hand to the imputer
    assert remover(torch.zeros(3, 32, 32), torch.tensor(sparse)).sum() == 0
    white = np.full((32, 32, 3), 255, np.uint8)
    white[:, 16:] = 0  # its mean is grey: what is removed of the white quarter is seen in the score
    curves = np.array([removal_curve(sparse, white, known, "bright", [0, 16/1024, 32/1024, .2], seed=seed) for seed in range(30)])
    lost = (1 - curves)*256/(1 - 128/255)  # white pixels of the quarter that went
    assert lost[:, 0] == pytest.approx(0, abs=1e-4)
    assert lost[:, 2] == pytest.approx(16, abs=1e-3)  # first the row that matters, which has 16 pixels in the quarter, ...
    assert np.ptp(lost[:, 1]) > 0 and lost[:, 1].mean() == pytest.approx(8, abs=1.5)  # ... in a random order ...
    assert np.ptp(lost[:, 3]) > 0
    assert lost[:, 3].mean() == pytest.approx(16 + (.2*1024 - 32)*240/992, abs=3)  # ... and then the rest at random


def test_sensitivity_n(known):
    ends = dict(image=CORNER, classifier=known, label="bright")
    assert sensitivity_n(REASON, **ends) == pytest.approx(1, abs=1e-3)
    assert sensitivity_n(1 - REASON, **ends) < -.5
    assert sensitivity_n(0*REASON, **ends) == 0
    assert (np.unique(superpixels(CORNER)) == np.arange(superpixels(CORNER).max() + 1)).all()


def test_embedding_deletion(eye, known):
    e = eye.embed([CORNER], progress=False)[0]
    assert embedding_deletion(e, Ranking(np.array([0]), np.ones(1), "by hand"), known, "bright") == pytest.approx([1, .5])
    assert e[0] == pytest.approx(1)  # the embedding that was passed in stays as it was


def test_names():
    assert set(METRICS) == set(MASK_METRICS) | set(FAITHFULNESS)
    assert set(LOW_IS_GOOD) == {"deletion_mean", "deletion_blur", "deletion_noisy", "road_most"}
