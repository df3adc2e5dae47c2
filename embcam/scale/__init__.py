"Folders of any size, in parts, by a loop or by Ray."
from . import parts  # noqa: F401, its names are imported from there
from .embed_table import embed_folder
from .explain_table import explain_files, explain_to_pages

__all__ = ["embed_folder", "explain_files", "explain_to_pages"]
