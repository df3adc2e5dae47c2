"Two folders that cannot be compared, groups, and what is found by the classifier alone."
import json

import numpy as np
import pytest

from embcam.auditing import find_drift
from embcam.auditing.drift import deal_again, rank_auc
from embcam.images import ImageSet, make_logos
from embcam.network import Backbone

NAMES = ("before", "after")


@pytest.fixture(scope="module")
def prints():
    return make_logos(40, seed=2, size=64, progress=False).images


@pytest.fixture(scope="module")
def backbone():
    return Backbone(size=64, pooled="stages")


def of(images, groups=None):
    return ImageSet(images, ["x"]*len(images), groups=groups)


WRONG = [
    (lambda p: ([], p), "before holds no images"),
    (lambda p: (p, p[:1]), "after holds 1 image:"),
    (lambda p: (p, p), "hold the same images"),
    (lambda p: (p[:20], [image[:50] for image in p[20:]]), "before are 64 x 64 pixels, those of after 64 x 50"),
    (lambda p: (of(p[:20], range(20)), p[20:]), "One folder has groups"),
    (lambda p: (of(p[:20], ["a"]*20), of(p[20:], range(20))), "is a single group"),
    (lambda p: (of(p[:20], ["a"]*20), of(p[20:], ["a"]*20)), "Only one group"),
]


@pytest.mark.parametrize("make, message", WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_compared(make, message, prints, backbone):
    with pytest.raises(ValueError, match=message): find_drift(backbone, *make(prints), NAMES, progress=False)
    with pytest.raises(ValueError, match="called 'a'"): find_drift(backbone, prints[:20], prints[20:], ("a", "a"))


def test_too_few_prove_nothing(prints, backbone):
    found = find_drift(backbone, prints[:2], prints[2:4], times=50, progress=False)
    assert "only 6 ways" in found.notes[0] and not found.changed and not found.heat.any()


def test_a_change_all_over_is_told(prints, backbone, tmp_path):
    negative = [255 - image for image in prints[20:]]
    found = find_drift(backbone, prints[:20], negative, times=199, seed=1, progress=False)
    assert found.changed and found.auc > np.quantile(found.auc_dealt, .95)
    record = json.loads((found.save(tmp_path/"out")/"drift.json").read_text(encoding="utf-8"))
    assert record["classifier"]["auc"] == found.auc and len(found.table) == 40 and len(found.maps) == 10


def test_shared_images_and_a_draw_are_noted(prints, backbone):
    found = find_drift(backbone, prints[:25], prints[20:], most=18, times=50, progress=False)
    assert "10 images lie in both folders" in found.notes[0] and "18 of 25 and 18 of 20" in found.notes[1]


def test_groups_move_as_a_whole(prints, backbone):
    groups = np.repeat(range(10), 2)
    found = find_drift(backbone, of(prints[:20], groups), of(prints[20:], groups + 10), times=50, progress=False)
    assert "Groups move as a whole: 10 of the first folder, 10 of the second." in found.notes


def test_false_alarms_are_as_many_as_promised():
    "Numbers without a difference: p is uniform, whatever the sizes of the groups."
    rng, small = np.random.default_rng(0), 0
    for draw in range(200):
        groups = np.repeat(range(12), rng.integers(1, 4, 12))
        values = rng.normal(size=12)[groups] + .1*rng.normal(size=len(groups))
        is_b = groups >= 6
        dealt, _ = deal_again(is_b, groups, 99, draw)
        auc = rank_auc(np.tile(values, (100, 1)), dealt)
        small += np.mean(auc >= auc[0]) <= .05
    assert small <= 20  # 10 are expected
