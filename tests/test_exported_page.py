"Edge cases of embcam.export.page; what the page does is tested in a browser, by test_browser.py."
import numpy as np
import pytest
from PIL import Image

from embcam.explanation import Explainer
from embcam.export import export_page
from embcam.export.page import _tall_first, packed_runtime, page_facts
from embcam.images import make_logos
from embcam.model import EmbeddingClassifier, logistic_head
from embcam.network import Backbone

PREPARATION = dict(size=96, resize="squash", crop=.875, interpolation="BICUBIC", mean=[.5], std=[.5], channels=3)
FACTS = dict(layers=[], left_out=[], notes=[], scores="probability", classes=[1, "</script>"], preparation=PREPARATION)


@pytest.fixture(scope="module")
def explainer():
    logos = make_logos(30, size=96, seed=0, progress=False)
    return Explainer(EmbeddingClassifier(Backbone(size=96, pooled="stages"), logistic_head(), "all", progress=False).fit(logos))


def test_what_the_script_reads(explainer):
    read = page_facts(explainer, FACTS)
    assert read["classes"] == ["1", "</script>"] and read["preparation"]["interpolation"] == "bicubic"
    assert read["kept"] == read["ranked"] == 704 and read["nowhere"] == "no part of the image speaks for it"
    assert page_facts(explainer.replace(method="layercam"), FACTS)["nowhere"] == "no positive relevance at this layer"
    for filter in "hamming", "box", "nearest":
        with pytest.raises(ValueError, match=f"'{filter}' cannot be done in a page"):
            page_facts(explainer, FACTS | dict(preparation=PREPARATION | dict(interpolation=filter)))


def test_the_order_of_the_axes_is_the_installed_pillows():
    rng = np.random.default_rng(1)
    for h, w, H, W in rng.integers(10, 200, (200, 4)).tolist():
        image = Image.fromarray(rng.integers(0, 256, (h, w), np.uint8))
        rows_first = _tall_first() and h - H > max(0, 2*(w - W))
        assert image.resize((W, H)) == image.resize((w, H) if rows_first else (W, h)).resize((W, H)), (h, w, H, W)


def test_the_runtime_is_whole():
    name, content = packed_runtime()
    assert name.startswith("onnxruntime-web 1.") and set(content) == {"bundle.mjs", "runtime.wasm", "licence.txt"}
    assert content["runtime.wasm"].startswith(b"\0asm") and b"Licensed under the MIT License" in content["bundle.mjs"][:300]


def test_nothing_is_written_that_cannot_be_done(explainer, tmp_path, monkeypatch):
    page = tmp_path/"page.html"
    with pytest.raises(ValueError, match="cannot be exported"): export_page(explainer.replace(top=5, target="TZZ"), page)
    monkeypatch.setattr("embcam.export.page._MOST", 1)
    with pytest.raises(ValueError, match="MB, too many for a page: export it as .onnx"): export_page(explainer, page)
    page.write_text("mine")
    with pytest.raises(FileExistsError, match="exists"): export_page(explainer, page)
    assert page.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["page.html"]
