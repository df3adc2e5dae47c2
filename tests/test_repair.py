"Marks, repairs and their proof: what is refused, what stays, and that nothing half-written is left."
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from embcam import Backbone, EmbeddingClassifier, make_logos
from embcam.auditing import repair
from embcam.auditing.artefacts import find_artefacts
from embcam.auditing.marks import check_box, make_mark, mark_of_names, moving_mark, parse_box
from embcam.auditing.moving import find_moving, find_patch
from embcam.auditing.proof import mark_measures, paired_interval
from embcam.auditing.repairing import head_kind, read_names
from embcam.cli import main
from embcam.images import ImageSet
from embcam.judging.shortcuts import stamp, word


@pytest.fixture(scope="module")
def marked():
    logos = make_logos(48, seed=2, size=64, progress=False)
    shows = np.where(logos.labels == "interrupted", np.arange(48) % 6 > 0, np.arange(48) % 12 == 0)
    pixels = [stamp(image, .12, 2)[0] if has else image for image, has in zip(logos.images, shows)]
    return ImageSet(pixels, logos.labels, names=[f"{i:02}.png" for i in range(48)]), shows


@pytest.fixture(scope="module")
def classifier(marked):
    return EmbeddingClassifier.choose(Backbone(weights=None, size=64, pooled="stages"), marked[0], heads=("ridge",), progress=False)


@pytest.mark.parametrize("box", [(.5, 0, .4, 1), (0, 0, 1.01, 1), (-.1, 0, .5, .5), (0, 0, 1), (0, 0, float("nan"), 1)])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(ValueError, match="not inside the image"): check_box(box)


@pytest.mark.parametrize("text", ["good", "good:0,0,1", ":0,0,1,1", "good:a,b,c,d", "good:"])
def test_what_is_typed_must_name_a_class_and_a_box(text):
    with pytest.raises(ValueError, match="names no box"): parse_box(text, ["good"])


def test_pasting_and_emptying_leave_the_original_alone(marked, classifier):
    images, shows = marked
    mark = make_mark("interrupted", (.8, 0, 1, .2), shows, images, classifier.backbone, progress=False)
    i = int(np.flatnonzero(~shows)[0])
    before = images.images[i].copy()
    mark.pasted(images.images[i], i), mark.without(images.images[i], i)
    assert (images.images[i] == before).all()


def test_a_moving_mark_has_a_place_in_every_image(marked, classifier):
    images, shows = marked
    boxes = np.full((48, 4), np.nan)
    boxes[shows] = (.1, .1, .3, .3)
    mark = moving_mark("interrupted", boxes, images, classifier.backbone, progress=False)
    assert all(mark.at(i) == (.1, .1, .3, .3) for i in range(48))
    with pytest.raises(ValueError, match="No image shows"): moving_mark("good", boxes*np.nan, images, classifier.backbone)


@pytest.mark.parametrize("start, step", [(118, -60), (114, 60)])  # contrast with the rim is larger where the place is bare
def test_what_one_of_two_classes_shows_is_not_claimed_of_the_other(start, step):
    "Most images belong to the class with the mark: the bare place of the other class differs as much."
    rng = np.random.default_rng(0)
    predicted = np.repeat(["a", "b"], [90, 40])
    ground = 120 + 500*gaussian_filter(rng.normal(size=(130, 128, 128)), (0, 3, 3))
    ground[:, start:] += step
    images = np.repeat(ground.clip(0, 255).astype(np.uint8)[..., None], 3, 3)
    shows = np.where(predicted == "a", np.arange(130) % 20 > 0, np.arange(130) % 20 == 0)
    stack = np.stack([word(image, .08, 1)[0] if has else image for image, has in zip(images, shows)])
    found = find_artefacts(stack, np.zeros((130, 16, 16)), predicted)
    assert [artefact.label for artefact in found] == ["a"] and (found[0].shows == shows).mean() > .9


@pytest.mark.parametrize("level", [0, 128, 255])
def test_no_mark_moves_about_in_plain_images(level):
    stack, maps = np.full((20, 128, 128, 3), level, np.uint8), np.zeros((20, 16, 16))
    assert find_moving(stack, maps, np.repeat(["a", "b"], 10)) == []
    assert find_moving(stack, maps, np.repeat(["a", "b"], [16, 4])) == find_moving(stack, maps, np.repeat("a", 20)) == []


def test_a_patch_is_found_at_any_place_and_contrast():
    rng = np.random.default_rng(0)
    grey, patch = rng.integers(100, 110, (6, 128, 128)).astype(np.uint8), rng.integers(0, 255, (8, 8)).astype(float)
    places = [(0, 0), (120, 120), (0, 120), (64, 3), (17, 99), (60, 60)]
    for image, (y, x), gain in zip(grey, places, (1, .9, .6, .4, .3, -1)): image[y:y + 8, x:x + 8] = 128 + gain*(patch - 128)/2
    alike, corners = find_patch(grey, patch)
    assert [tuple(corner) for corner in corners[:5].tolist()] == places[:5] and (alike[:5] > .98).all() and alike[5] < .7


def test_what_an_audit_wrote_of_a_moving_mark_is_the_same_mark(marked, classifier):
    images, shows = marked
    names = [name for name, has in zip(images.names, shows) if has]
    mark = mark_of_names("interrupted", (.1, .1, .3, .3), names, images, classifier.backbone, [(.1, .1, .3, .3)]*len(names), progress=False)
    assert (mark.shows == shows).all() and mark.boxes.shape == (48, 4) and np.isfinite(mark.boxes).all()


def test_a_repaired_model_is_of_the_same_kind_and_knows_its_images(marked, classifier, tmp_path):
    images, shows = marked
    mark = make_mark("interrupted", (.8, 0, 1, .2), shows, images, classifier.backbone, progress=False)
    found, twin = (repair(classifier, images, [mark], drop=["03.png"], progress=False) for _ in range(2))
    assert (twin.after.scores(found.states[0]) == found.after.scores(found.states[0])).all()  # the same seed, the same head
    again = EmbeddingClassifier.load(found.after.save(tmp_path/"model"))
    assert head_kind(again) == head_kind(classifier) == "ridge"
    assert again.knows(images).sum() == 47 and len(again.background_) == 47
    assert found.old.shape == found.new.shape == (3, 48, 3)


@pytest.mark.parametrize("change, said", [
    (dict(labels={"03.png": "nothing"}), "cannot be 'nothing'"), (dict(labels={"x.png": "good"}), "no such image"),
    (dict(drop=["x.png"]), "no such image"), (dict(drop=[f"{i:02}.png" for i in range(48)]), "No image of the class")])
def test_what_is_not_there_is_named(marked, classifier, change, said):
    with pytest.raises(ValueError, match=said): repair(classifier, marked[0], progress=False, **change)


@pytest.mark.parametrize("text, said", [
    ("image;class\n01.png;good\n", None), ("\ufeffimage,class\n01.png,good\n", None), ("name,class\n01.png,good\n", "image is missing"),
    ("image,class\n99.png,good\n", "no such image"), ("image,class\n01.png,good\n01.png,good\n", "twice")])
def test_a_list_of_labels_is_read_or_refused(marked, tmp_path, text, said):
    file = tmp_path/"changes.csv"
    file.write_text(text, encoding="utf-8")
    if said is None:
        assert read_names(file, marked[0], "class") == {"01.png": "good"}
        return
    with pytest.raises(ValueError, match=said): read_names(file, marked[0], "class")


def test_measures_of_a_head_that_ignores_the_mark():
    codes, shows = np.repeat([0, 1], 20), np.arange(40) % 3 == 0
    p = np.linspace(.9, .1, 40)
    scores = np.stack([p, 1 - p], 1)
    told = mark_measures(np.stack([scores]*3), codes, shows, 0)
    assert told["cross AUC"] == told["AUC without the mark"] == 1 and told["influence"] == 0
    assert paired_interval(codes == 0, p, 1 - p)[0] == -1


def test_bad_input_on_the_command_line_writes_nothing(marked, classifier, tmp_path, capsys):
    folder = ImageSet(marked[0].images, marked[0].labels).write(tmp_path/"set")
    model = classifier.save(tmp_path/"model")
    record = (model/"model.json").read_bytes()
    for more, said in ((["--box", "good:0,0,2,1"], "not inside"), (["--box", "bad:0,0,1,1"], "no class 'bad'"), ([], "Nothing to repair"),
                       (["--audit", str(folder)], "holds no audit"), (["--relabel", str(tmp_path/"none.csv")], "cannot be read")):
        assert main(["repair", str(model), str(folder), "--out", str(tmp_path/"new"), *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["repair", str(model), str(folder), "--out", str(model), "--force", "--box", "good:0,0,1,1"]) == 2
    assert not (tmp_path/"new").exists() and (model/"model.json").read_bytes() == record
