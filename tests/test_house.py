"The house: imports point downward, faces hold what people import, and everything public says what it does."
import ast
import inspect
import json
from importlib import import_module
from pathlib import Path

import pytest

import embcam

PACKAGE = Path(embcam.__file__).parent
FLOORS = [["figure", "files", "progress"], ["images"], ["drawing", "network"], ["ranking"], ["maps", "model"], ["explanation"],
          ["judging", "scale"], ["auditing"], ["explorer"], ["export"], ["demo"], ["cli"]]
FLOOR = {street: floor for floor, streets in enumerate(FLOORS) for street in streets}
FACES = [street for street in FLOOR if (PACKAGE/street).is_dir()]
ROOMS = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "_modidx.py"))


def imported(tree: ast.AST, room: Path):
    "(street, room or name) of what a module takes from embcam."
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom): continue
        if node.level == 0 and (node.module or "").split(".")[0] != "embcam": continue
        above = () if node.level == 0 else room.parts[:len(room.parts) - node.level]
        path = (*above, *(node.module or "").removeprefix("embcam").strip(".").split("."))
        yield next((part for part in path if part), None), node


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_imports_point_downward(room):
    tree = ast.parse((PACKAGE/room).read_text(encoding="utf-8"))
    own = room.parts[0].removesuffix(".py")
    for street, node in imported(tree, room):
        if street is None or street == own: continue  # embcam itself: the version
        assert FLOOR[street] < FLOOR[own], f"{room} imports {ast.unparse(node)}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room.name != "cli.py"], ids=str)
def test_no_import_of_embcam_hides_in_a_function(room):
    tree = ast.parse((PACKAGE/room).read_text(encoding="utf-8"))
    inside = [node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for _, node in imported(function, room)]
    assert not inside, f"{room}: {ast.unparse(inside[0])}"


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_what_rooms_share_has_no_underscore(room):
    tree = ast.parse((PACKAGE/room).read_text(encoding="utf-8"))
    names = [alias.name for _, node in imported(tree, room) for alias in node.names]
    private = [name for name in names if name.startswith("_") and name != "__version__"]
    assert not private, f"{room} imports {private[0]}"


@pytest.mark.parametrize("street", FACES)
def test_faces_hold_what_exists(street):
    face = import_module(f"embcam.{street}")
    assert face.__doc__ and all(hasattr(face, name) for name in face.__all__)  # some are imported when they are asked for
    assert not set(face.__all__) & {path.stem for path in (PACKAGE/street).glob("*.py")}, "a name hides a room"


def test_faces_are_few():
    names = {(street, name) for street in FACES for name in import_module(f"embcam.{street}").__all__}
    assert len(names) <= 128, f"{len(names)} public names on all faces"


def members(cls: type):
    "Public methods and properties of a class of embcam, inherited ones from elsewhere left out."
    for name, value in vars(cls).items():
        if name.startswith("_"): continue
        function = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", None) or value
        if inspect.isfunction(function): yield name, function


@pytest.mark.parametrize("street", FACES)
def test_everything_public_has_a_docstring(street):
    face = import_module(f"embcam.{street}")
    silent = []
    for name in face.__all__:
        value = getattr(face, name)
        if not callable(value): continue  # a constant
        if not inspect.getdoc(value): silent.append(name)
        if inspect.isclass(value): silent += [f"{name}.{member}" for member, function in members(value) if not function.__doc__]
    assert not silent, ", ".join(silent)


def test_what_a_cell_prints_is_stored():
    "execnb stores no printed text of a cell that ends with a semicolon."
    for file in PACKAGE.parent.glob("nbs/**/*.ipynb"):
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"]).rstrip()
            assert not (cell["cell_type"] == "code" and source.endswith(";") and "print(" in source), f"{file.name} {cell['id']}: {source}"
