"An explainer as one ONNX file, which runs without torch and without scikit-learn."
from .. import names_from
from .running import Explained, Exported, ExportError, load_exported

__all__ = ["Explained", "ExportError", "Exported", "load_exported"]
_HOMES = {"export_onnx": "onnx_file", "export_page": "page"}
__all__ += _HOMES
__getattr__ = names_from(__name__, _HOMES)  # these import torch
