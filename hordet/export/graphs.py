"""A model as a graph, tensors in and tensors out, whose every operator an exporter can follow."""

import copy
import math
from typing import Any, Literal

import torch
from mmdet.models.detectors import BaseDetector
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor, nn
from torch.export import Dim

from hordet.engine.modes import switch_to_deploy
from hordet.errors import ExportError
from hordet.export.pooling import AdaptiveAveragePool
from hordet.export.two_stage import Detections, MmdetDetections
from hordet.layers import GlobalLocalFilter

Part = Literal["whole", "features"]
LARGEST = 8192  # side of an image, in pixels


class Features(nn.Module):
    """Backbone and, if there is one, neck.

    Shape:
        Images as the data preprocessor leaves them, (N, 3, H, W) -> one (N, C_i, H_i, W_i) a
        level.
    """

    kind = "features"

    def __init__(self, model: nn.Module) -> None:
        """Keep the two parts of a detector or segmentor."""
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid."""
        levels = self.model.extract_feat(image)
        return {f"level_{i}": level for i, level in enumerate(levels)}


class Segmentation(nn.Module):
    """A whole segmentor, without sliding windows.

    Args:
        model: mmseg's EncoderDecoder, or hordet's.
        labels: Give classes in place of logits.

    Shape:
        Images as the data preprocessor leaves them, (N, 3, H, W) -> logits (N, classes, H, W), or
        labels (N, H, W), int64.
    """

    kind = "segmentation"

    def __init__(self, model: nn.Module, labels: bool = False) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model
        self.labels = labels

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Classify every pixel."""
        logits = self.model.encode_decode(image, [dict(img_shape=image.shape[2:])])
        if not self.labels:
            return {"logits": logits}
        if self.model.out_channels == 1:
            foreground = logits.sigmoid()[:, 0] > self.model.decode_head.threshold
            return {"labels": foreground.long()}
        return {"labels": logits.argmax(dim=1)}


def build_graph(model: nn.Module, part: Part = "whole", labels: bool = False) -> nn.Module:
    """Return a model as a graph, of the layers of the model itself.

    Args:
        model: A detector of mmdet or segmentor of mmseg, in eval mode.
        part: 'whole', or 'features' for backbone and neck.
        labels: Of a segmentor, classes in place of logits.

    Raises:
        ExportError: The model has no such graph; the message says what has.
    """
    if not isinstance(model, (BaseDetector, BaseSegmentor)):
        raise ExportError(
            f"{type(model).__name__} is neither a detector of mmdet nor a segmentor of mmseg"
        )
    if labels and (part == "features" or not isinstance(model, BaseSegmentor)):
        raise ExportError("labels in place of logits are for a whole segmentor; leave them out")
    if part == "features":
        return Features(model)
    if isinstance(model, BaseDetector):
        return Detections(model)
    if not hasattr(model, "encode_decode"):
        raise ExportError(
            f"{type(model).__name__} has no whole export, an EncoderDecoder has; its backbone and "
            "neck can be exported alone, as features"
        )
    return Segmentation(model, labels)


def get_reference(graph: nn.Module) -> nn.Module:
    """Return the graph's model by the code of mmdet and mmseg, in eager mode, to compare with."""
    return MmdetDetections(graph.model) if isinstance(graph, Detections) else graph


def make_exportable(graph: nn.Module, transform: Literal["fft", "dft"], dynamic: bool) -> nn.Module:
    """Return a copy with what inference does not need folded, in operators that ONNX has.

    Args:
        graph: From `build_graph`.
        transform: How global filters compute.
        dynamic: Whether the graph is for images of any size.

    Raises:
        ExportError: The model has global filters by FFT, which are of one size.
    """
    graph = copy.deepcopy(graph)
    switch_to_deploy(graph)
    for module in list(graph.modules()):
        if isinstance(module, GlobalLocalFilter):
            if dynamic and transform == "fft":
                raise ExportError(
                    "a global filter by FFT is of one size: add --static, or take --transform dft"
                )
            module.transform = transform
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(module, name, AdaptiveAveragePool(child.output_size))
    return graph


def make_inputs(graph: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """Return what a graph takes for images (N, 3, H, W): them, and for detections their size."""
    if isinstance(graph, Detections):
        return image, torch.tensor(image.shape[2:], dtype=image.dtype)
    return (image,)


def find_smallest_sides(graph: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return the least height and width for which a graph of free size is.

    torch.export takes a map of one row for a constant; so the coarsest level has at least two.

    Args:
        graph: From `build_graph`.
        image: An example, (1, 3, H, W).

    Raises:
        ExportError: The example is smaller.
    """
    with torch.no_grad():
        coarsest = graph.model.extract_feat(image)[-1].shape[2:]
    if min(coarsest) < 2:
        raise ExportError(
            f"got an example of {image.shape[2]} x {image.shape[3]} pixels, of which the "
            f"coarsest level has {coarsest[0]} x {coarsest[1]}; a graph of free size needs two "
            "rows and columns there: give a larger --size"
        )
    height, width = (
        2 * math.ceil(side / few) for side, few in zip(image.shape[2:], coarsest, strict=True)
    )
    return height, width


def describe_dynamic_shapes(graph: nn.Module, image: Tensor) -> tuple[Any, ...]:
    """Return which sizes of the inputs are free, as torch.export takes them; see the above."""
    height, width = find_smallest_sides(graph, image)
    sides = {2: Dim("height", min=height, max=LARGEST), 3: Dim("width", min=width, max=LARGEST)}
    if isinstance(graph, Detections):
        return sides, None
    return ({0: Dim("batch", min=1, max=1024), **sides},)
