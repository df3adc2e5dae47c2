"""What the documentation says of a definition: its signature, the comments beside its parameters or fields, its methods.

nbdev's own entries know no comments of dataclasses, and no methods but those that are patched in; and of a notebook's first cell nbdev
keeps title and promise alone. settings.ini names `Entry` (renderer), `Introduction` and `InOrder` (procs), so that Quarto's pages and those
of .ci/site.py say the same; both need `PYTHONPATH=.ci`.
"""
import ast
import inspect
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import StringIO
from itertools import groupby
from textwrap import dedent, fill

from execnb.nbio import mk_cell
from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor

from embcam._modidx import d as index

WIDTH = 88
LINKS = NbdevLookup(skip_mods="embcam.cli").syms  # prose that says `fit` means the method, not `embcam fit`
NbdevLookup().syms.clear()
NbdevLookup().syms.update(LINKS)


@dataclass
class Parameter:
    "A parameter or a field."
    name: str  # With its stars
    kind: str  # Annotation
    default: str
    comment: str

    def __str__(self): return self.name + (f"={self.default}" if self.default else "")

    def typed(self) -> str:
        "With its annotation."
        if not self.kind: return str(self)
        return f"{self.name}: {self.kind}" + (f" = {self.default}" if self.default else "")

    def line(self) -> str:
        "As one of a list."
        kinds = [f"`{kind}`" for kind in re.split(r" \| (?![^\[]*\])", self.kind) if kind]  # one by one: each becomes a link
        head = f"- **{escaped(self.name)}** {' | '.join(kinds)}".rstrip()
        return head + (f": {escaped(self.comment)}" if self.comment else "")


def escaped(text: str) -> str:
    "Text whose signs mean themselves, but for what stands in backticks."
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*<])", r"\\\1", part) for i, part in enumerate(parts))


def written(node: ast.AST | None) -> str: return "" if node is None else ast.unparse(node)


def annotated(node: ast.AST | None) -> str:
    "An annotation; one that is a string without its quotes."
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else written(node)


def packaged(symbol):
    "A class of a notebook's cell as the package has it: of that one Python finds the source."
    if not inspect.isclass(symbol) or symbol.__module__ != "__main__": return symbol
    modules = [module for module, names in index["syms"].items() if f"{module}.{symbol.__qualname__}" in names]
    found = [getattr(import_module(module), symbol.__qualname__) for module in modules]
    return next(known for known in found if known.__doc__ == symbol.__doc__)


@cache
def parsed(symbol) -> tuple[ast.AST, dict[int, str]]:
    "The definition, and {line: comment}."
    source = dedent(inspect.getsource(symbol))
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return ast.parse(source).body[0], {token.start[0]: token.string[1:].strip() for token in tokens if token.type == tokenize.COMMENT}


def fields(node: ast.ClassDef, comments: dict) -> list[Parameter]:
    "The fields of a dataclass or protocol."
    found = [part for part in node.body if isinstance(part, ast.AnnAssign) and not part.target.id.startswith("_")]
    return [Parameter(part.target.id, annotated(part.annotation), written(part.value), comments.get(part.end_lineno, "")) for part in found]


def parameters(node: ast.FunctionDef, comments: dict) -> list[Parameter]:
    "The parameters of a function; a comment is that of the last parameter of its line."
    given = node.args
    plain = given.posonlyargs + given.args
    defaults = [None]*(len(plain) - len(given.defaults)) + given.defaults
    found = [(arg, arg.arg, default) for arg, default in zip(plain, defaults)]
    found += [(arg, "*" + arg.arg, None) for arg in [given.vararg] if arg]
    found += [(arg, arg.arg, default) for arg, default in zip(given.kwonlyargs, given.kw_defaults)]
    found += [(arg, "**" + arg.arg, None) for arg in [given.kwarg] if arg]
    lines = [(default or arg).end_lineno for arg, _, default in found]
    if node.returns: lines.append(node.returns.end_lineno)
    own = [comments.get(line, "") if line < node.body[0].lineno and line not in lines[i + 1:] else "" for i, line in enumerate(lines)]
    every = [Parameter(name, annotated(arg.annotation), written(default), own[i]) for i, (arg, name, default) in enumerate(found)]
    if node.returns: every.append(Parameter("returns", annotated(node.returns), "", own[-1]))
    return [one for one in every if one.name not in ("self", "cls")]


def described(name: str, found: list[Parameter], doc: str) -> str:
    "Signature, docstring, parameters; types stand in the signature where no parameter has a comment."
    said = any(one.comment for one in found)
    answer = next((one for one in found if one.name == "returns"), None)
    rest = [one for one in found if one is not answer]
    words = f"{name}({', '.join(str(one) if said else one.typed() for one in rest)})"
    if answer and not (said and answer.comment): words += f"\xa0->\xa0{answer.kind}"  # not to be torn off
    listed = [one.line() for one in found if said and (one is not answer or one.comment)]
    code = fill(words, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False).replace("\xa0", " ")
    return "\n\n".join(filter(None, [f"```python\n{code}\n```", escaped(doc), "\n".join(listed)]))


def function_entry(name: str, symbol) -> str:
    "A function, method or property."
    node, comments = parsed(symbol)
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    doc = inspect.getdoc(symbol) or ""
    if "property" not in decorators and "as_prop" not in decorators: return described(name, parameters(node, comments), doc)
    answer = f" -> {annotated(node.returns)}" if node.returns else ""
    return f"```python\n{name}{answer}\n```\n\n{escaped(doc)}"


def methods(owner: type) -> Iterator[tuple[str, object]]:
    "Public methods that stand in the class itself; others are patched in where their job is."
    node, _ = parsed(owner)
    for part in node.body:
        if not isinstance(part, ast.FunctionDef) or part.name.startswith("_"): continue
        yield part.name, plain(inspect.getattr_static(owner, part.name))


def class_entry(name: str, symbol: type, level: int) -> str:
    "A class with its methods, and those of a private class that it is made of."
    lineage = [owner for owner in inspect.getmro(symbol) if owner.__module__.startswith("embcam.")]
    own = [owner for owner in lineage if owner is symbol or owner.__name__.startswith("_")]
    found = {one.name: one for owner in reversed(lineage) for one in fields(*parsed(owner))}
    if "__init__" in vars(symbol) and "__dataclass_fields__" not in vars(symbol): found = {}
    head = list(found.values())
    starts = [vars(owner)["__init__"] for owner in lineage if "__init__" in vars(owner)]
    if not head and starts and starts[0].__module__ != "typing": head = parameters(*parsed(starts[0]))
    bases = [owner.__name__ for owner in symbol.__bases__ if owner is not object and not owner.__name__.startswith("_")]
    kind = f"A kind of {', '.join(f'`{base}`' for base in bases)}." if bases else ""
    parts = [described(name, head, inspect.cleandoc(symbol.__doc__ or "")), kind]
    every = {method: function for owner in reversed(own) for method, function in methods(owner)}
    parts += [f"{'#'*(level + 1)} {name}.{method}\n\n{function_entry(f'{name}.{method}', each)}" for method, each in every.items()]
    return "\n\n".join(filter(None, parts))


def plain(symbol):
    "The function below a property or a decorator."
    for inside in "fget", "func", "__func__": symbol = getattr(symbol, inside, None) or symbol
    return inspect.unwrap(symbol)


class Entry:
    "An entry, as nbdev's `show_doc` asks for it."
    def __init__(self, symbol, name: str | None = None, title_level: int = 3):
        self.symbol, self.level = packaged(plain(symbol)), title_level
        self.name = name or self.symbol.__qualname__

    def _repr_markdown_(self) -> str:
        source = NbdevLookup().code(self.name)
        link = f"[source]({source}){{target=\"_blank\" style=\"float:right; font-size:smaller\"}}\n\n" if source else ""
        text = class_entry(self.name, self.symbol, self.level) if inspect.isclass(self.symbol) else function_entry(self.name, self.symbol)
        return f"---\n\n{link}{'#'*self.level} {self.name}\n\n{text}"


class Introduction(Processor):
    "Keeps what stands below a notebook's title and promise."
    def __init__(self, nb):
        super().__init__(nb)
        first = nb.cells[0]
        head = re.match(r"# .*\n+(?:>.*\n*)?(?:- \w+: .*\n*)*", first.source + "\n") if first.cell_type == "markdown" else None
        self.text = first.source[head.end():] if head else ""
        if self.text: first.source = head[0]  # lists further below would be taken for settings

    def begin(self):
        "Runs last, when the cell has become front matter."
        if self.text: self.nb.cells.insert(1, mk_cell(NbdevLookup().linkify(self.text), "markdown"))


class InOrder(Processor):
    "Entries in the order of their definitions: nbdev shows those of one cell backwards."
    def begin(self):
        runs = groupby(self.nb.cells, lambda cell: re.fullmatch(r"(?:#\|.*\n)*show_doc\((.*)\)", cell.source) is not None)
        self.nb.cells = [cell for entry, cells in runs for cell in (sorted(cells, key=line_of) if entry else cells)]


def line_of(cell) -> int:
    "The line of what an entry describes, in its module."
    source = NbdevLookup().code(re.search(r"show_doc\((.*)\)", cell.source)[1])
    return int(source.rpartition("#L")[2]) if source else 0
