"""How quick the explorer is: from a key on the slider to the decoded image in Chromium, EfficientNet-Lite0 at 224 px, 51 features, five
maps.

python benchmarks/explorer_speed.py [STEPS]

Through Voila on this machine, warm image: steps that were never asked before, by LayerCAM (a backward pass each) and by Grad-CAM (none),
and steps back over known ground. Then a new image without LIME, a burst of twenty keys, the drawing alone, and 500 interactions with the
kernel's memory.
Printed with the machine's load, since all of it is wall-clock time.
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]/"tests"))
from test_browser import CHROMIUM, FLAGS, READY, Page, environment, write_notebook  # noqa: E402

from embcam.model import EmbeddingClassifier  # noqa: E402
from embcam.network import Backbone  # noqa: E402
from embcam.explanation import Explainer  # noqa: E402
from embcam.explorer import Explorer  # noqa: E402
from embcam.images import make_logos  # noqa: E402
from embcam.explorer.server import is_listening, server_command, start_server, stop_server  # noqa: E402

SOURCE = """import sys
sys.path.insert(0, {here!r})
from explorer_speed import explorer
explorer()"""
WATCH = """() => { window.times = []; let start = 0;
    document.addEventListener('keydown', () => start = performance.now(), true);
    document.addEventListener('pointerdown', () => start = performance.now(), true);
    const status = [...document.querySelectorAll('.emb-dot')][0].closest('.widget-html');
    const last = () => [...document.querySelectorAll('.emb-panels img')].filter(i => i.offsetParent).pop();
    new MutationObserver(async () => { if (!status.querySelector('[data-n]')) return;
        const t = start; await last().decode(); window.times.push(performance.now() - t); window.told?.(); })
        .observe(status, {childList: true, subtree: true, characterData: true}); }"""


def explorer(n_features=51) -> Explorer:
    train, test = make_logos(160, seed=0, progress=False).split(seed=0)
    return Explorer(Explainer(EmbeddingClassifier(Backbone(), n_features=n_features, progress=False).fit(train)), test, train)


NEXT = "n => window.times.length > n || new Promise(told => window.told = told)"  # no polling: it would take the page's own time


def summary(ms) -> str: return f"median {np.median(ms):.0f} ms, 95th percentile {np.quantile(ms, .95):.0f} ms (n = {len(ms)})"


def steps(p: Page, keys) -> list:
    "One key at a time; milliseconds to the new image."
    times = []
    for key in keys:
        n = p.page.evaluate("() => window.times.length")
        p.press("Features", key)
        p.page.evaluate(NEXT, n)
        times.append(p.page.evaluate("() => window.times.at(-1)"))
        p.page.wait_for_timeout(60)
    return times


def calm(p: Page) -> None:
    "Until the slow lane is idle too."
    p.page.wait_for_function(f"() => ({READY})() && !document.querySelector('.emb').innerText.includes('measured')", timeout=120_000)
    p.page.wait_for_timeout(1500)


def in_browser(n: int) -> None:
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        home, port = Path(home), 8868
        write_notebook(home/"x.ipynb", SOURCE.format(here=str(Path(__file__).parent)))
        server = start_server(server_command(home/"x.ipynb", False, port), environment(home), stderr=subprocess.DEVNULL)
        try:
            while not is_listening(port): time.sleep(.2)
            p = Page(playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page(viewport=dict(width=1280, height=1400)),
                     "speed")
            p.page.goto(f"http://127.0.0.1:{port}/?token=t", wait_until="domcontentloaded", timeout=120_000)
            p.ready(120_000)
            p.page.wait_for_function("() => !document.querySelector('.emb').innerText.includes('to come')", timeout=120_000)
            p.select("Ranking", "model's importances")  # no seeds to repeat: the slow lane rests
            calm(p)
            p.page.evaluate(WATCH)
            p.press("Features", "Home")
            calm(p)
            print("new LayerCAM step:", summary(steps(p, ["ArrowRight"]*n)))
            print("known step:", summary(steps(p, ["ArrowLeft"]*n)))
            p.select("Method", "Grad-CAM"), p.select("Target", "TZZ: the rest is 0")
            calm(p)
            print("new Grad-CAM step:", summary(steps(p, ["ArrowRight"]*n)))
            print("new image, no LIME:", summary([new_image(p, i) for i in range(1, 8)]))
            print("from the last of twenty keys to rest:", summary([burst(p, key) for key in ["ArrowLeft", "ArrowRight"]*4]))
        finally: stop_server(server)


def new_image(p: Page, i: int) -> float:
    n = p.page.evaluate("() => window.times.length")
    p.thumbnail(i)
    p.page.evaluate(NEXT, n)
    first = p.page.evaluate("() => window.times.at(-1)")
    calm(p)
    return first


def burst(p: Page, key: str) -> float:
    p.press("Features", *[key]*20)
    p.page.wait_for_timeout(1500)
    return p.page.evaluate("() => window.times.at(-1)")


def drawing() -> None:
    "The explorer's own share of a step: from the knob to the encoded images, without a browser."
    x = explorer()
    x.knobs.ranking.value = "importances"
    x.wait(300)
    x.renderer.rest = 3600  # no judgement beside the drawing
    def steps(): return [(setattr(x.knobs.top, "value", n), drawn(x), 1000*x.state.took)[-1] for n in range(2, 42)]
    print("drawn, new LayerCAM step:", summary(steps()))
    print("drawn, known step:", summary(steps()))


def drawn(x: Explorer) -> None:
    while x.state.drawn != x.state.view or "last update" not in x.page.text.status.value or x.jobs.running.get("fast"): time.sleep(.002)


def memory(rounds=500) -> None:
    "Interactions without a browser: resident memory at each fifth."
    x, rng, sizes = explorer(), np.random.default_rng(0), []
    x.renderer.rest = 0
    x.wait(300)
    k, tops = x.knobs, len(x.explainer.classifier.selected_)
    k.ranking.value = "importances"
    for i in range(rounds):
        k.top.value = int(rng.integers(1, tops + 1))
        if i % 5 == 0: k.method.value = str(rng.choice(["gradcam", "layercam", "hirescam"]))
        if i % 7 == 0: k.target.value = str(rng.choice(["signed", "TZZ", "TOZ"]))
        if i % 10 == 0: x.pick(int(rng.integers(len(x.gallery.names))))
        drawn(x)
        if i % 10 == 9: x.wait()  # the judgement too
        if (i + 1) % (rounds//5) == 0: sizes.append(int(Path("/proc/self/statm").read_text().split()[1])*os.sysconf("SC_PAGE_SIZE")/2**20)
    print(f"resident memory after each {rounds//5} interactions:", ", ".join(f"{size:.0f}" for size in sizes), "MiB")


if __name__ == "__main__":
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start")
    in_browser(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    print(f"load {os.getloadavg()[0]:.1f} in the browser")
    drawing()
    memory()
    print(f"load {os.getloadavg()[0]:.1f} at the end")
