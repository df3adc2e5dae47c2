"Any image, sets of them, folders and drawn logos."
from .pixels import ImageError, open_image, open_mask
from .sizes import encode_image, resize, thumbnail
from .sets import ImageSet, Sample, image_names, image_sources
from .folders import list_images, load_folder
from .logos import make_logos
from . import frames, layer_maps  # noqa: F401, their names are imported from there, since they need no network

__all__ = ["ImageError", "ImageSet", "Sample", "encode_image", "image_names", "image_sources", "list_images", "load_folder", "make_logos",
           "open_image", "open_mask", "resize", "thumbnail"]
