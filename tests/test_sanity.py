"Edge cases of embcam.sanity: what is randomised, what is compared, and what is the same to a person."
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from embcam.explanation import Explainer
from embcam.images import make_logos
from embcam.judging import Baseline, input_stability, randomization_test, shuffled_labels
from embcam.judging.sanity import map_similarity, perturbations, randomised_layers
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
