"Why did my classifier say that, and where in the picture?"
from importlib import import_module

__version__ = "0.2.0"
_HOMES = {"Backbone": "embedding", "EmbeddingClassifier": "classify", "Explainer": "explain", "Explorer": "explorer", "load_folder": "folders",
          "make_logos": "logos", "TOZ": "masking", "TZZ": "masking", "TRR": "masking"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    "Import a public name when it is first used: `import embcam` alone loads neither torch nor scikit-learn."
    if name not in _HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__(): return sorted([*globals(), *_HOMES])
