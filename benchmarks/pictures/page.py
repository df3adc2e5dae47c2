"""The image of an exported page: what Chromium shows of it, from disk and without network, after an image was chosen.

python benchmarks/pictures/page.py PAGE.html IMAGE OUT.jpg [WIDTH HEIGHT THEME]

PAGE is made by `embcam export MODEL --out PAGE.html --examples FOLDER`.
"""
import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[2]/"tests"))
from test_browser import CHROMIUM, FLAGS, bring  # noqa: E402


def main(file, image, out, width=1180, height=1080, theme="light"):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport=dict(width=int(width), height=int(height)), color_scheme=theme, offline=True).new_page()
        page.goto(Path(file).resolve().as_uri())
        page.wait_for_selector("#file:enabled", timeout=120_000)
        bring(page, Path(image), f"{Path(image).name}: ")
        page.wait_for_timeout(1000)
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(out, quality=74, optimize=True)
        browser.close()


if __name__ == "__main__": main(*sys.argv[1:])
