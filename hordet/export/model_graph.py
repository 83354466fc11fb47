"""What all graphs of this room have in common."""

from typing import Any

from torch import nn


class ModelGraph(nn.Module):
    """A model as a graph that an exporter can follow: tensors in, a dict of tensors out.

    Args:
        model: A detector of mmdet or a segmentor of mmseg, whose layers the graph uses.

    Attributes:
        kind: What the outputs are: 'features', 'segmentation' or 'detections'.
    """

    kind: str
    # The classes of mmdet and mmseg have no type annotations.
    model: Any

    def __init__(self, model: nn.Module) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model
