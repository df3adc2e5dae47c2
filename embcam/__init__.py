"Why did my classifier say that, and where in the image?"
from importlib import import_module

__version__ = "0.3.0"
_HOMES = {
    "Backbone": "network", "EmbeddingClassifier": "model", "EmbeddingModel": "model", "Explainer": "explanation", "Explorer": "explorer",
    "load_folder": "images", "make_logos": "images", "TOZ": "ranking", "TZZ": "ranking", "TRR": "ranking"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    "Import a public name when it is first used: `import embcam` alone loads neither torch nor scikit-learn."
    if name not in _HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__(): return sorted([*globals(), *_HOMES])
