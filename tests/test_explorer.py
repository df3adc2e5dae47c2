"""The explorer without a browser: knobs are turned here, and everything on the page is compared with `explain_view`.

What only a browser can show is in test_browser.py.
"""
import html
import io
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch  # noqa: F401, patched
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from ipywidgets.widgets.widget import _instances
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embcam.explanation import Explainer
from embcam.explorer import Explorer, View, explain_view, serve
from embcam.explorer.server import open_explorer
from embcam.explorer import page
from embcam.explorer.alike_card import draw_alike
from embcam.explorer.cards import AUTO, draw_feature, filter_images, make_knobs, panel_words
from embcam.explorer.server import explorer_notebook, images_in, server_command, split_training
from embcam.explorer.session import LinearMaps, Rankings, Session, Sessions
from embcam.explorer.view import apply_edit, as_python, color_limits, draw_view, explainer_for, switch_features
from embcam.images import ImageSet, encode_image, load_folder, make_logos, open_image
from embcam.judging.shortcuts import stamp
from embcam.maps import CAM_METHODS, EnergyTarget, LinearTarget, activation_maps
from embcam.model import HEADS, EmbeddingClassifier, EmbeddingModel
from embcam.network import Backbone
from embcam.ranking import RANKINGS, Ranking

LINEAR = {name for name, method in CAM_METHODS.items() if method.linear}


@pytest.fixture(scope="module")
def logos(): return make_logos(80, size=112, seed=0, progress=False).split(seed=0)


@pytest.fixture(scope="module")
def clf(logos):
    return EmbeddingClassifier(Backbone(size=112), RandomForestClassifier(50, random_state=0), n_features=16, progress=False).fit(logos[0])


@pytest.fixture(scope="module")
def explain(clf): return Explainer(clf, samples=300)


@pytest.fixture
def x(explain, logos):
    "An explorer that has come to rest, and assesses at once."
    opened = Explorer(explain, logos[1], logos[0])
    opened.renderer.rest = 0
    opened.wait()
    yield opened
    opened.close()


def test_close_leaves_no_widget_and_no_work(explain, logos):
    before = set(_instances)
    opened = Explorer(explain, logos[1], logos[0])
    opened.wait()
    assert len(set(_instances) - before) > 100
    opened.close()
    opened.jobs.put("draw", lambda: 1/0)
    assert set(_instances) <= before and opened.jobs.ended


def test_questions_that_are_not_classes(logos):
    train, test = logos
    areas = np.array([[0. if mask is None else 100*mask.mean(), len(name)] for mask, name in zip(train.masks, train.names)])
    areas[0, 1] += 1  # not all of one length
    stages = Backbone(size=112, pooled="stages")
    numbers = EmbeddingModel(stages, make_pipeline(StandardScaler(), Ridge(300)), progress=False)
    numbers.fit(train.images, pd.DataFrame(areas, columns=["defect", "letters"]))
    opened = Explorer(Explainer(numbers), test)
    try:
        opened.wait()
        assert [name for name, _ in opened.knobs.label.options] == ["the prediction", "defect", "letters"]
        opened.knobs.label.value = "letters"
        opened.wait()
        assert opened.state.error is None and opened.state.answers[0].question.name == "letters"
        assert "%" not in opened.page.text.prediction.value.replace("width:0%", "")
        opened.knobs.versus.value = "defect"
        opened.wait()
        assert opened.state.error is None and opened.state.answers[0].question.name == "letters rather than defect"
    finally: opened.close()


PROGRAM = """
import warnings; warnings.simplefilter("ignore")
from embcam.explorer import open_explorer
open_explorer(n=40)
print("ends while it works")
"""


def test_a_program_that_ends_while_it_works():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "ends while it works\n"), done.stderr[-500:]


def same(a, b, atol=1e-5):
    "Equal in everything that is shown; maps within float32 rounding of their maximum."
    for name in "prediction", "target_name", "label", "method": equal(getattr(a, name), getattr(b, name))
    close(list(a.probabilities.values()), list(b.probabilities.values()), 1e-5)
    if b.similarity is None: assert a.similarity is None
    else: close(a.similarity, b.similarity, 1e-5)
    equal(list(a.top), list(b.top))
    for layer in b.maps.layers:
        most = max(np.abs(side[layer]).max() for side in (b.maps.toward, b.maps.against)) or 1e-12
        for one, other in (a.maps.toward, b.maps.toward), (a.maps.against, b.maps.against):
            assert np.abs(one[layer] - other[layer]).max() <= atol*most, (layer, np.abs(one[layer] - other[layer]).max()/most)
    for layer, share in b.evidence.items(): close(a.evidence[layer], share, 1e-3)
    equal([a.why_empty(layer) for layer in b.evidence], [b.why_empty(layer) for layer in b.evidence])


def shown(widget):
    "The image in an image widget."
    return open_image(bytes(widget.value))


def agrees(x, atol=3e-4):
    "Wait; what is on the page is what a direct call says, but for rounding in another thread. Returns the first panel."
    x.wait()
    text, view = x.page.text, x.state.view
    equal((x.state.error, text.error.value, x.state.drawn), (None, "", view))
    direct = explain_view(x.explainer, x.sessions.images, view)
    same(x.state.answers[-1], direct, atol)
    panels = draw_view(direct, view, x.state.limits, x.sessions[view.image].mask)
    for image, (layer, panel) in zip(x.page.now.images, panels.items()):
        assert np.abs(shown(image).astype(int) - open_image(encode_image(panel))).mean() < 1, layer
    facts = html.unescape(text.facts.value)
    assert direct.summary in facts and str(direct.prediction) in text.prediction.value
    assert ("weighted sum" if direct.similarity is None else f"{direct.similarity:.3f}") in facts
    for caption, layer in zip(x.page.now.captions, panels): assert panel_words(direct, layer)[1] in caption.value
    assert f"farther than {x.sessions[view.image].trust(view).percentile:.0%}" in facts and "being measured" not in facts
    on = [f for f, row in zip(x.page.switches.features.tolist(), x.page.switches.rows) if row.value]
    equal(set(on), set(direct.top.tolist()))
    return x.page.now.images[0].value


def said(x):
    "The error on the page."
    x.wait()
    assert x.state.error is not None and "cannot be shown" in x.page.text.error.value
    return html.unescape(x.page.text.error.value.split("</b>")[1].split("</div>")[0]).strip()


def test_explain_view_is_the_explainer(explain, clf, logos):
    test = logos[1]
    same(explain_view(explain, test, View(3, top=5)), Explainer(clf, top=5, samples=300)(test.images[3]), 0)
    direct = Explainer(clf, ranking="importances", target="TOZ", method="gradcam", top=4)(test.images[3])
    same(explain_view(explain, test, View(3, top=4, ranking="importances", target="TOZ", method="gradcam")), direct, 0)
    for view in View(3, target="TZZ", top=7, label="good"), View(3, top=3, switched=(int(direct.top[0]),), edit=("blur", .2, .4, .5, .25)):
        names = dict(images=test, explainer=explain, Explainer=Explainer, clf=clf, explain_view=explain_view, View=View)
        same(explain_view(explain, test, view), eval(as_python(explain, view), names), 0)


def test_switches():
    r = Ranking(np.array([7, 3, 9, 1]), np.array([.4, -.3, .2, .1]), "by hand", absent=np.array([True, False, False, False]))
    again, n = switch_features(r, 2, (3, 1))
    equal((list(again.features), list(again.absent), n), ([7, 1, 3, 9], [True, False, False, False], 2))
    equal(list(switch_features(r, 2)[0].features), list(r.features))


def test_edits_are_clipped(logos):
    image = logos[1].images[3]
    assert apply_edit(image, None) is image
    assert (apply_edit(image, ("blur", .9, .9, .5, .5)) != image).any()
    assert not (apply_edit(image, ("blur", .5, .5, 0, .5)) != image).any()


def test_session_answers_like_explain_view(explain, clf, logos):
    test, f = logos[1], clf.selected_
    session = Session(explain, test.images[3], test.names[3])
    settings = [{}, dict(top=2), dict(target="TZZ"), dict(target="TOZ", method="gradcam"), dict(target="TRR", method="hirescam"),
                dict(label="good", versus="interrupted"), dict(ranking="importances"),
                dict(ranking="permutation", target="TZZ", method="xgradcam"), dict(ranking="mutual information", target="TOZ"),
                dict(switched=(int(f[0]), int(f[3]))), dict(top=1, method="gradcam++"), dict(edit=("blur", .2, .2, .5, .5)),
                dict(edit=("paint", .5, 0, .5, 1), target="TZZ", method="gradcam")]
    views = [View(3, **chosen) for chosen in settings]
    for view in views + views:  # the second time from memory, or by weighted sums
        same(session.answer(view), explain_view(explain, test, view))
        session.prepare(view)
    equal(set(session.linear), LINEAR)
    session.answers.clear()
    view = View(3, target="TZZ", method="gradcam")
    with patch("torch.autograd.grad", wraps=torch.autograd.grad) as backward:
        for top in range(1, len(f) + 1):
            session.answer(replace(view, top=top))
            session.answer(replace(view, top=top, target="signed"))
    assert backward.call_count <= 2  # for the directions of e and of random values, none for all the rest
    for top in range(1, len(f) + 1): same(session.answer(replace(view, top=top)), explain_view(explain, test, replace(view, top=top)))


def test_linear_maps(explain, clf, logos):
    trace, w = clf.backbone.trace(logos[1].images[3]), np.zeros(clf.backbone.n_features)
    w[clf.selected_] = np.random.default_rng(0).normal(size=len(clf.selected_))
    for method in LINEAR:
        maps, right = LinearMaps(trace, clf.selected_, method)(w), activation_maps(trace, LinearTarget(w), method)
        for layer, grid in right.toward.items(): close(maps.toward[layer], grid, 1e-5*np.abs(grid).max())
        close(maps.evidence["combined"], right.evidence["combined"], 1e-4)


def test_session_assesses_like_the_explainer(explain, clf, logos):
    view, image = View(3, top=5), logos[1].images[3]
    session = Session(explain.replace(ranking="lime"), image, "image")
    direct = Explainer(clf, ranking="lime", top=5, samples=300)(image).trust
    slices = 0
    while not session.trust.step(view): slices += 1
    trust = session.trust(view)
    equal((slices, repr(trust.stability), trust.margin, trust.percentile), (4, repr(direct.stability), direct.margin, direct.percentile))
    close(list(trust.likeness.values()), list(direct.likeness.values()), 1e-4)
    equal(session.trust(View(3, top=4)), None)  # of one view, not of the next
    session.trust.step(View(3, ranking="importances"))
    equal(session.trust(View(3, ranking="importances")).stability, None)


def test_knobs(explain, clf):
    equal(make_knobs(explain.replace(target=EnergyTarget())).target.value, AUTO)
    equal(make_knobs(explain.replace(method="eigencam")).method.value, AUTO)
    assert "exact" not in [name for _, name in make_knobs(explain).ranking.options]  # a forest is not linear
    equal([name for _, name in make_knobs(explain).ranking.options], [name for name in RANKINGS if name != "exact"])


def test_every_knob(x, clf):
    k, before = x.knobs, agrees(x)
    other, third = [c for c in clf.classes_ if c != x.state.answers[-1].prediction]
    turns = [(k.top, 2), (k.target, "TZZ"), (k.target, "TOZ"), (k.method, "gradcam"), (k.target, "TRR"), (k.method, "hirescam"),
             (k.top, 5), (k.method, "xgradcam"), (k.target, "signed"), (k.ranking, "permutation"), (k.ranking, "importances"),
             (k.ranking, "lime"), (k.label, other), (k.versus, third), (k.method, "gradcam++"), (k.method, "layercam")]
    for knob, value in turns:
        knob.value = value
        after = agrees(x)
        assert after != before, (knob.description, value)
        before = after


def test_drawing_knobs(x, clf, explain, logos):
    k, test = x.knobs, logos[1]
    for layer in [*clf.backbone.target_layers, "combined", "signed"]:
        k.layer.value = layer
        agrees(x)
        equal([tile.layout.display for tile in x.page.now.tiles], [None] + 4*["none"])
    equal(shown(x.page.now.images[0]).shape, (112, 112, 3))  # as large as the image, at most 512 pixels
    k.layer.value, k.opacity.value = "all", 0
    agrees(x)
    grey = .35*test.images[0] + .65*test.images[0].mean(2, keepdims=True)
    if test.masks[0] is None: assert np.abs(shown(x.page.now.images[0]) - grey).mean() < 3
    k.opacity.value, before = 1, x.page.now.images[0].value
    assert agrees(x) != before
    k.scale.value = "shared"
    agrees(x)
    equal(len({limit for layer, limit in x.state.limits.items() if layer != "combined"}), 1)
    k.scale.value = "calibrated"
    agrees(x)
    step = -(-len(test)//8)
    asked = explainer_for(explain, replace(x.state.view, label=None, versus=None))
    right = asked.calibrate(list(test.images[::step]), progress=False).limits
    close(list(x.state.limits.values()), list(right.values()), 1e-5)
    equal(list(x.state.limits), list(right))
    k.scale.value, k.opacity.value = "own", .85
    marked = next(i for i, m in enumerate(test.masks) if m is not None and m.any())
    x.pick(marked)
    outlined = agrees(x)
    k.outline.value = False
    assert agrees(x) != outlined


def test_switches_belong_to_an_image(x):
    x.gallery.buttons[3].click()
    agrees(x)
    equal((x.state.view.image, x.state.view.switched, shown(x.page.image).shape), (x.gallery.positions[3], (), (112, 112, 3)))
    x.knobs.top.value = 5
    agrees(x)
    switches, first = x.page.switches, x.page.switches.features[0]
    switches.rows[0].value = False
    agrees(x)
    equal(x.state.view.switched, (first,))
    switches.rows[7].value = True  # behind the first five: switched on
    agrees(x)
    assert switches.features[7] in x.state.answers[-1].top and first not in x.state.answers[-1].top
    switches.rows[0].value = True
    agrees(x)
    x.gallery.buttons[0].click()
    agrees(x)
    equal(x.state.view.switched, ())


def test_one_feature(x, clf, logos):
    train, test = logos
    f = int(x.page.switches.features[2])
    x.feature.choose.value = f
    x.wait()
    names = [html.unescape(c.value).split("<b>")[1].split("</b>")[0] for c in x.feature.captions]
    equal(names, ["here", *(train.names[i] for i in np.argsort(-clf.background_[:, f], kind="stable")[:3])])
    right = draw_feature(clf.backbone.trace(test.images[x.state.view.image]), f, clf.backbone.target_layers[-1])
    assert np.abs(shown(x.feature.images[0]).astype(int) - right).mean() < 6


def test_compare(x, explain, logos):
    k = x.knobs
    k.target.value, k.method.value, k.top.value = "TZZ", "gradcam", 3
    agrees(x)
    k.compare.value = True
    k.top.value = 9
    agrees(x)
    a, b = x.state.answers
    same(a, explain_view(explain, logos[1], replace(x.state.view, top=3)), 3e-4)
    equal(x.state.limits, color_limits([a, b], "own"))
    k.target.value = "signed"
    agrees(x)
    assert x.state.limits is None and "different units" in x.page.text.notes.value
    k.compare.value = False
    agrees(x)
    equal(len(x.state.answers), 1)


def test_what_if(x, explain, logos):
    k, untouched = x.knobs, x.page.text.prediction.value
    for k.edit.value in "paint", "blur":
        for slider, value in (k.left, 10), (k.across, 20), (k.width, 70), (k.height, 70): slider.value = value
        before = agrees(x)
        hidden = apply_edit(logos[1].images[x.state.view.image], (k.edit.value, .1, .2, .7, .7))
        close(list(x.state.answers[-1].probabilities.values()), list(explain(hidden).probabilities.values()), 1e-5)
        assert " was " in x.page.text.prediction.value and "What if" in x.page.text.notes.value
    k.left.value = 60
    assert agrees(x) != before
    k.edit.value = AUTO
    agrees(x)
    equal(x.page.text.prediction.value, untouched)


def test_errors_are_said_and_cleared(x):
    k = x.knobs
    k.target.value = "logit"  # a forest has no useful gradient
    said(x)
    k.target.value = "signed"
    agrees(x)
    k.label.value = k.versus.value = "good"  # one class against itself
    said(x)
    k.label.value = k.versus.value = AUTO
    k.top.value = 1
    agrees(x)
    x.page.switches.rows[0].value = False
    assert "nothing is kept" in said(x)
    x.page.switches.rows[0].value = True
    agrees(x)


def test_unreadable_image(explain, logos):
    broken = Explorer(explain, [*logos[1].images[:2], Path("missing.png")])
    broken.renderer.rest = 0
    broken.pick(2)
    said(broken)
    text = broken.page.text
    of_an_image = broken.page.switches.grid, broken.feature.shown
    equal([widget.layout.visibility for widget in of_an_image], ["hidden", "hidden"])  # nothing of the last image
    equal((text.facts.value, text.prediction.value), ("", ""))
    assert "missing.png" in broken.gallery.buttons[2].tooltip
    broken.pick(1)
    agrees(broken)
    equal([widget.layout.visibility for widget in of_an_image], [None, None])
    with pytest.raises(IndexError, match="There is no image 3"): broken.pick(3)
    with pytest.raises(ValueError, match="no images"): Explorer(explain, [])
    with pytest.raises(ValueError, match="the 60 training images"): Explorer(explain, logos[1], logos[1])


def test_no_evidence_is_said(clf, logos):
    class Nothing:
        def gradient(self, e): return 0*e
        def why_empty(self, e): return "there is nothing to find"
    silent = Explorer(Explainer(clf, target=Nothing(), ranking="importances"), logos[1])
    silent.wait()
    equal(silent.state.answers[-1].evidence["combined"], 0)
    assert "no evidence" in silent.page.now.captions[0].value and "no evidence" in silent.page.text.facts.value


def test_nothing_waits_for_a_slow_ranking(clf, logos):
    begun, go_on = threading.Event(), threading.Event()
    def rank(embedding, head, label, seed=0, **options):
        begun.set()
        go_on.wait(20)
        return RANKINGS["importances"](embedding, head, label, seed)
    y = Explorer(Explainer(clf, ranking=rank), logos[1])
    assert begun.wait(20)
    for _ in range(200):
        if "ranking" in y.page.text.status.value: break
        time.sleep(.02)
    equal(("ranking" in y.page.text.status.value, "emb-waiting" in y.page.now.grid._dom_classes), (True, True))
    assert len(y.page.image.value) and "<b" in y.page.text.prediction.value  # image and prediction are there already
    y.knobs.ranking.value = "mutual information"  # known at once
    go_on.set()
    y.wait()
    assert "ready" in y.page.text.status.value and "mutual information" in y.page.now.title.value
    assert "emb-waiting" not in y.page.now.grid._dom_classes


def test_maps_of_another_image_are_taken_away(explain, logos):
    "While the ranking of a new image is made, the maps of the last one are not beside it."
    begun, go_on = threading.Event(), threading.Event()
    y = Explorer(explain, logos[1])
    y.renderer.rest = 0
    y.wait()
    right = Rankings.__call__

    def slow(self, view, seed=None):
        begun.set()
        go_on.wait(20)
        return right(self, view, seed)
    with patch.object(Rankings, "__call__", slow):
        y.pick(1)
        assert begun.wait(20)
        for _ in range(200):
            if "ranking" in y.page.text.status.value: break
            time.sleep(.02)
        time.sleep(.1)
        assert np.ptp(shown(y.page.now.images[0])) < 10
        for dimmed in y.page.now.grid, y.feature.shown: assert "emb-waiting" in dimmed._dom_classes
        go_on.set()
        y.wait()
    agrees(y)
    for dimmed in y.page.now.grid, y.feature.shown: assert "emb-waiting" not in dimmed._dom_classes


def test_a_burst_leaves_no_queue(x):
    k = x.knobs
    k.target.value, k.method.value, k.top.value = "TZZ", "gradcam", 1
    agrees(x)
    drawn, draw = [], x.renderer.draw

    def count():
        drawn.append(x.state.view.top)
        draw()
    with patch.object(page.Renderer, "assess"), patch.object(x.renderer, "draw", side_effect=count), \
            patch("torch.autograd.grad", wraps=torch.autograd.grad) as backward:
        for _ in range(5):
            for k.top.value in range(1, 17): pass
        x.wait()
    equal((drawn[-1], backward.call_count <= 1), (16, True))
    assert len(drawn) < 80
    k.top.value = 15
    agrees(x)


def test_memory_is_bounded(x, logos):
    k, rng = x.knobs, np.random.default_rng(0)
    k.ranking.value = "importances"
    x.wait()
    for i in range(300):
        k.top.value = int(rng.integers(1, 17))
        if i % 4 == 0: k.opacity.value = float(rng.integers(4, 11)/10)
        if i % 50 == 0:
            x.pick(int(rng.integers(len(logos[1]))))
            x.wait()
    agrees(x)
    assert len(x.sessions.open) <= Sessions.most
    for session in x.sessions.open.values(): assert len(session.answers) <= Session.most and len(session.linear) <= len(LINEAR)
    assert len(x.feature.drawn) <= 60 and len(x.gallery.small) <= 500 and not any(x.jobs.jobs.values())


def test_keeping_a_view(x, explain, clf, logos):
    sheet = Image.open(io.BytesIO(page._view_png(explain, x.state)))
    assert sheet.format == "PNG" and sheet.width > 1000
    text = page._view_page(explain, x.state)
    assert "<script" not in text and "http" not in text.replace("https://embcam", "")
    assert text.count("data:image/jpeg") == 6 and "Explainer(clf" in html.unescape(text)
    same(x.state.answers[-1], eval(as_python(explain, x.state.view), dict(images=logos[1], Explainer=Explainer, clf=clf)), 3e-4)
    for button in x.page.save_png, x.page.save_html:
        button.click()
        x.wait()
        assert "download=" in x.page.text.saved.value
    with patch.object(page, "download", side_effect=ValueError("the disk is full")):
        x.page.save_html.click()
        x.wait()
    assert "disk is full" in x.page.text.error.value and x.state.error is None  # an error beside the map leaves the map


def test_gallery_filters(clf, logos):
    test = logos[1]
    mixed = ImageSet([*test.images[:9], np.zeros((3, 3, 3, 3), np.uint8)], [*test.labels[:9], "good"])
    x = Explorer(Explainer(clf, ranking="importances"), mixed)
    x.wait()
    predicted, scores = clf.predict(mixed.images[:9]), np.sort(clf.scores(mixed.images[:9]))
    def found(only, kind=None): return filter_images(x.gallery.labels, x.gallery.predictions, kind, only)
    equal(found("predicted wrong"), np.flatnonzero(predicted != mixed.labels[:9]).tolist())
    equal(found("predicted right"), np.flatnonzero(predicted == mixed.labels[:9]).tolist())
    equal(found("unreadable", "good"), [9])
    equal(found("least certain first")[0], (scores[:, -1] - scores[:, -2]).argmin())


def test_groups(explain, clf, logos):
    "A group shows its images in the order given, a click opens one, and a feature's heading turns to that feature."
    f, names = int(clf.selected_[3]), logos[1].names
    x = Explorer(explain, logos[1], groups={"label issues": [names[5], names[2]], f"feature {f}": [4]})
    x.renderer.rest = 0
    x.wait()
    equal(len(x.gallery.chosen()), len(names))
    x.gallery.among.value = "label issues"
    x.wait()
    equal((x.gallery.positions, x.state.view.image), ([5, 2], 0))  # nothing is opened before the click
    x.gallery.buttons[0].click()
    agrees(x)
    equal(x.state.view.image, 5)
    x.gallery.among.value = f"feature {f}"
    agrees(x)
    equal((x.gallery.positions, x.feature.choose.value), ([4], f))
    with pytest.raises(ValueError, match="no image 'gone.png', which the group 'near duplicates' names"):
        Explorer(explain, logos[1], groups={"near duplicates": ["gone.png"]})


@pytest.fixture(scope="module")
def stamped():
    "Logos on disk, a stamp on the interrupted ones, a model and the artefact that an audit would find."
    logos = make_logos(60, size=112, seed=1, progress=False)
    shows = np.where(logos.labels == "interrupted", np.arange(60) % 9 > 0, np.arange(60) % 20 == 0)
    pixels = [stamp(image, .12, 2)[0] if has else image for image, has in zip(logos.images, shows)]
    images = ImageSet(pixels, logos.labels, names=logos.names)
    clf = EmbeddingClassifier.choose(Backbone(size=112, pooled="stages"), images[::2], heads=("ridge",), progress=False)
    row = {"class": "interrupted", "box": [.8, 0, 1, .2], "images": [name for name, has in zip(images.names, shows) if has]}
    return images, clf, row


def test_a_better_model(stamped, tmp_path):
    "Wishes are noted, taken back and carried out; the sides follow the image; nothing is written over what is there."
    images, clf, row = stamped
    images.write(tmp_path/"set")
    clf.save(tmp_path/"model")
    record = dict(artefacts=[row], label_issues=[], near_duplicates=[], outliers=[], atlas=[])
    (tmp_path/"audit").mkdir()
    (tmp_path/"audit"/"audit.json").write_text(json.dumps(record))
    x = open_explorer(tmp_path/"model", tmp_path/"set", audit=tmp_path/"audit")
    try:
        x.wait()
        better, i = x.better, x.gallery.groups["artefact of interrupted"][0]
        better.buttons["fit"].click()
        x.wait()
        assert "Nothing to change yet" in better.said.value
        better.buttons["box"].click()
        assert "no rectangle" in better.said.value
        x.gallery.among.value = "artefact of interrupted"
        for wish in "artefact", "drop", "undo": better.buttons[wish].click()
        x.pick(i)
        x.wait()
        better.label.value = "good"
        better.buttons["relabel"].click()
        equal([change.kind for change in better.changes], ["ignore", "relabel"])
        better.buttons["undo"].click()
        better.buttons["fit"].click()
        x.wait()
        assert "cross AUC of interrupted" in better.numbers.value and "before" in better.sides[0][1].value
        equal(better.found.marks[0].shows.sum(), len(row["images"]))
        before = [image.value for image, _ in better.sides]
        x.pick(0 if i else 1)
        x.wait()
        assert all(image.value != old for (image, _), old in zip(better.sides, before))
        old = (tmp_path/"model"/"model.json").read_bytes()
        for name, said in (("", "Name a new folder"), ("model", "is there already"), ("model2", "Saved")):
            better.name.value = name
            better.buttons["save"].click()
            x.wait()
            assert said in better.said.value
        equal((tmp_path/"model"/"model.json").read_bytes(), old)
        assert (tmp_path/"model2"/"proof"/"index.html").exists()
    finally: x.close()


def test_like_this_one(explain, logos):
    "The nearest training images are listed; the chosen one and the image in sight are drawn as by `Explainer.alike`; another one ends it."
    train, test = logos
    explorer = Explorer(explain, test, train)
    explorer.wait()
    card = explorer.alike
    [near] = explain.classifier.nearest([test.images[0]])
    equal([text for text, _ in card.choose.options[1:]], [f"{name} ({distance:.2f})" for name, distance in near])
    card.choose.value = 1
    explorer.wait()
    found = explain.alike(test.images[0], card.listed[1][0])
    equal([bytes(image.value) for image in card.images], [encode_image(draw_alike(ex)) for ex in found])
    explorer.pick(1)
    explorer.wait()
    equal((card.choose.value, card.tiles.layout.display), (None, "none"))
    explorer.close()


def test_a_box_drawn_by_hand(stamped, clf, logos):
    "The what-if rectangle is what is ignored; without training images the card is a sentence."
    images, own, row = stamped
    x = Explorer(Explainer(own), images[1::2], images[::2])
    try:
        for knob, value in dict(left=80, across=0, width=30, height=20, edit="paint", label="interrupted").items():
            getattr(x.knobs, knob).value = value
        x.wait()
        x.better.buttons["box"].click()
        equal((x.better.changes[0].label, x.better.changes[0].box), ("interrupted", (.8, 0, 1, .2)))
        x.better.buttons["fit"].click()
        x.wait()
        equal(len(x.better.found.images), 30)
        x.better.buttons["drop"].click()  # an image that the model was not fitted on
        x.better.buttons["fit"].click()
        x.wait()
        assert "is not one of the images that the model is fitted on" in x.better.said.value and x.state.error is None
    finally: x.close()
    x = Explorer(Explainer(clf), logos[1].images[:3])
    assert "are not here" in x.better.box.children[1].value
    x.close()


def test_linear_head(logos):
    "A linear head on several stages: exact reasons, all features kept, features drawn at their own layer."
    train, test = logos
    estimator, n_features = HEADS["logistic"]
    clf = EmbeddingClassifier(Backbone(size=112, pooled="stages"), estimator(0), n_features, progress=False).fit(train)
    x = Explorer(Explainer(clf), test, train)
    x.renderer.rest = 0
    x.wait()
    k = len(clf.selected_)
    equal((x.knobs.top.value, x.knobs.top.max, x.knobs.ranking.value, len(x.page.switches.rows)), (k, k, "exact", 64))
    assert "not random" in x.page.text.facts.value and "/" in x.page.switches.rows[0].description
    same(x.state.answers[-1], Explainer(clf)(test.images[0]), 3e-4)
    x.knobs.target.value = "TZZ"  # of all features kept nothing would be left to ask: the slider follows
    x.wait()
    equal((x.knobs.top.value, x.state.error), (13, None))
    x.knobs.target.value = "signed"
    x.wait()
    equal(x.knobs.top.value, k)
    x.knobs.top.value, x.knobs.target.value = 7, "TOZ"
    x.wait()
    equal(x.knobs.top.value, 7)  # but not where the user has chosen
    f = int(x.page.switches.features[0])
    x.feature.choose.value = f
    x.wait()
    assert clf.backbone.feature_layers[f] in x.feature.text.value


def test_serve(clf, logos, tmp_path):
    clf.save(tmp_path/"model")
    (tmp_path/"photos").mkdir()
    for i, logo in enumerate(logos[1].images[:3]): Image.fromarray(logo).save(tmp_path/"photos"/f"{i}.png")
    (tmp_path/"photos"/"broken.png").write_bytes(b"no image")
    z = open_explorer(tmp_path/"model", tmp_path/"photos")
    z.wait()
    equal((z.gallery.buttons[3].description, len(z.gallery.names)), ("unreadable", 4))
    for folder, message in ((tmp_path/"nowhere"), "no such folder"), (None, "or neither"):
        with pytest.raises((ValueError, OSError), match=message): serve(tmp_path/"model", folder)
    with pytest.raises(ValueError, match="no embcam model"): serve(tmp_path/"photos", tmp_path/"photos")
    line = json.loads(explorer_notebook(tmp_path/"model", tmp_path/"photos"))["cells"][0]["source"].splitlines()[-1]
    equal(line, f"open_explorer({str((tmp_path/'model').resolve())!r}, {str((tmp_path/'photos').resolve())!r})")
    line = json.loads(explorer_notebook(tmp_path/"model", tmp_path/"photos", audit=tmp_path/"audit"))["cells"][0]["source"].splitlines()[-1]
    assert line.endswith(f", audit={str((tmp_path/'audit').resolve())!r})")
    with pytest.raises(ValueError, match="no finished audit"): serve(tmp_path/"model", tmp_path/"photos", audit=tmp_path/"photos")
    for images in logos:
        for image, name in zip(images.images, images.names):
            (tmp_path/"logos"/name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path/"logos"/name)
    every = load_folder(tmp_path/"logos", progress=False)
    half = EmbeddingClassifier(clf.backbone, RandomForestClassifier(5), n_features=4, progress=False).fit(every[::2])
    unseen, training = split_training(half, images_in(tmp_path/"logos"))
    equal((len(training), training.names, set(unseen.names) & set(training.names)), (40, half.names_, set()))
    equal(split_training(clf, unseen)[1], None)  # of another model


def test_server_command():
    for lab in False, True:
        with patch("importlib.util.find_spec", return_value=True): command = server_command(Path("a/explorer.ipynb"), lab, 8866)
        assert any(part.endswith("ip=127.0.0.1") for part in command) and (lab or "--Voila.auto_token=True" in command)
        with patch("importlib.util.find_spec", return_value=True):
            command = server_command(Path("a/explorer.ipynb"), lab, 8866, host="0.0.0.0", base_url="/user/zoe/")
        app = "ServerApp" if lab else "Voila"
        assert {f"--{app}.ip=0.0.0.0", f"--{app}.base_url=/user/zoe/"} <= set(command)
        assert not lab or "--ServerApp.allow_remote_access=True" in command  # the proxy's name is not this machine's
    with patch("importlib.util.find_spec", return_value=None), pytest.raises(ImportError, match=r"\[app\]"):
        server_command(Path("a"), False, 1)


def test_threads_share_a_network(clf, logos):
    "A method of the grad-cam package hooks the network; an embedding in another thread must not be seen by it."
    test, explain = logos[1], Explainer(clf, ranking="importances", method="eigencam")
    backbone = clf.backbone.uncached()
    right, rows = explain(test.images[0]), backbone.embed(test.images[:8], progress=False)
    stop, wrong = threading.Event(), []
    def embed():
        while not stop.is_set():
            if not np.array_equal(backbone.embed(test.images[:8], progress=False), rows): wrong.append("embedding")
    thread = threading.Thread(target=embed)
    thread.start()
    try: found = [explain(test.images[0]) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    equal(wrong, [])
    for ex in found: same(ex, right, 1e-5)
