"""The documentation as a site, without Quarto: nbdev's own pages, then Sphinx with myst-nb. No notebook is run, nothing is fetched.

python .ci/site.py OUT [--processed _proc]

Needs `pip install sphinx myst-nb furo`. GitHub Pages are made by Quarto (.github/workflows/docs.yml) of the same pages and the same
nbs/sidebar.yml. Ends with an error that names every dead link and anchor.
"""
import argparse
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

SITE = "https://embcam.github.io/embcam/"  # where nbdev's links point
CONF = """
project = "embcam"
copyright = "embcam contributors"
extensions = ["myst_nb"]
html_theme = "furo"
html_title = "embcam"
html_favicon = "images/favicon.svg"
html_css_files = ["site.css"]
html_static_path = ["_static"]
html_js_files = ["site.js"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
nb_execution_mode = "off"
myst_heading_anchors = 4
myst_links_external_new_tab = True
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]
exclude_patterns = ["results"]
"""
CSS = """
.content { width: 52em; }
.cell_output img { background: #fff; border-radius: 4px; max-width: 100%; }
.cell_output .output { overflow-x: auto; }
.cell_output table { font-size: .85rem; border-collapse: collapse; border: 0; }
.cell_output :is(th, td) { border: 0; border-bottom: 1px solid var(--color-background-border); padding: .2rem .5rem; text-align: right; }
.source { float: right; margin-top: .5rem; font-size: .8rem; }
.toc-tree a { display: inline-block; padding: .2rem 0; }
"""
SCRIPT = """addEventListener("load", () => {  // what scrolls can be scrolled with the keyboard
  for (const box of document.querySelectorAll("pre, .output, .table-wrapper")) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
"""
MENDED = {  # what Sphinx, Furo and pandas forget: axe's rules aria-required-attr, landmark-unique, empty-table-header
    'class="caption" role="heading"': 'class="caption" role="heading" aria-level="2"',
    '<aside class="sidebar-drawer"': '<aside aria-label="Pages" class="sidebar-drawer"',
    '<aside class="toc-drawer': '<aside aria-label="On this page" class="toc-drawer',
    "<th></th>": "<td></td>"}


def front_matter(cell: dict) -> dict:
    "Title, description and output file of a page."
    return yaml.safe_load("".join(cell["source"]).strip().strip("-"))


def writes_markdown(cell: dict) -> bool: return any("text/markdown" in output.get("data", {}) for output in cell["outputs"])


def as_markdown(cell: dict) -> dict:
    "What `show_doc` or another hidden cell has written, as a cell of text: a heading in an output has no anchor."
    text = "".join(cell["outputs"][0]["data"]["text/markdown"]).replace("---\n", "", 1)
    source = re.search(r"\[source\]\(([^)]*)\)\{[^}]*\}\n", text)
    if source: text = f'<a class="source" href="{source[1]}">source</a>\n\n' + text.replace(source[0], "")
    return dict(cell_type="markdown", metadata={}, source=text)


def slug(name: str) -> str: return re.sub(r"[^\w-]", "", name.lower())  # as myst makes an anchor of "Explanation.save"


def entries(notebooks: dict[str, dict]) -> set[str]:
    "Anchors of all that has an entry: methods with a cell of their own have one, others do not."
    cells = [cell for notebook in notebooks.values() for cell in notebook["cells"] if "show_doc(" in "".join(cell["source"])]
    texts = ["".join(output.get("data", {}).get("text/markdown", "")) for cell in cells for output in cell.get("outputs", [])]
    return {slug(name) for text in texts for name in re.findall(r"^#+ (\S+)", text, re.M)}


def linked(text: str, pages: dict[str, str], known: set[str], here: str) -> str:
    "nbdev's links to the published site as links to notebooks, and no link within a link; of what has no entry, to its class."
    text = re.sub(r"\[\[(`[^`]*`)\]\([^)]*\)\]", r"[\1]", text)
    up = "../"*here.count("/")
    def own(match):
        page, _, anchor = match[2].partition("#")
        if anchor.startswith("_"): return match[1]  # private: it has no entry
        anchor = next((slug(name) for name in (anchor, anchor.partition(".")[0]) if slug(name) in known), "")
        return f"[{match[1]}]({up}{pages[page]}{'#' + anchor if anchor else ''})" if page in pages else match[0]
    return re.sub(rf"\[([^\]]*)\]\({re.escape(SITE)}([^)]*)\)", own, text)


def page(notebook: dict, pages: dict[str, str], known: set[str], here: str) -> dict:
    "A notebook as myst-nb reads it."
    cells = []
    for i, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "raw":
            head = front_matter(cell)
            cell = dict(cell_type="markdown", metadata={}, source=f"# {head['title']}\n{head.get('description', '')}")
        elif "WARNING: THIS FILE WAS AUTOGENERATED" in source: continue
        elif cell["cell_type"] == "code" and "#| echo: false" in source and writes_markdown(cell): cell = as_markdown(cell)
        elif cell["cell_type"] == "code": cell["metadata"]["tags"] = ["remove-input"]*("#| echo: false" in source)
        if cell["cell_type"] == "markdown": cell["source"] = linked("".join(cell["source"]), pages, known, here)
        else: cell["source"] = re.sub(r"^#\|.*\n", "", source, flags=re.M)
        cells.append(cell | dict(id=cell.get("id") or f"cell{i}"))
    return notebook | dict(cells=cells)


def trees(contents: list, root: Path, caption: str = "") -> list[str]:
    "The sidebar as tables of contents of myst."
    plain, found = [], []
    for entry in contents:
        if isinstance(entry, str): plain += sorted(str(file.relative_to(root)) for file in root.glob(entry) if file.suffix == ".ipynb")
        else:
            inner = entry["contents"] if isinstance(entry["contents"], list) else [entry["contents"]]
            found += trees(inner, root, entry["section"])
    own = ["self" if name == "index.ipynb" else name for name in plain]
    head = [f"```{{toctree}}\n:hidden:\n:caption: {caption or 'Start'}\n\n" + "\n".join(own) + "\n```"] if own else []
    return head + found


class Links(HTMLParser):
    "Names of anchors and links of one page."
    def __init__(self):
        super().__init__()
        self.anchors, self.links = set(), set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links |= {found[name] for name in ("href", "src") if found.get(name)}


def mend(site: Path) -> None:
    "Write what is forgotten into the pages."
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        for old, new in MENDED.items(): text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")


def dead_links(site: Path) -> list[str]:
    "Links within the site that lead nowhere."
    pages = {}
    for file in site.rglob("*.html"):
        pages[file] = Links()
        pages[file].feed(file.read_text(encoding="utf-8"))
    dead = []
    for file, parsed in pages.items():
        for link in parsed.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"): continue
            target = (file.parent/unquote(parts.path)).resolve() if parts.path else file.resolve()
            if not target.exists(): dead.append(f"{file.relative_to(site)}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                dead.append(f"{file.relative_to(site)}: {link}")
    return dead


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processed", type=Path, help="pages that nbdev has made already, such as _proc")
    args = parser.parse_args()
    if args.processed is None:
        refresh_quarto_yml()
        done, entries_now = Path("_proc"), Path(__file__).with_name("entries.py")
        proc_nbs(n_workers=0, force=done.exists() and done.stat().st_mtime < entries_now.stat().st_mtime)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)/"site"
        shutil.copytree(args.processed or "_proc", root)
        notebooks = {file.relative_to(root).as_posix(): json.loads(file.read_text(encoding="utf-8")) for file in root.rglob("*.ipynb")}
        pages = {}
        for name, notebook in notebooks.items():
            head = front_matter(notebook["cells"][0]) if notebook["cells"][0]["cell_type"] == "raw" else {}
            pages[(Path(name).parent/head.get("output-file", Path(name).stem + ".html")).as_posix()] = name
        known = entries(notebooks)
        for name, notebook in notebooks.items():
            made = page(notebook, pages, known, name)
            if name == "index.ipynb":
                contents = yaml.safe_load((root/"sidebar.yml").read_text())["website"]["sidebar"]["contents"]
                made["cells"].append(dict(cell_type="markdown", id="contents", metadata={}, source="\n\n".join(trees(contents, root))))
            (root/name).write_text(json.dumps(made), encoding="utf-8")
        (root/"_static").mkdir()
        (root/"_static/site.css").write_text(CSS)
        (root/"_static/site.js").write_text(SCRIPT)
        (root/"conf.py").write_text(CONF)
        subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", root, args.out], check=True)
    mend(args.out)
    dead = dead_links(args.out)
    gc.freeze()  # at the end IPython collects garbage once for each notebook: half of the time of all this
    print(f"{len(notebooks)} pages in {args.out}/index.html, {len(dead)} dead links", *dead, sep="\n")
    return bool(dead)


if __name__ == "__main__": sys.exit(main())
