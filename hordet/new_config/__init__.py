"""A commented config for a person's own data: figures of the data -> choices -> text of a leaf.

`coco_folder` and `map_folder` look at the data, `rules` chooses from the figures alone (it knows no
data set by name), `detection_leaf` and `segmentation_leaf` make the text, `written` saves it and
checks what it says.
"""

from hordet.new_config.coco_folder import CocoFigures, look_at_coco
from hordet.new_config.detection_leaf import detection_leaf
from hordet.new_config.leaf_parts import Backbone
from hordet.new_config.map_folder import MapFigures, look_at_maps
from hordet.new_config.rules import detection_choices, segmentation_choices
from hordet.new_config.segmentation_leaf import segmentation_leaf
from hordet.new_config.written import bases_for, name_of_leaf, place_held_out, write_leaf

__all__ = [
    "Backbone",
    "CocoFigures",
    "MapFigures",
    "bases_for",
    "detection_choices",
    "detection_leaf",
    "look_at_coco",
    "look_at_maps",
    "name_of_leaf",
    "place_held_out",
    "segmentation_choices",
    "segmentation_leaf",
    "write_leaf",
]
