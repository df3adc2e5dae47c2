"Edge cases of embcam.auditing."
import html
import json
import shlex

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from embcam.auditing import audit, find_artefacts, find_label_issues, find_near_duplicates, find_outliers, group_near_duplicates
from embcam.auditing.artefacts import _SIDE, blur_out, pixel_stack
from embcam.auditing.atlas import audit_explainer, explain_all, group_explanations
from embcam.auditing.label_issues import LabelIssues, _labelled_two_ways
from embcam.explorer.server import open_explorer
from embcam.explorer.server import groups_in
from embcam.images import ImageSet, load_folder
from embcam.model import EmbeddingClassifier, logistic_head, svm_head
from embcam.network import Backbone

PARTS = {"artefacts": ["class", "images", "box", "features", "auc_with", "auc_without"],
         "label_issues": ["image", "given", "likely", "score", "near_duplicate"],
         "near_duplicates": ["images", "clearness", "mirrored", "across_split"],
         "outliers": ["image", "distance"], "atlas": ["feature", "name", "images"]}


def draw(n, seed=0, marked=()):
    "Bright and dark noise in two classes; those that are marked carry a cross in the upper left corner."
    rng = np.random.default_rng(seed)
    labels = np.array(["dark", "light"])[np.arange(n) % 2]
    images = []
    for c in labels:
        coarse = rng.normal(90 + 40*(c == "light"), 12, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
        images.append(np.uint8(np.clip(coarse + rng.normal(0, 6, (64, 64, 3)), 0, 255)))
    for i in marked:
        images[i][2:14, 2:14] = 250
        images[i][7:9, 2:14] = 0
    return ImageSet(images, labels)


@pytest.fixture(scope="module")
def backbone(): return Backbone(size=64, pooled="stages")


def fitted(backbone, images, head=None, n="all"):
    return EmbeddingClassifier(backbone, logistic_head() if head is None else head, n, progress=False).fit(images)


@pytest.mark.parametrize("head, n", [(None, "all"), (svm_head(), "all"), (RandomForestClassifier(10, random_state=0), 8)])
def test_any_head(backbone, head, n, tmp_path):
    images = draw(30)
    found = audit(fitted(backbone, images, head, n), images, progress=False)
    out = found.save(tmp_path/"audit")
    record = json.loads((out/"audit.json").read_text())
    assert {part: list(PARTS[part]) for part in record} == PARTS
    for part, rows in record.items(): assert all(list(row) == PARTS[part] for row in rows)
    assert len(found.table) == 30 and found.strategies["images"].sum() == 30
    text = (out/"index.html").read_text()
    assert "<script" not in text and 'src="http' not in text
    assert ("gives no probabilities" in repr(found)) == (found.classifier.head_.score_kind != "probability")


def test_from_the_page_to_the_explorer(backbone, tmp_path):
    "The page names the command; with it every image that the audit names can be opened, training images included."
    images = draw(24)
    for image, name in zip(images.images, images.names):
        (tmp_path/"my photos"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path/"my photos"/name)
    images = load_folder(tmp_path/"my photos", progress=False)
    fitted(backbone, images[::2]).save(tmp_path/"model")
    found = audit(fitted(backbone, images[::2]), images, progress=False)
    out = found.save(tmp_path/"audit", model=tmp_path/"model", folder=tmp_path/"my photos")
    command = shlex.split(html.unescape((out/"index.html").read_text()).split("in the explorer: ")[1].split("</p>")[0])
    assert command == ["embcam", "explore", str(tmp_path/"model"), str(tmp_path/"my photos"), "--audit", str(out)]
    x = open_explorer(command[2], command[3], audit=command[5])
    assert {heading: [images.names[i] for i in where] for heading, where in x.gallery.groups.items()} == found.groups
    assert len(x.gallery.names) == 24
    heading = f"feature {found.atlas['name'][2]}"
    x.wait()
    x.gallery.among.value = heading
    x.wait()
    x.gallery.buttons[1].click()
    x.wait()
    assert x.gallery.names[x.state.drawn.image] == found.groups[heading][1] and x.feature.choose.value == found.atlas["feature"][2]
    x.close()


NO_NAMES = '{"artefacts": [], "label_issues": [{}], "near_duplicates": [], "outliers": [], "atlas": []}'


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"artefacts": 3}', NO_NAMES, "\xff"])
def test_what_is_no_audit(tmp_path, text):
    with pytest.raises(ValueError, match="no finished audit"): groups_in(tmp_path, ["a.png"])
    (tmp_path/"audit.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="no finished audit"): groups_in(tmp_path, ["a.png"])


def test_nothing_found_is_said(backbone):
    images = draw(24)
    found = audit(fitted(backbone, images), images, progress=False)
    for words in ("No artefact", "No near duplicates", "No outliers", "There are no masks", "training images"):
        assert words in repr(found), words
    assert "<li>" in found._repr_html_()
    written = [text.get_text() for text in found.show().texts]
    assert written == ([] if found.groups.keys() & {"label issues", "outliers"} else ["nothing found"])


def test_few_images_and_one_class(backbone):
    images = draw(24)
    classifier = fitted(backbone, images)
    few = images[[0, 1, 2, 3, 4, 5, 6]]
    assert "Fewer than 10 images: dark (4), light (3)" in repr(audit(classifier, few, progress=False))
    one = images[images.labels == "dark"]
    found = audit(classifier, one, progress=False)
    assert "are of one class, dark" in repr(found) and found.label_issues.empty and found.artefacts.empty
    single = audit(classifier, images[[3]], progress=False)
    assert len(single.table) == 1 and single.near_duplicates.empty


def test_classes_that_the_model_does_not_know(backbone):
    images = draw(24)
    strange = ImageSet(images.images, np.where(images.labels == "dark", "<night>", "light"), names=images.names)
    found = audit(fitted(backbone, images), strange, progress=False)
    assert "knows no class <night>" in repr(found) and "<night>" not in found._repr_html_()


def test_images_without_labels(backbone):
    images = draw(24)
    with pytest.raises(TypeError, match="load_folder"): audit(fitted(backbone, images), images.images, progress=False)


def test_goes_on_where_it_was_stopped(backbone, tmp_path, monkeypatch):
    images, calls = draw(24), []
    classifier = fitted(backbone, images)
    from embcam.auditing import atlas as room
    one = room._explain_one

    def stopping(explainer, source):
        if len(calls) == 10: raise KeyboardInterrupt
        calls.append(source)
        return one(explainer, source)
    monkeypatch.setattr(room, "_explain_one", stopping)
    with pytest.raises(KeyboardInterrupt): audit(classifier, images, tmp_path/"audit", progress=False)
    monkeypatch.setattr(room, "_explain_one", lambda *a: calls.append(a) or one(*a))
    first = audit(classifier, images, tmp_path/"audit", progress=False)
    assert len(calls) == 24
    again = audit(classifier, images, tmp_path/"audit", progress=False)
    assert len(calls) == 24 and first.to_dict() == again.to_dict()
    first.save(tmp_path/"audit")  # the folder was begun by the audit itself
    with pytest.raises(FileExistsError): first.save(tmp_path/"audit")


def test_a_folder_of_somebody_else_is_not_touched(backbone, tmp_path):
    (tmp_path/"mine").mkdir()
    (tmp_path/"mine/a.txt").write_text("a")
    images = draw(24)
    with pytest.raises(FileExistsError, match="no audit"): audit(fitted(backbone, images), images, tmp_path/"mine", progress=False)
    assert [f.name for f in (tmp_path/"mine").iterdir()] == ["a.txt"]


def test_another_model_explains_anew(backbone):
    images, kept = draw(24), {}
    explain_all(audit_explainer(fitted(backbone, images)), images.images, kept, progress=False)
    explain_all(audit_explainer(fitted(backbone, images, logistic_head(C=1.))), images.images, kept, progress=False)
    assert len(kept) == 48


def test_an_artefact_and_the_same_thing_in_both_classes():
    "A mark of one class is an artefact; one that both classes carry is none."
    n = 60
    labels = np.where(np.arange(n) % 4 < 2, "a", "b")  # bright and dark ones in both classes
    mine = np.flatnonzero(labels == "a")[:26]
    maps = np.full((n, 14, 14), .1)
    maps[:, 1, 1] = 5.
    for marked, expected in ((mine, 1), (np.arange(n), 0), ([], 0)):
        images = draw(n, marked=marked)
        found = find_artefacts(pixel_stack(images.images, progress=False), maps, labels)
        assert len(found) == expected  # and none of class b, at whose place the mark is absent
        if expected:
            assert found[0].label == "a" and set(np.flatnonzero(found[0].shows)) == set(mine)
            assert np.abs(np.array(found[0].box)*64 - (2, 2, 14, 14)).max() <= 1.5


def test_a_class_that_is_brighter_is_no_artefact():
    images = draw(60)
    maps = np.full((60, 14, 14), .1)
    maps[:, 1, 1] = maps[:, 7, 7] = 5.
    assert find_artefacts(pixel_stack(images.images, progress=False), maps, images.labels) == []
    marked = draw(60, marked=np.flatnonzero(images.labels == "light"))
    assert [a.label for a in find_artefacts(pixel_stack(marked.images, progress=False), maps, images.labels)] == ["light"]


def test_where_maps_do_not_lean_only_what_differs_between_classes_is_found():
    labels = np.where(np.arange(60) % 4 < 2, "a", "b")
    maps = np.zeros((60, 14, 14))
    maps[:, 11, 11] = 1
    def found(marked): return find_artefacts(pixel_stack(draw(60, marked=marked).images, progress=False), maps, labels)
    assert [artefact.label for artefact in found(np.flatnonzero(labels == "a"))] == ["a"]
    assert found(np.arange(0, 60, 2)) == []  # as many of one class as of the other


def test_stack_of_all_sizes():
    images = [np.zeros((5, 9, 3), np.uint8), np.zeros((300, 20), np.uint8)]
    assert pixel_stack(images, progress=False).shape == (2, _SIDE, _SIDE, 3)


@pytest.mark.parametrize("box", [(0, 0, .1, .1), (.9, .9, 1, 1), (0, 0, 1, 1), (.5, .5, .5, .5)])
def test_blur_out_at_the_rim(box):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    assert blur_out(image, box).shape == image.shape


def blobs(n, seed=0, away=3., classes=("a", "b")):
    "Points of two classes in 20 dimensions, and their labels."
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    return rng.normal(0, 1, (n, 20)) + away*codes[:, None]*np.eye(20)[0], np.array(classes)[codes]


@pytest.mark.parametrize("classes", [("a", "b"), (0, 1), (True, False)], ids=str)
def test_wrong_labels_are_found(classes):
    "Few of many, of any type; nothing where nothing is wrong."
    E, y = blobs(300, away=5, classes=classes)
    right = find_label_issues(E, y, progress=False)
    assert not len(right.listed) and right.expected < 3 and right.findable > .8
    given, wrong = y.copy(), [3, 40, 77, 150, 299]
    given[wrong] = np.where(y[wrong] == classes[0], classes[1], classes[0])
    found = find_label_issues(E, given, progress=False)
    assert set(wrong) >= set(found.listed["position"]) and len(found.listed) >= 3 and found.table["position"][:5].isin(wrong).all()
    assert type(found.listed["likely"].iloc[0]) is type(y.tolist()[0]) or found.listed["likely"].iloc[0] in classes


def test_a_weak_model_judges_no_label():
    E, y = blobs(300, away=.5)
    found = find_label_issues(E, y, progress=False)
    assert found.weak and found.listed.empty and "Labels cannot be judged by a model that is right in" in found.summary()[0]


def test_groups_that_leave_no_folds_and_wrong_labels_in_groups():
    "One group in a class: only rounds without groups; wrong labels that share a group are found by the rounds with groups."
    E, y = blobs(120, away=6)
    assert len(find_label_issues(E, y, np.where(y == "a", 0, np.arange(120)), progress=False).table) == 120
    given, groups = y.copy(), np.arange(120)
    E[[0, 2, 4, 6]] = E[0] + 1e-3
    groups[[2, 4, 6]] = 0
    given[[0, 2, 4, 6]] = "b"
    found = find_label_issues(E, given, groups, progress=False)
    assert set(found.table["position"][:4]) == {0, 2, 4, 6}


def test_alike_and_labelled_two_ways():
    "Where near duplicates differ as often as any two images, only equal ones are listed; a single pair is listed."
    labels = np.array(["a", "b"]*100)
    pairs = pd.DataFrame(dict(first=np.arange(0, 100, 2), second=np.arange(100, 200, 2) + np.arange(50) % 2, clearness=[64.]*2 + [30.]*48))
    listed, note = _labelled_two_ways(pairs, labels)
    assert listed["first"].tolist() == [2] and "50% of 50 pairs" in note
    single, note = _labelled_two_ways(pairs[3:4], labels)
    assert len(single) == 1 and not note
    found = find_label_issues(np.zeros((200, 3)), labels, pairs=pairs[3:4], progress=False)
    assert found.listed[["position", "near_duplicate"]].to_numpy().tolist() in ([[6, 107]], [[107, 6]])


def test_no_labels_to_judge():
    for labels in (["a"]*30, ["a"]*30 + ["b"]*3):
        found = find_label_issues(np.zeros((len(labels), 4)), labels, progress=False)
        assert isinstance(found, LabelIssues) and found.table.empty and found.summary() == []
    assert find_label_issues(np.zeros((40, 4)), ["a", "b"]*20, progress=False).weak  # embeddings that say nothing


def test_the_same_image_labelled_two_ways_on_the_page(backbone, tmp_path):
    images = draw(40)
    images.images[7] = images.images[4].copy()  # dark, and its copy is called light
    grouped = images.grouped(np.arange(40)//2)
    found = audit(fitted(backbone, images), grouped, progress=False)
    assert set(found.label_issues.iloc[0][["image", "near_duplicate"]]) == {images.names[4], images.names[7]}
    text = (found.save(tmp_path/"audit")/"index.html").read_text()
    assert "Labelled two ways" in text and "labelled two ways: 1, first" in repr(found)
    record = json.loads((tmp_path/"audit/audit.json").read_text())["label_issues"][0]
    assert {record["image"], record["near_duplicate"]} == {images.names[4], images.names[7]}


def test_groups_of_near_duplicates_and_flat_images(backbone):
    images = draw(12).images
    flat = [np.full((32, 32, 3), v, np.uint8) for v in (0, 0, 255)]
    every = [*images, np.roll(images[0], 3, 1), images[0][:, ::-1], *flat]
    pairs = find_near_duplicates(backbone.embed(every, progress=False), every, progress=False)
    groups = group_near_duplicates(pairs, len(every))
    assert groups[0] == groups[12] == groups[13] and groups[14] == groups[15] != groups[16]
    assert pairs.set_index(["first", "second"])["mirrored"][0, 13] == "left-right"
    assert find_near_duplicates(np.zeros((1, 3)), images[:1], progress=False).empty


def test_outliers_need_three(): assert find_outliers(np.zeros((2, 3)), np.arange(2)).empty


def test_few_explanations_are_one_strategy():
    rng = np.random.default_rng(0)
    assert set(group_explanations(rng.normal(size=(15, 14, 14)), rng.normal(size=(15, 6)))) == {0}
    alike = group_explanations(np.ones((40, 14, 14)), np.ones((40, 6)))
    assert set(alike) == {0}
