"""A commented config for a person's own data: statistics of the data -> choices -> text.

`coco_folder` and `map_folder` look at the data, `rules` chooses from the statistics alone (it knows
no data set by name), `detection` and `segmentation` make the text, `save` saves it and checks what
it says.
"""

from hordet.new_config.coco_folder import CocoStatistics, measure_coco
from hordet.new_config.detection import write_detection_config
from hordet.new_config.map_folder import MapStatistics, measure_maps
from hordet.new_config.rules import choose_detection, choose_segmentation
from hordet.new_config.save import find_bases, name_config, save_config, write_held_out
from hordet.new_config.segmentation import write_segmentation_config
from hordet.new_config.text import Backbone

__all__ = [
    "Backbone",
    "CocoStatistics",
    "MapStatistics",
    "find_bases",
    "choose_detection",
    "write_detection_config",
    "measure_coco",
    "measure_maps",
    "name_config",
    "write_held_out",
    "choose_segmentation",
    "write_segmentation_config",
    "save_config",
]
