"Entries of the documentation: fields, parameters, methods and introductions are there (.ci/entries.py)."
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from execnb.nbio import mk_cell
from fastcore.basics import AttrDict

import embcam

sys.path.insert(0, str(Path(__file__).parents[1]/".ci"))
from entries import Entry, InOrder, Introduction

STREETS = sorted(path.parent.name for path in Path(embcam.__file__).parent.glob("*/__init__.py"))


def entry(symbol) -> str: return Entry(symbol)._repr_markdown_()


def test_a_dataclass_has_its_fields_and_the_methods_of_its_body():
    text = entry(embcam.Explainer)
    assert "- **top** `int` | `str`: How many features are kept" in text
    assert "target='signed'" in text and "#### Explainer.paper\n" in text and "Explainer.builder -> TargetBuilder" in text


@pytest.mark.parametrize("street", STREETS)
def test_everything_public_has_an_entry_that_names_its_parameters(street):
    face = import_module(f"embcam.{street}")
    for name in face.__all__:
        symbol = getattr(face, name)
        if not inspect.isfunction(symbol) and not inspect.isclass(symbol): continue
        text = entry(symbol)
        try: parameters = set(inspect.signature(symbol).parameters) - {"args", "kwargs"}
        except ValueError: continue  # built in
        missing = [parameter for parameter in parameters if not re.search(rf"\b{parameter}\b", text)]
        assert not missing, f"{name}: {missing}"


def test_a_class_of_a_cell_is_that_of_the_package():
    "nbdev runs cells: to Python the class is one of __main__, whose source it does not know."
    here = type("Explainer", (), {"__doc__": embcam.Explainer.__doc__, "__module__": "__main__"})
    assert entry(here) == entry(embcam.Explainer)


def test_what_stands_below_the_promise_is_kept():
    notebook = AttrDict(cells=[mk_cell("# Title\n> Promise.\n\nWhy.\n\n- one: two", "markdown"), mk_cell("1 + 1")])
    introduction = Introduction(notebook)
    assert notebook.cells[0].source.strip() == "# Title\n> Promise."
    introduction.begin()
    assert notebook.cells[1].source.strip() == "Why.\n\n- one: two"


def test_entries_are_in_the_order_of_the_source():
    cells = [mk_cell(f"#| echo: false\nshow_doc({name})") for name in ("Explanation", "Explainer.paper", "Explainer")] + [mk_cell("1 + 1")]
    notebook = AttrDict(cells=cells)
    InOrder(notebook).begin()
    assert [cell.source.split("\n")[-1] for cell in notebook.cells] == [
        "show_doc(Explainer)", "show_doc(Explainer.paper)", "show_doc(Explanation)", "1 + 1"]
