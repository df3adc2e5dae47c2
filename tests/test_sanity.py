"Edge cases of embcam.sanity: what is randomised, what is compared, and what is the same to a person."
import warnings

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import families
from embcam.explanation import Explainer
from embcam.images import make_logos
from embcam.judging import Baseline, input_stability, randomization_test, shuffled_labels
from embcam.judging.sanity import map_similarity, perturbations, randomised_layers, redrawn_share
from embcam.model import EmbeddingClassifier
from embcam.network import Backbone


@pytest.fixture(scope="module")
def logos(): return make_logos(24, seed=0, size=64, progress=False)


@pytest.fixture(scope="module")
def explain(logos):
    forest = RandomForestClassifier(20, random_state=0)
    return Explainer(EmbeddingClassifier(Backbone(size=64), forest, n_features=8, progress=False).fit(logos), top=5, samples=100)


def test_the_network_of_the_explainer_stays(explain):
    before = {name: t.clone() for name, t in explain.classifier.backbone.network.state_dict().items()}
    cascade = randomised_layers(explain)
    assert list(cascade) == list(explain.classifier.backbone.target_layers)[::-1]
    assert all((before[name] == t).all() for name, t in explain.classifier.backbone.network.state_dict().items())


def with_scales(): return families.of_timm("vit_tiny_patch16_224", img_size=64, depth=6, init_values=1e-5, reg_tokens=4)


NETWORKS = ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "densenet121", "efficientnet_lite0", families.vit, families.swin,
            families.maxvit, with_scales, "timm/convnext_atto", "timm/mobilevitv2_050"]


@pytest.mark.parametrize("arch", NETWORKS)
def test_everything_is_redrawn(arch):
    "Also what no module resets: attention's inner weights, positions, tokens, scales of layers, blocks behind the last target layer."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # untrained
        torch.manual_seed(0)
        weights = "auto" if arch == "efficientnet_lite0" else None
        size = 112 if arch == families.maxvit else 64
        backbone = Backbone(arch(), size=size) if callable(arch) else Backbone(arch, weights, size=size)
    images = make_logos(12, seed=0, size=64, progress=False)
    background = np.random.default_rng(0).random((12, backbone.n_features), np.float32)
    head = LogisticRegression().fit(background, images.labels)
    clf = EmbeddingClassifier.from_fitted(backbone, head, np.arange(backbone.n_features), background, images.labels)
    cascade = list(randomised_layers(Explainer(clf)).values())
    shares = [redrawn_share(backbone.network, other.classifier.backbone.network) for other in cascade]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1
    x = torch.zeros(1, 3, size, size)
    with torch.inference_mode(): assert torch.isfinite(cascade[-1].classifier.backbone.network(x)).all()


def test_verdicts(explain, logos):
    blind = randomization_test(Baseline(explain.classifier, "edges"), logos[:3], progress=False)
    assert set(blind.loc[blind["check"] == "unrelated image", "verdict"]) == {""}
    assert set(blind.loc[blind["check"] != "unrelated image", "verdict"]) == {"failed"}
    chance = randomization_test(Baseline(explain.classifier, "random map"), logos[:3], progress=False)
    assert set(chance["verdict"]) <= {"", "passed", "failed"}


def test_shuffled_labels_are_the_same_labels(explain):
    other = shuffled_labels(explain).classifier
    assert sorted(other.labels_) == sorted(explain.classifier.labels_) and list(other.labels_) != list(explain.classifier.labels_)


def test_similarity_of_maps_that_are_constant():
    ramp = np.arange(12.).reshape(3, 4).repeat(4, 0).repeat(4, 1)
    assert map_similarity(0*ramp, 0*ramp) == dict(spearman=1, ssim=1, change=0)
    assert [map_similarity(ramp, 0*ramp)[key] for key in ("spearman", "change")] == [0, 1]
    assert list(map_similarity(ramp, 5*ramp).values()) == pytest.approx([1, 1, 0])


def test_perturbations(logos):
    image = logos.images[0]
    kinds = {kind: other for kind, other, _ in perturbations(image, draws=1)}
    assert set(kinds) == {"noise", "shift", "JPEG"}
    for kind in "noise", "JPEG": assert 0 < np.abs(kinds[kind] - image.astype(float)).mean() < 10
    assert (kinds["shift"][3:, 3:] == image[:-3, :-3]).all()


def test_maps_that_do_not_look_at_the_network_are_found_out(explain, logos):
    blind = randomization_test(Baseline(explain.classifier, "edges"), logos[:2], progress=False)
    assert blind.loc[blind["check"] != "unrelated image",
                     "spearman"].tolist() == pytest.approx([1]*int((blind["check"] != "unrelated image").sum()))
    with pytest.raises(ValueError, match="two or more"): randomization_test(explain, logos[:1], progress=False)


def test_maps_that_do_not_look_at_the_image_are_steady(explain, logos):
    blind = input_stability(Baseline(explain.classifier, "centre prior"), logos[:1], draws=1, progress=False).set_index("check")
    assert blind.loc[["seed", "noise", "JPEG"], "change"].tolist() == pytest.approx([0]*3)
