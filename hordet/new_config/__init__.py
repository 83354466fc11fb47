"""A commented config for a user's own data: statistics of the data -> choices -> text.

`coco_folder`, `map_folder` and, of other tools, `known_formats` measure the data, `rules` chooses
settings from these statistics alone, `detection` and `segmentation` write the text, `save` saves
the config and checks it.
"""

from hordet.new_config.coco_folder import CocoStatistics, measure_coco
from hordet.new_config.detection import write_detection_config
from hordet.new_config.known_formats import measure_annotated
from hordet.new_config.map_folder import MapStatistics, measure_maps
from hordet.new_config.rules import choose_detection, choose_segmentation
from hordet.new_config.save import find_bases, name_config, place_held_out, save_config
from hordet.new_config.segmentation import write_segmentation_config
from hordet.new_config.text import BackboneChoice

__all__ = [
    "BackboneChoice",
    "CocoStatistics",
    "MapStatistics",
    "find_bases",
    "choose_detection",
    "write_detection_config",
    "measure_annotated",
    "measure_coco",
    "measure_maps",
    "name_config",
    "place_held_out",
    "choose_segmentation",
    "write_segmentation_config",
    "save_config",
]
