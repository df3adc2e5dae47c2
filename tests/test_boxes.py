"Edge cases of embcam.boxes, and the COCO file read by pycocotools."
import json

import numpy as np
import pytest
from matplotlib.path import Path as MplPath
from skimage.transform import resize

from embcam.maps import Place, boxes_on_mask, coco_record, relevance_mask, relevance_places
from embcam.maps.boxes import polygons


@pytest.fixture
def maps():
    shapes = (20, 30), (31, 17), (8, 8)
    return [np.random.default_rng(seed).normal(size=shape).cumsum(0).cumsum(1) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("share", [.01, .25, .5, .9, 1])
def test_mask_holds_the_share_and_not_a_pixel_more(maps, share):
    for m in maps:
        positive, mask = np.clip(m, 0, None), relevance_mask(m, share)
        if not positive.any(): continue
        assert positive[mask].sum() >= share*positive.sum()*(1 - 1e-9)
        assert positive[mask & (positive > positive[mask].min())].sum() < share*positive.sum()
        assert not mask[positive == 0].any()


def test_scale_does_not_matter(maps):
    for m in maps: assert (relevance_mask(m, .5) == relevance_mask(m.astype(np.float32)*1e-6, .5)).mean() > .99


@pytest.mark.parametrize("share", [0, -.1, 1.01, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match="share="): relevance_mask(np.ones((2, 2)), share)


def test_places_are_apart_and_add_up(maps):
    for m in maps:
        places = relevance_places(m, .5, 0)
        if not places: continue
        assert np.array_equal(np.any([p.mask for p in places], axis=0), relevance_mask(m, .5))
        assert sum(p.mask.sum() for p in places) == relevance_mask(m, .5).sum()
        assert [p.score for p in places] == sorted((p.score for p in places), reverse=True)
        for p in places:
            x0, y0, x1, y1 = p.box
            assert p.mask[y0:y1, x0:x1].sum() == p.mask.sum()
            assert p.mask[y0].any() and p.mask[y1 - 1].any() and p.mask[:, x0].any() and p.mask[:, x1 - 1].any()


def test_corners_touch():
    assert len(relevance_places(np.eye(4), 1)) == 1


def test_nothing_positive():
    assert relevance_places(-np.ones((3, 3))) == [] and not relevance_mask(np.zeros((3, 3))).any()


def test_boxes_far_from_the_mask():
    mask = np.zeros((10, 10), bool)
    mask[8:, 8:] = True
    assert boxes_on_mask([Place((0, 0, 2, 2), 1., mask)], mask) == (0, 0)


def test_one_image_without_places():
    record = coco_record([("a.png", 1, [])], [0, 1], [(4, 6)])
    assert record["annotations"] == [] and record["images"] == [dict(id=1, file_name="a.png", width=6, height=4)]
    assert [c["name"] for c in record["categories"]] == ["0", "1"]


def test_pycocotools_reads_it(maps, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    classes = ["good", "<open>"]
    record = coco_record([(f"{i}.png", classes[i % 2], relevance_places(m)) for i, m in enumerate(maps)], classes, [m.shape for m in maps])
    (tmp_path/"boxes.json").write_text(json.dumps(record), encoding="utf-8")
    read = coco.COCO(tmp_path/"boxes.json")
    assert sorted(read.getImgIds()) == [1, 2, 3] and [c["name"] for c in read.loadCats(read.getCatIds())] == classes
    for i, m in enumerate(maps, 1):
        annotations, places = read.loadAnns(read.getAnnIds(imgIds=i)), relevance_places(m)
        assert len(annotations) == len(places) > 0
        for annotation, place in zip(annotations, places):
            assert np.array_equal(read.annToMask(annotation).astype(bool), place.mask) and isinstance(annotation["segmentation"][0], list)
            x, y, w, h = annotation["bbox"]
            assert (x, y, x + w, y + h) == place.box and annotation["area"] == place.mask.sum()


def inside(rows, shape):
    "Pixels whose middle lies in an odd number of polygons; each pixel in one at most."
    points = np.stack(np.meshgrid(np.arange(shape[1]) + .5, np.arange(shape[0]) + .5), -1).reshape(-1, 2)
    found = np.sum([MplPath(np.reshape(row, (-1, 2)), closed=False).contains_points(points) for row in rows], axis=0)
    assert np.max(found) <= 1
    return np.reshape(found > 0, shape)


@pytest.mark.parametrize("seed", range(40))
def test_polygons_are_the_mask(seed):
    "Holes, holes in holes, pixels that touch at corners, edges of the image; by another library, and by COCO's own."
    rng = np.random.default_rng(seed)
    mask = resize(rng.random((6, 8)), (24, 33), order=seed % 2) > .4 if seed % 4 else rng.random((9, 13)) > .5
    rows = polygons(mask)
    assert np.array_equal(inside(rows, mask.shape), mask)
    coco = pytest.importorskip("pycocotools.mask")
    own = sum(coco.decode(coco.frPyObjects([row], *mask.shape))[..., 0].astype(int) for row in rows)
    assert np.array_equal(own, mask)
