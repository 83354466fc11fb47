"""Objects and class maps drawn over pictures."""

from hordet.visualization.drawing import DOTS_PER_INCH, draw_overlay, draw_panel, draw_sheet
from hordet.visualization.panels import (
    Colour,
    Pair,
    Panel,
    class_colours,
    outline,
    predicted_classes,
    predicted_objects,
    semantic_panels,
    true_objects,
)

__all__ = [
    "DOTS_PER_INCH",
    "Colour",
    "Pair",
    "Panel",
    "class_colours",
    "draw_overlay",
    "draw_panel",
    "draw_sheet",
    "outline",
    "predicted_classes",
    "predicted_objects",
    "semantic_panels",
    "true_objects",
]
