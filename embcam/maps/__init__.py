"Where in the image: any target on the embedding, as maps at every layer."
from ..drawing import overlay
from .targets import CosineTarget, EnergyTarget, LinearTarget, Target
from .methods import CAM_METHODS, CamMethod
from . import package  # noqa: F401, its names are imported from there
from ..images.layer_maps import LayerMaps
from .cells import cell_evidence, cell_shapley
from .cam import activation_maps, feature_maps
from .boxes import Place, boxes_on_mask, coco_record, relevance_mask, relevance_places

__all__ = ["CAM_METHODS", "CamMethod", "CosineTarget", "EnergyTarget", "LayerMaps", "LinearTarget", "Place", "Target", "activation_maps",
           "boxes_on_mask", "cell_evidence", "cell_shapley", "coco_record", "feature_maps", "overlay", "relevance_mask",
           "relevance_places"]
