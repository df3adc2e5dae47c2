"""The image of the explorer in the README: a browser on JupyterLab's own widgets, a model and a folder of images.

python benchmarks/pictures/explorer.py MODEL FOLDER CLASS IMAGE OUT.jpg [WIDTH HEIGHT THEME]

MODEL is made by `embcam fit`, FOLDER holds class folders; images that the model was trained on are left out. CLASS is what the
gallery shows, IMAGE the name of what is looked at. The result is what Chromium paints; nothing is added.
"""
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[2]/"tests"))
from test_browser import CHROMIUM, FLAGS, READY, environment, write_notebook  # noqa: E402

from embcam.explorer.server import is_listening, server_command, start_server, stop_server  # noqa: E402

SOURCE = """from embcam.model import EmbeddingClassifier
from embcam.explanation import Explainer
from embcam.explorer import Explorer
from embcam.explorer.server import images_in, split_training
clf = EmbeddingClassifier.load({model!r})
images, training = split_training(clf, images_in({folder!r}))
x = Explorer(Explainer(clf), images, training)
x.gallery.kind.value = {kind!r}
x.pick(images.names.index({name!r}))
x.gallery.first = x.gallery.chosen().index(x.state.view.image)//8*8
x"""


def main(model, folder, kind, name, out, width=1320, height=1180, theme="light"):
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        home, port = Path(home), 8867
        write_notebook(home/"x.ipynb", SOURCE.format(model=model, folder=folder, kind=kind, name=name))
        server = start_server(server_command(home/"x.ipynb", False, port, theme), environment(home), stderr=subprocess.DEVNULL)
        try:
            while not is_listening(port): time.sleep(.2)
            page = playwright.chromium.launch(executable_path=CHROMIUM,
                                              args=FLAGS).new_page(viewport=dict(width=int(width), height=int(height)))
            page.goto(f"http://127.0.0.1:{port}/?token=t", wait_until="domcontentloaded", timeout=120_000)
            page.wait_for_function(f"() => ({READY})() && !document.querySelector('.emb').innerText.includes('measured')"
                                   "&& !document.querySelector('.emb').innerText.includes('to come')", timeout=180_000)
            page.wait_for_timeout(2000)
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(out, quality=74, optimize=True)
        finally: stop_server(server)


if __name__ == "__main__": main(*sys.argv[1:])
