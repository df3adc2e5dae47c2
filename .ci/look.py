"""The site in a browser: pages of each kind, in light and dark, without an accessibility violation.

python .ci/look.py SITE [FOLDER FOR SCREENSHOTS]

Needs Debian's chromium, as tests/test_browser.py does. Ends with an error that names every violation.
"""
import sys
from pathlib import Path
from shutil import which

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

PAGES = ["index", "how_it_works", "tutorials/01_your_own_photographs", "5_explanation/03_records", "cli", "results"]
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
CHROMIUM = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]


def violations(page, name: str, scheme: str) -> list[str]:
    "What axe finds on the page that is open, a line each; in dark only colours differ."
    asked = dict(type="tag", values=RULES) if scheme == "light" else dict(type="rule", values=["color-contrast"])
    found = Axe().run(page, options=dict(runOnly=asked)).response["violations"]
    return [f"{name}, {scheme}: {rule['id']}, {len(rule['nodes'])} times, such as {rule['nodes'][0]['html'][:200]}" for rule in found]


def main() -> int:
    site, shots = Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in "light", "dark":
            page = browser.new_page(viewport=dict(width=1280, height=1000), color_scheme=scheme)
            for name in PAGES:
                page.goto(f"file://{site}/{name}.html")
                found += violations(page, name, scheme)
                if shots: page.screenshot(path=shots/f"{Path(name).name}-{scheme}.png")
        browser.close()
    print(f"{len(PAGES)} pages in light and dark, {len(found)} violations", *found, sep="\n")
    return bool(found)


if __name__ == "__main__": sys.exit(main())
