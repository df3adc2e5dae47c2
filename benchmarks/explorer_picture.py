"""The picture of the explorer in the README: a browser on JupyterLab's own widgets, a model and a folder of pictures.

python benchmarks/explorer_picture.py MODEL FOLDER CLASS PICTURE OUT.jpg [WIDTH HEIGHT THEME]

MODEL is made by `embcam fit`, FOLDER holds class folders; pictures that the model was trained on are left out. CLASS is what the
gallery shows, PICTURE the name of what is looked at. The picture is what Chromium paints; nothing is added.
"""
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]/"tests"))
from test_browser import CHROMIUM, FLAGS, READY, environment  # noqa: E402

from embcam.explorer import answers, server_command, stop  # noqa: E402

SOURCE = """from embcam.classify import EmbeddingClassifier
from embcam.explain import Explainer
from embcam.explorer import Explorer, learnt, pictures_in
clf = EmbeddingClassifier.load({model!r})
images, training = learnt(clf, pictures_in({folder!r}))
x = Explorer(Explainer(clf), images, training)
x.gallery.kind.value = {kind!r}
x.pick(images.names.index({name!r}))
x.gallery.first = x.gallery.chosen().index(x.view.picture)//8*8
x"""


def main(model, folder, kind, name, out, width=1320, height=1180, theme="light"):
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        home, port = Path(home), 8867
        cell = dict(cell_type="code", id="x", metadata={}, execution_count=None, outputs=[], source=SOURCE.format(model=model, folder=folder, kind=kind, name=name))
        (home/"x.ipynb").write_text(json.dumps(dict(cells=[cell], metadata=dict(kernelspec=dict(display_name="Python 3", name="python3")), nbformat=4, nbformat_minor=5)))
        server = subprocess.Popen(server_command(home/"x.ipynb", False, port, theme), env=environment(home), stderr=subprocess.DEVNULL)
        try:
            while not answers(port): time.sleep(.2)
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page(viewport=dict(width=int(width), height=int(height)))
            page.goto(f"http://127.0.0.1:{port}/?token=t", wait_until="domcontentloaded", timeout=120_000)
            page.wait_for_function(f"() => ({READY})() && !document.querySelector('.emb').innerText.includes('measured')"
                                   "&& !document.querySelector('.emb').innerText.includes('to come')", timeout=180_000)
            page.wait_for_timeout(2000)
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(out, quality=74, optimize=True)
        finally: stop(server)


if __name__ == "__main__": main(*sys.argv[1:])
