"Edge cases of embcam.explanation.stored: what a page holds is what `Explainer` answers, whatever the head, the method and the question."
import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import Ridge

from embcam import cli
from embcam.explanation import Explainer
from embcam.explanation.stored import STEPS, static_page, stored_maps
from embcam.images import make_logos
from embcam.maps import EnergyTarget
from embcam.model import EmbeddingClassifier, EmbeddingModel, logistic_head
from embcam.network import Backbone

IMAGES = make_logos(30, seed=0, progress=False)
WIDE = np.asarray(IMAGES.images[0])[40:160]


def unpacked(entry, step):
    "The grids of a step as the page reads them."
    raw, at, grids = zlib.decompress(base64.b64decode(entry["grids"])), step["at"], {}
    for (layer, h, w), depth in zip(entry["layers"], step["depths"] or [0]*len(entry["layers"])):
        b = np.frombuffer(raw[at:at + h*w], np.uint8).reshape(h, w).astype(np.float32)
        grids[layer] = np.where(b < 128, (b - 128)/128*depth, (b - 128)/127) if depth else b/255
        at += h*w
    return grids


def data_of(page): return json.loads(re.search(r"const DATA = (.*)\n", page)[1])


@pytest.fixture(scope="module")
def cases(forest, linear):
    boxed = EmbeddingClassifier(Backbone(size=96, resize="letterbox"), logistic_head(), 30, progress=False).fit(IMAGES)
    numbers = EmbeddingModel(forest.backbone, Ridge(), "all", progress=False).fit(forest.background_, np.arange(len(IMAGES)))
    unlike = EmbeddingModel(forest.backbone, "unlike").fit(IMAGES)
    return dict(linear=Explainer(linear), forest=Explainer(forest, samples=200), paper=Explainer.paper(forest, samples=200),
                cells=Explainer(linear, method="cells"), package=Explainer(linear, method="gradcam++"), letterbox=Explainer(boxed),
                numbers=Explainer(numbers), unlike=Explainer(unlike), fixed=Explainer(linear, target=EnergyTarget()))


@pytest.mark.parametrize("case", ["linear", "forest", "paper", "cells", "package", "letterbox", "numbers", "unlike", "fixed"])
def test_a_page_holds_what_is_answered(cases, case):
    explainer = cases[case]
    entry = stored_maps(explainer, WIDE, "a", IMAGES.labels[0])
    json.dumps(entry, allow_nan=False)
    trace = explainer.classifier.trace(WIDE)
    classes = {str(c): c for c in explainer.classifier.head_.classes} | {None: None}
    for question in entry["questions"]:
        ranking = explainer.rank(trace.embedding, classes[question["label"]], classes[question["versus"]])
        assert [step["own"] for step in question["steps"]].count(True) == 1
        for step in question["steps"]:
            ex = explainer.replace(top=step["top"]).explain_trace(trace, ranking)
            kept = replace(ex.maps, toward=unpacked(entry, step))
            assert all(np.abs(kept[layer] - ex.maps[layer]).max() < .02 for layer in ex.maps)
            assert step["evidence"] == [round(ex.evidence[layer], 3) for layer in ex.maps]
            assert step["why"] or not ex.why_empty("combined")


def test_steps_and_questions(cases):
    linear, forest, cells = (stored_maps(cases[case], WIDE, "a") for case in ("linear", "forest", "cells"))
    own, *others = linear["questions"]
    assert own["label"] == linear["prediction"] and [step["top"] for step in own["steps"]] == [*STEPS, 1280]
    assert all(len(q["steps"]) == 1 for q in others if q["versus"])
    assert [step["top"] for step in forest["questions"][0]["steps"]] == [1, 3, 13, 20]
    assert [len(q["steps"]) for q in cells["questions"]] == [1]*len(cells["questions"])


def test_names_are_text(linear):
    evil = "</script><b>'\"&"
    page = static_page(Explainer(linear), [WIDE], title=evil, progress=False)
    assert page.count("</script>") == 1 and "<b>" not in page and "http" not in page
    assert data_of(page)["entries"][0]["prediction"] in linear.classes_


def test_the_command(linear, tmp_path, capsys):
    model, photos, out = linear.save(tmp_path/"model"), tmp_path/"photos", tmp_path/"maps.html"
    photos.mkdir()
    for i in range(2): Image.fromarray(np.asarray(IMAGES.images[i])).save(photos/f"{i}.png")
    assert cli.main(["explain", str(model), str(photos), "--static", "--out", str(out)]) == 0
    assert [entry["name"] for entry in data_of(out.read_text(encoding="utf-8"))["entries"]]
    assert cli.main(["explain", str(model), str(photos), "--static", "--out", str(out), "--force"]) == 0
    mine = tmp_path/"mine.html"
    mine.write_text("mine")
    for line, said in [(["--out", str(out)], "exists: choose another name, or pass --force"),
                       (["--out", str(mine), "--force"], "is no page of embcam"), (["--out", str(tmp_path/"x")], "should end in .html"),
                       (["--out", "x.html", "--label", "good"], "--label has no meaning beside --static"),
                       (["--out", "x.html", "--no-pages"], "--no-pages has no meaning"),
                       (["--out", "x.html", "--engine", "ray"], "leave --engine out")]:
        capsys.readouterr()
        assert cli.main(["explain", str(model), str(photos), "--static", *line]) == 2
        assert said in capsys.readouterr().err
    assert mine.read_text() == "mine"
