"""The explorer in a real browser: Voila, as `embcam explore` starts it with and without a model, and JupyterLab 4.

python tests/test_browser.py [FOLDER FOR SCREENSHOTS [pages voila lab demo]]

Needs `pip install -e '.[dev]'` and Debian's chromium. Prints each check and, at the end, "N passed, N failed"; exits with 1 if one failed.
"""
import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Error, sync_playwright

from embcam import cli
from embcam.drawing import overlay
from embcam.explanation import Explainer
from embcam.explorer.server import is_listening, server_command, start_server, stop_server
from embcam.images import make_logos
from embcam.images.frames import Preparation
from embcam.model import EmbeddingClassifier, logistic_head
from embcam.network import Backbone

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
SHOTS = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="embcam-browser-"))
SOURCE = """import numpy as np
from embcam import cli
from embcam.explanation import Explainer
from embcam.explorer import Explorer
from embcam.images import ImageSet, make_logos
from embcam.model import EmbeddingClassifier
train, test = make_logos(60, size=112, seed=0, progress=False).split(seed=0)
no_image = np.zeros((3, 3, 3, 3), np.uint8)
def with_one(values, odd): return [*values[:7], odd, *values[7:]]
images = ImageSet(with_one(test.images, no_image), with_one(test.labels, "good"), with_one(test.masks, None))
x = Explorer(Explainer(EmbeddingClassifier.load({model!r}), samples=500), images, train)
x"""
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
passed, failed = [], []


def check(name: str, right) -> None:
    "Count a check."
    (passed if right else failed).append(name)
    print(f"{'ok    ' if right else 'FAILED'} {name}", flush=True)


def prepare(home: Path) -> None:
    "A model, a folder of images of which one is broken, and a notebook."
    train, test = make_logos(60, size=112, seed=0, progress=False).split(seed=0)
    EmbeddingClassifier(Backbone(size=112), n_features=10, progress=False).fit(train).save(home/"model")
    (home/"photos").mkdir()
    for i, image in enumerate(test.images): Image.fromarray(image).save(home/"photos"/f"{i:02}.png")
    (home/"photos"/"07-broken.png").write_bytes(b"no image")
    (home/"audit").mkdir()
    found = dict(artefacts=[], label_issues=[dict(image="05.png"), dict(image="02.png")], near_duplicates=[], outliers=[], atlas=[])
    (home/"audit"/"audit.json").write_text(json.dumps(found))
    write_notebook(home/"explorer.ipynb", SOURCE.format(model=str(home/"model")))


def write_notebook(path: Path, source: str) -> None:
    "A notebook of one cell."
    cell = dict(cell_type="code", id="explorer", metadata={}, execution_count=None, outputs=[], source=source)
    kernel = dict(display_name="Python 3", language="python", name="python3")
    path.write_text(json.dumps(dict(cells=[cell], metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)))


def environment(home: Path) -> dict:
    "No settings of this user, no news, a token."
    settings = home/"settings"/"@jupyterlab"/"apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    silence = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (settings/"notification.jupyterlab-settings").write_text(json.dumps(silence))
    places = dict(JUPYTER_CONFIG_DIR=f"{home}/cfg", JUPYTERLAB_SETTINGS_DIR=f"{home}/settings", JUPYTERLAB_WORKSPACES_DIR=f"{home}/ws")
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return os.environ | places | dict(JUPYTER_TOKEN="t", PYTHONPATH=path)


def explore(home: Path, *arguments) -> tuple:
    "`embcam explore`: the process and its address."
    hear = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # in the background, too
    code = f"import signal, sys; from embcam.cli import main; {hear}; sys.exit(main())"
    command = [sys.executable, "-u", "-c", code, "explore", *arguments, "--no-browser"]
    with open(home/"voila.log", "w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(home))
    return server, server.stdout.readline().strip()


def port_of(address: str) -> int: return int(address.split("/")[2].split(":")[1])


@contextmanager
def voila(home: Path):
    "`embcam explore MODEL FOLDER --audit DIR`; yields its address."
    server, address = explore(home, home/"model", home/"photos", "--audit", home/"audit")
    try: yield address
    finally:
        server.send_signal(signal.SIGINT)
        try: check("voila: ends at Ctrl+C, and leaves nothing behind", server.wait(20) == 130 and not is_listening(port_of(address)))
        except subprocess.TimeoutExpired:
            check("voila: ends at Ctrl+C", False)
            server.terminate()  # not kill: it would leave Voila behind where the system does not end it


@contextmanager
def demo(home: Path):
    "`embcam explore` without a model; the command is killed in the end, and its server must end with it (Linux)."
    server, address = explore(home)
    try: yield address
    finally:
        server.kill()
        server.wait()
        gone = any(not is_listening(port_of(address)) or time.sleep(.2) for _ in range(100))
        check("demo: the server ends when the command is killed", gone)


@contextmanager
def lab(home: Path):
    "JupyterLab on the notebook; yields its address."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = server_command(home/"explorer.ipynb", True, port) + ["--LabApp.expose_app_in_browser=True"]
    with open(home/"lab.log", "w") as log: server = start_server(command, environment(home), stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            if is_listening(port) or server.poll() is not None: break
            time.sleep(.2)
        yield f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb?token=t&reset"
    finally: stop_server(server)


RUN_ALL = """async () => { const a = window.jupyterapp; await a.restored; const w = a.shell.currentWidget;
    await w.context.ready; await w.sessionContext.ready; await w.sessionContext.session.kernel.info;
    await a.commands.execute('notebook:run-all-cells'); }"""
READY = """() => { const e = document.querySelector('.emb');
    return e && e.innerText.includes('last update') && !e.querySelector('.emb-busy')
    && !e.querySelector('.emb-waiting'); }"""
SEEN = "() => [...document.querySelectorAll('.emb-panels img')].filter(i => i.offsetParent && i.naturalWidth).map(i => i.src).join()"

DRAWN = "() => +(document.querySelector('.emb-dot')?.dataset.n || 0)"  # how often the explorer has said that it is ready


class Page:
    "The explorer in a page, with what a user does."

    def __init__(self, page, name: str):
        self.page, self.name, self.complaints = page, name, []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self.hear)

    @staticmethod
    def ours(url: str) -> bool:  # Voila asks a CDN for icons that it also brings itself
        return "//" not in url or "//127.0.0.1" in url

    def ready(self, timeout: int = 30_000): self.page.wait_for_function(READY, timeout=timeout)
    def hear(self, message):
        "Note an error of the console, if the page is ours."
        url = message.location["url"]
        if message.type == "error" and self.ours(url): self.complaints.append(f"{message.text} {url}")

    def select(self, label: str, option: str):
        self.page.locator(f".emb .widget-dropdown:has(label:text-is('{label}')) select").select_option(label=option)
    def press(self, slider: str, *keys: str):
        handle = self.page.locator(f".emb .widget-slider:has(label:text-is('{slider}')) .noUi-handle")
        handle.focus()
        for key in keys: handle.press(key)

    def calm(self):
        "Wait until nothing is drawn for a second: a press of a burst may still be on its way, and a new view takes back what was saved."
        drawn = None
        while drawn != (drawn := self.page.evaluate(DRAWN)): self.page.wait_for_timeout(1000)

    def switch(self, row: int): self.page.locator(".emb-switches input").nth(row).click()
    def thumbnail(self, i: int): self.page.locator(".emb-thumb button").nth(i).click()
    def suspect(self, name: str):
        self.select("among", "label issues (2)")
        self.page.wait_for_function("() => document.querySelector('.emb').innerText.includes('1 to 2 of 2')")
        self.page.locator(f".emb-thumb:visible:has(button[title^='{name}']) img").click(force=True)  # the image: the button lies over it
    def shot(self, name: str): self.page.screenshot(path=SHOTS/f"{self.name}-{name}.png")

    def changes(self, what: str, action, *args) -> None:
        "Do something; the maps must change, and no error may show."
        before = [self.page.evaluate(SEEN), self.page.evaluate(DRAWN)]
        try:
            action(*args)
            changed = f"before => ({DRAWN})() > before[1] && ({SEEN})() !== before[0] && ({READY})()"
            self.page.wait_for_function(changed, arg=before, timeout=15_000)
            check(f"{self.name}: {what}", not self.page.locator(".emb-error").count())
        except Error as error:
            print(str(error)[:300])
            check(f"{self.name}: {what}", False)
            self.shot(f"failed-{len(failed)}")


def play(p: Page) -> None:
    "What a visitor does."
    page = p.page
    p.ready(90_000)
    maps, thumbs = (page.locator(where).count() for where in (".emb-panels:visible img:visible", ".emb-thumb img:visible"))
    check(f"{p.name}: five maps, eight thumbnails", (maps, thumbs) == (5, 8))
    p.shot("first")
    done = "() => !['to come', 'being measured'].some(text => document.querySelector('.emb').innerText.includes(text))"
    page.wait_for_function(done, timeout=60_000)
    text = page.locator(".emb-facts").inner_text()
    check(f"{p.name}: stability and likeness", "this ranking is not random" in text and "the map of any features" in text)
    p.shot("first")
    p.changes("the slider of the features", p.press, "Features", "Home")
    p.changes("the paper's target", p.select, "Target", "TZZ: the rest is 0")
    p.changes("another method", p.select, "Method", "Grad-CAM")
    p.changes("a burst of steps", p.press, "Features", *["ArrowRight"]*9, *["ArrowLeft"]*3)
    p.changes("a feature switched off", p.switch, 0)
    p.changes("and on again", p.switch, 0)
    p.changes("one layer, large", p.select, "Layer", "blocks.4")
    p.shot("large")
    p.changes("for and against", p.select, "Layer", "for and against")
    p.shot("signed")
    p.changes("all layers", p.select, "Layer", "all side by side")
    p.changes("opacity", p.press, "Opacity", "ArrowLeft", "ArrowLeft")
    p.changes("compare mode", lambda: page.get_by_text("Compare: keep this as A").click())
    p.changes("the other setting", p.press, "Features", "Home")
    check(f"{p.name}: two rows of maps", page.locator(".emb-panels:visible").count() == 2)
    p.shot("compare")
    p.changes("compare mode, off", lambda: page.get_by_text("Compare: keep this as A").click())
    p.changes("what if", p.select, "What if", "blur a rectangle")
    p.changes("the rectangle", p.press, "width %", *["ArrowRight"]*3)
    p.calm()
    page.get_by_text("Save as page").click()
    page.wait_for_selector(".emb a[download]")
    with page.expect_download() as kept: page.locator(".emb a[download]").click()
    check(f"{p.name}: a page to keep", "data:image/jpeg" in Path(kept.value.path()).read_text())
    p.thumbnail(7)
    page.wait_for_selector(".emb-error")
    check(f"{p.name}: an unreadable image is named in words", "cannot be shown" in page.locator(".emb-error").inner_text())
    p.shot("unreadable")
    p.changes("a good image after it", p.thumbnail, 1)
    p.press("Features", "End")
    p.changes("the signed target", p.select, "Target", "signed: what pushes")
    p.changes("another class", p.select, "Explain", "interrupted")
    p.changes("reasons for a class against another", p.select, "against", "good")
    if p.name == "voila":
        p.changes("a click on the image of a suspect", p.suspect, "02.png")
        check(f"{p.name}: no training images, no new model", "fitted on are not here" in page.locator(".emb").inner_text())
    for width in 900, 1700:
        page.set_viewport_size(dict(width=width, height=1500))
        page.wait_for_timeout(500)
        wide = page.evaluate("() => [...document.querySelectorAll('.emb, .emb-main, .emb-card')]"
                             ".filter(e => e.scrollWidth > e.clientWidth + 2)"
                             ".map(e => `${e.className} ${e.innerText.slice(0, 20)} ${e.scrollWidth} > ${e.clientWidth}`).join()")
        check(f"{p.name}: holds at {width} px {wide}", not wide)
        p.shot(f"{width}px")
    check(f"{p.name}: nothing in the console", not p.complaints)
    for complaint in p.complaints[:5]: print("      ", complaint[:300])


def play_demo(p: Page) -> None:
    "Exact reasons of a linear head: all features kept, features with names, and a slider that follows the target."
    page, start = p.page, time.time()
    p.ready(120_000)
    check(f"{p.name}: the first map after {time.time() - start:.0f} s", page.locator(".emb-panels:visible img:visible").count() == 5)
    page.wait_for_function("() => !document.querySelector('.emb').innerText.includes('being measured')", timeout=60_000)
    check(f"{p.name}: nothing random in the ranking", "not random" in page.locator(".emb-facts").inner_text())
    check(f"{p.name}: features are named by their layer", "/" in page.locator(".emb-switches .widget-checkbox").first.inner_text())
    p.shot("first")
    top = page.locator(".emb .widget-slider:has(label:text-is('Features')) .widget-readout")
    before = top.inner_text()
    p.changes("the paper's target", p.select, "Target", "TZZ: the rest is 0")
    check(f"{p.name}: the slider follows, {before} -> {top.inner_text()}", int(before) > 13 and top.inner_text() == "13")
    p.changes("the signed target", p.select, "Target", "signed: what pushes")
    p.changes("another image", p.thumbnail, 3)
    p.changes("a feature switched off", p.switch, 0)
    play_better(p)
    check(f"{p.name}: nothing in the console", not p.complaints)


def play_better(p: Page) -> None:
    "Wishes for the next model: a box, another label, undo; fit again, both sides, and a new folder."
    page = p.page
    def click(name): page.get_by_role("button", name=name, exact=True).click()
    def says(text, timeout=20_000):
        page.wait_for_function(f"() => document.querySelector('.emb').innerText.includes({text!r})", timeout=timeout)
    p.changes("what if", p.select, "What if", "paint a rectangle over")
    click("Ignore this box")
    says("is ignored")
    click("Relabel this image")
    says(".png is ")
    click("Undo")
    page.wait_for_function("() => !document.querySelector('.emb').innerText.includes('.png is ')")
    start = time.time()
    click("Fit again")
    says("on images that the heads have not seen", 120_000)
    sides = page.locator(".emb-sides:visible img:visible")
    check(f"{p.name}: before and after, side by side, after {time.time() - start:.0f} s", sides.count() == 2)
    p.shot("better")
    seen = "() => [...document.querySelectorAll('.emb-sides img')].map(i => i.src).join()"
    before = page.evaluate(seen)
    p.changes("another image again", p.thumbnail, 2)
    page.wait_for_function(f"before => ({seen})() !== before", arg=before)
    with tempfile.TemporaryDirectory() as folder:
        page.get_by_label("Folder").fill(f"{folder}/better")
        click("Save as")
        page.wait_for_function("() => /Saved: |nothing is written/.test(document.querySelector('.emb').innerText)", timeout=180_000)
        written, text = Path(folder, "better", "proof", "index.html").exists(), page.locator(".emb").inner_text()
        check(f"{p.name}: the new model and its proof, or why there is none", written == ("Saved: " in text))


def documents(home: Path, browser) -> None:
    "Pages that somebody mails: from disk they ask for nothing outside, and axe finds no fault by WCAG 2.2 A and AA, in light and dark."
    images = [str(path) for path in sorted((home/"photos").glob("0[0-2].png"))]
    check("pages: explained", cli.main(["explain", str(home/"model"), *images, "--out", str(home/"pages")]) == 0)
    for theme in "light", "dark":
        for name in "index.html", "00/index.html":
            page, asked = browser.new_page(color_scheme=theme), []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto((home/"pages"/name).as_uri())
            check(f"pages: {name}, {theme}: axe finds no fault", not faults_of(page))
            check(f"pages: {name}, {theme}: nothing from outside", all(url.startswith(("file:", "data:")) for url in asked))
            page.close()


def faults_of(page) -> list:
    "What axe finds, printed."
    faults = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    for fault in faults: print(fault["id"], fault["help"], fault["nodes"][0]["html"][:200])
    return faults


CANVAS = """id => { const c = document.getElementById(id); return [c.height, c.width, btoa(Array.from(
    c.getContext('2d').getImageData(0, 0, c.width, c.height).data, b => String.fromCharCode(b)).join(''))] }"""


def pixels(page, name: str) -> np.ndarray:
    "What a canvas shows, (h, w, 3)."
    h, w, data = page.evaluate(CANVAS, name)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(h, w, 4)[..., :3]


def settled(page) -> np.ndarray:
    "The map, when what was asked is drawn."
    page.wait_for_function("() => document.getElementById('said').textContent && !document.getElementById('map').ariaBusy")
    return pixels(page, "map")


def off(page, explainer, path: Path, **asked) -> float:
    "Levels of 255 by which the page's combined map differs from Python's, in the mean."
    ex, image = explainer(path, **asked), pixels(page, "plain")
    maps = ex.maps.limited(max(image.shape))
    return float(np.abs(settled(page).astype(float) - overlay(image, maps["combined"], evidence=ex.evidence["combined"])).mean())


def play_stored(page, home: Path, explainer) -> None:
    "The page of stored maps, by keyboard and menus."
    def knob(name): return page.locator(f"#{name}")
    first = page.locator("#images button")
    check("stored: two images", first.count() == 2)
    path = home/"photos"/page.locator("#name").inner_text().partition(":")[0]
    check("stored: the map is Python's", off(page, explainer, path) < 1)
    label = knob("class").locator("option").nth(2).inner_text()
    knob("class").select_option(label)
    check("stored: another class", off(page, explainer, path, label=label) < 1)
    knob("top").focus()
    knob("top").press("Home")
    check("stored: one feature", off(page, explainer.replace(top=1), path, label=label) < 1)
    knob("class").select_option("")
    before = settled(page)
    knob("versus").select_option(index=1)
    check("stored: against another class", (settled(page) != before).any())
    knob("versus").select_option("")
    plain = settled(page)
    knob("threshold").press("End")
    check("stored: a threshold hides", (settled(page) != plain).any())
    knob("threshold").press("Home")
    knob("opacity").press("Home")
    check("stored: no opacity, no map", np.ptp(settled(page).astype(float) - overlay(pixels(page, "plain"), np.zeros((2, 2)))) <= 1)
    layer = page.locator("#layers button").nth(2)
    layer.press("Enter")
    check("stored: a layer by keyboard", knob("layer").input_value() == layer.inner_text().partition(":")[0])
    with page.expect_download() as kept: knob("save").click()
    check("stored: saved as PNG", Image.open(kept.value.path()).format == "PNG")
    first.nth(1).press("Enter")
    page.wait_for_function("name => !document.getElementById('name').textContent.startsWith(name)", arg=path.name)
    check("stored: another image by keyboard", len(settled(page)) > 100)


def stored(home: Path, browser) -> None:
    "The explorer without Python, from disk and without network."
    images = [str(path) for path in sorted((home/"photos").glob("0[0-1].png"))]
    check("stored: made", cli.main(["explain", str(home/"model"), *images, "--static", "--out", str(home/"maps.html")]) == 0)
    for theme in "light", "dark":
        page, asked = browser.new_page(color_scheme=theme, viewport=dict(width=1280, height=1200)), []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error: check(f"stored: {error}", False))
        page.goto((home/"maps.html").as_uri())
        settled(page)
        page.screenshot(path=SHOTS/f"stored-{theme}.png")
        check(f"stored: {theme}: axe finds no fault", not faults_of(page))
        if theme == "light": play_stored(page, home, Explainer(EmbeddingClassifier.load(home/"model")))
        check(f"stored: {theme}: nothing from outside", all(url.startswith(("file:", "data:", "blob:")) for url in asked))
        page.close()


PREPARE = """([w, h, data, how]) => { const b = bytes(data), p = new ImageData(new Uint8ClampedArray(b), w, h), [x] = prepare(p, how);
    return letters(new Uint8Array(x.buffer)) }"""
LETTERS = "() => { window.letters = b => { let s = ''; for (const one of b) s += String.fromCharCode(one); return btoa(s) } }"
MADE = """() => { const e = DATA.entries[0], m = e.made[e.prediction];
    return { label: e.prediction, scores: [...m.scores.data], x: letters(new Uint8Array(e.x.buffer)) } }"""


DROP = """data => { const d = new DataTransfer(); d.items.add(new File([bytes(data)], 'dropped.png'))
    dispatchEvent(new DragEvent('drop', { dataTransfer: d })) }"""


def floats(letters: str) -> np.ndarray: return np.frombuffer(base64.b64decode(letters), np.float32)


def prepares(page) -> None:
    "The page prepares images as Python does, to the bit."
    rng, wrong = np.random.default_rng(0), []
    for size in (200, 301), (97, 60), (64, 64):
        image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        data = base64.b64encode(np.dstack([image, np.full(size, 255, np.uint8)]).tobytes()).decode()
        for how in [Preparation(64, resize, .875, interpolation, channels=channels) for channels in (3, 1)
                    for resize in ("squash", "letterbox", "crop") for interpolation in ("bilinear", "bicubic", "lanczos")]:
            right = how.prepare(image)[0]
            made = floats(page.evaluate(PREPARE, [size[1], size[0], data, asdict(how)]))
            wrong += [f"{size} {how.resize} {how.interpolation}: {(made != np.ravel(right)).sum()}"]*bool((made != np.ravel(right)).any())
    check(f"export: prepares 54 images as Python does {wrong[:3]}", not wrong)


def bring(page, path: Path, words: str) -> None:
    "Choose a file, and wait for what is said."
    page.set_input_files("#file", path)
    page.wait_for_function("words => document.getElementById('state').textContent.includes(words)", arg=words, timeout=60_000)


def play_exported(page, home: Path, explainer) -> None:
    "The exported page against Python, on images that neither side has seen."
    page.evaluate(LETTERS)
    prepares(page)
    for i in (3, 4):
        path = home/"photos"/f"{i:02}.png"
        bring(page, path, f"{path.name}: ")
        made, ex = page.evaluate(MADE), explainer(path)
        x = np.ravel(explainer.classifier.backbone.prepare(ex.image)[0])
        check(f"export: {path.name}: input as in Python", (floats(made["x"]) == x).all())
        scores = np.abs(np.subtract(made["scores"], list(ex.probabilities.values()))).max()
        check(f"export: {path.name}: {made['label']}, scores to {scores:.0e}", made["label"] == ex.prediction and scores < 1e-4)
        check(f"export: {path.name}: map as in Python", off(page, explainer, path) < 1)
    other = next(c for c in explainer.classifier.classes_.tolist() if c != ex.prediction)
    page.locator("#class").select_option(other)
    check("export: another class", off(page, explainer, path, label=other) < 1)
    page.locator("#class").select_option("")
    page.evaluate(DROP, base64.b64encode(path.read_bytes()).decode())
    page.wait_for_function("() => document.getElementById('state').textContent.startsWith('dropped.png: ')", timeout=60_000)
    check("export: a dropped image", page.locator("#images button").count() == 5 and off(page, explainer, path) < 1)
    (home/"deep.png").write_bytes(encode_png16())
    bring(page, home/"deep.png", "has 16 bits a channel")
    bring(page, home/"photos"/"07-broken.png", "cannot be read by this browser")
    page.locator("#licence summary").click()
    page.wait_for_function("() => document.getElementById('terms').textContent.startsWith('MIT License')")


def encode_png16() -> bytes:
    "A small PNG of 16 bits a channel."
    buffer = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def exported(home: Path, browser) -> None:
    "A model as one page: from disk, without network, as Python answers."
    train, _ = make_logos(60, size=112, seed=0, progress=False).split(seed=0)
    EmbeddingClassifier(Backbone(size=112, pooled="stages"), logistic_head(), "all", progress=False).fit(train).save(home/"line")
    examples = home/"examples"
    examples.mkdir()
    for i in (0, 1): shutil.copy(home/"photos"/f"{i:02}.png", examples)
    check("export: made", cli.main(["export", str(home/"line"), "--out", str(home/"page.html"), "--examples", str(examples)]) == 0)
    for theme in "light", "dark":
        context, asked = browser.new_context(color_scheme=theme, viewport=dict(width=1280, height=1200), offline=True), []
        page = context.new_page()
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error: check(f"export: {error}", False))
        start = time.time()
        page.goto((home/"page.html").as_uri())
        check(f"export: {theme}: examples at once", page.locator("#images button").count() == 2)
        page.wait_for_selector("#file:enabled", timeout=60_000)
        print(f"ready {time.time() - start:.1f} s after it was opened: {page.locator('#state').inner_text()}")
        if theme == "light": play_exported(page, home, Explainer(EmbeddingClassifier.load(home/"line")))
        page.screenshot(path=SHOTS/f"exported-{theme}.png", full_page=True)
        check(f"export: {theme}: axe finds no fault", not faults_of(page))
        check(f"export: {theme}: nothing from outside", all(url.startswith(("file:", "data:", "blob:")) for url in asked))
        context.close()


def pages(home: Path, browser) -> None:
    "All pages that need no server."
    documents(home, browser)
    stored(home, browser)
    exported(home, browser)


def refuses(address: str) -> bool:
    "Whether the server asks for its token."
    try: page = urllib.request.urlopen(address.split("?")[0], timeout=10)
    except urllib.error.HTTPError as error: return error.code in (401, 403)
    return "login" in page.geturl()


SERVERS = dict(voila=voila, lab=lab, demo=demo)


def visit(name: str, home: Path, browser) -> None:
    "Start a server, open its page, and play."
    try:
        with SERVERS[name](home) as address:
            check(f"{name}: on 127.0.0.1, and asks for its token", address.startswith("http://127.0.0.1:") and refuses(address))
            p = Page(browser.new_page(viewport=dict(width=1280, height=1500)), name)
            p.page.goto(address, wait_until="domcontentloaded", timeout=90_000)
            if name == "lab":
                p.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
                p.page.evaluate(RUN_ALL)
            (play_demo if name == "demo" else play)(p)
            if name == "lab":
                p.page.set_viewport_size(dict(width=1400, height=1500))
                p.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
                p.page.wait_for_timeout(1500)
                p.shot("dark")
            p.page.close()
    except (Error, OSError) as error:
        check(f"{name}: {str(error)[:300]}", False)
        print((home/f"{'lab' if name == 'lab' else 'voila'}.log").read_text()[-1500:])


def main() -> int:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        home, names = Path(home), sys.argv[2:] or ["pages", *SERVERS]
        if names != ["demo"]: prepare(home)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in names:
            start = time.time()
            if name == "pages": pages(home, browser)
            else: visit(name, home, browser)
            print(f"{name}: {time.time() - start:.0f} s")
        browser.close()
    print(f"screenshots: {SHOTS}\n{len(passed)} passed, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__": sys.exit(main())
