"An explainer as one ONNX file, which runs without torch and without scikit-learn."
from importlib import import_module

from .running import Explained, Exported, ExportError, load_exported

__all__ = ["Explained", "ExportError", "Exported", "load_exported"]
_HOMES = {"export_onnx": "onnx_file", "export_page": "page"}  # import torch: looked up when they are asked for
__all__ += _HOMES


def __getattr__(name: str):
    "Import what needs torch when it is first used."
    if name not in _HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value
