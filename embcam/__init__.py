"Why did my classifier say that, and where in the image?"
import sys
from importlib import import_module

__version__ = "0.3.0"
_HOMES = {
    "Backbone": "network", "EmbeddingClassifier": "model", "EmbeddingModel": "model", "Explainer": "explanation", "Explorer": "explorer",
    "load_folder": "images", "make_logos": "images", "TOZ": "ranking", "TZZ": "ranking", "TRR": "ranking"}
__all__ = list(_HOMES)


def names_from(package: str, homes: dict[str, str]):
    "A package's `__getattr__`, which imports the room of a public name when the name is first used."
    def find(name: str):
        if name not in homes: raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{homes[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value
    return find


__getattr__ = names_from(__name__, _HOMES)  # `import embcam` alone loads neither torch nor scikit-learn


def __dir__(): return sorted([*globals(), *_HOMES])
