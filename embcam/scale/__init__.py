"Folders of any size, in parts, by a loop or by Ray."
from .parts import run_parts
from .embed_table import embed_folder
from .explain_table import explain_files, explain_to_pages

__all__ = ["embed_folder", "explain_files", "explain_to_pages", "run_parts"]
