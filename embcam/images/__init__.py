"Any image, sets of them, folders and drawn logos."
from .. import names_from

_HOMES = {
    "ImageError": "pixels", "ImageSet": "sets", "Sample": "sets", "encode_image": "sizes", "image_names": "pixels",
    "image_sources": "pixels", "list_images": "folders", "load_folder": "folders", "make_logos": "logos", "open_image": "pixels",
    "open_mask": "pixels", "resize": "sizes", "thumbnail": "sizes"}
__all__ = list(_HOMES)
__getattr__ = names_from(__name__, _HOMES)  # who only reads an image waits neither for SciPy nor for matplotlib
