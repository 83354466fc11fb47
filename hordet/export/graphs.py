"""Models as graphs, tensors in and tensors out, with operators that an exporter can follow."""

import copy
import math
from typing import Any, Literal

import torch
from mmdet.models.detectors import BaseDetector
from mmseg.models.segmentors import BaseSegmentor
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim

from hordet.engine.modes import switch_to_deploy
from hordet.errors import ExportError
from hordet.export.model_graph import ModelGraph
from hordet.export.padding import SamePaddedConv
from hordet.export.pooling import AdaptiveAveragePool
from hordet.export.two_stage import DetectionGraph, MmdetReference
from hordet.layers import GlobalLocalFilter

Part = Literal["whole", "features"]
LARGEST = 8192  # side of an image, in pixels


class FeatureGraph(ModelGraph):
    """Backbone and, if there is one, neck.

    Shape:
        Images from the data preprocessor, (N, 3, H, W) -> (N, C_i, H_i, W_i) for each level.
    """

    kind = "features"

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid."""
        levels = self.model.extract_feat(image)
        return {f"level_{i}": level for i, level in enumerate(levels)}


class SegmentationGraph(ModelGraph):
    """A whole segmentor, without sliding windows.

    Args:
        model: mmseg's EncoderDecoder, or hordet's.
        labels: Return classes instead of logits.

    Shape:
        Images from the data preprocessor, (N, 3, H, W) -> logits (N, classes, H, W), or labels
        (N, H, W), int64.
    """

    kind = "segmentation"

    def __init__(self, model: nn.Module, labels: bool = False) -> None:
        """Keep the model."""
        super().__init__(model)
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


def build_graph(model: nn.Module, part: Part = "whole", labels: bool = False) -> ModelGraph:
    """Return a model as a graph that shares the layers of the model.

    Args:
        model: A detector of mmdet or segmentor of mmseg, in eval mode.
        part: 'whole', or 'features' for backbone and neck.
        labels: Return classes instead of logits; for segmentors.

    Raises:
        ExportError: The model cannot be exported so; the message says which models can.
    """
    if not isinstance(model, (BaseDetector, BaseSegmentor)):
        raise ExportError(
            f"{type(model).__name__} is neither a detector of mmdet nor a segmentor of mmseg"
        )
    if labels and (part == "features" or not isinstance(model, BaseSegmentor)):
        raise ExportError("labels instead of logits need a whole segmentor: leave --labels out")
    if part == "features":
        return FeatureGraph(model)
    if isinstance(model, BaseDetector):
        return DetectionGraph(model)
    if not hasattr(model, "encode_decode"):
        raise ExportError(
            f"{type(model).__name__} cannot be exported whole, only an EncoderDecoder can; its "
            "backbone and neck can be exported alone, as features"
        )
    return SegmentationGraph(model, labels)


def get_reference(graph: ModelGraph) -> ModelGraph:
    """Return the graph's model run by the code of mmdet or mmseg in eager mode, as a reference."""
    return MmdetReference(graph.model) if isinstance(graph, DetectionGraph) else graph


def make_exportable(
    graph: ModelGraph, transform: Literal["fft", "dft"], dynamic: bool
) -> ModelGraph:
    """Return a copy with folded layers (see `switch_to_deploy`) and only operators that ONNX has.

    Args:
        graph: From `build_graph`.
        transform: How global filters compute.
        dynamic: Whether the graph is for images of any size.

    Raises:
        ExportError: Global filters by FFT work for one size only, and `dynamic` asks for any.
    """
    graph = copy.deepcopy(graph)
    switch_to_deploy(graph)
    for module in list(graph.modules()):
        if isinstance(module, GlobalLocalFilter):
            if dynamic and transform == "fft":
                raise ExportError(
                    "a global filter by FFT works for one size only: add --static, or use "
                    "--transform dft"
                )
            module.transform = transform
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(module, name, AdaptiveAveragePool(child.output_size))
            elif isinstance(child, Conv2dSame):
                setattr(module, name, SamePaddedConv(child))
    return graph


def make_inputs(graph: ModelGraph, image: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of a graph for images (N, 3, H, W): the images, and a detector's size."""
    if isinstance(graph, DetectionGraph):
        return image, torch.tensor(image.shape[2:], dtype=image.dtype)
    return (image,)


def find_smallest_sides(graph: ModelGraph, image: Tensor) -> tuple[int, int]:
    """Return the least height and width that a graph of free size accepts.

    torch.export treats a size of one as a constant, so the coarsest level needs two rows and two
    columns at least.

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
            f"got an example of {image.shape[2]} x {image.shape[3]} pixels, whose coarsest level "
            f"has {coarsest[0]} x {coarsest[1]}; a graph of free size needs two rows and columns "
            "there: give a larger --size"
        )
    height, width = (
        2 * math.ceil(side / few) for side, few in zip(image.shape[2:], coarsest, strict=True)
    )
    return height, width


def find_step(graph: ModelGraph) -> int:
    """Return of what the sides of an image must be multiples; 1 if they may have any length.

    TensorFlow's padding, of timm's models named `tf_`, depends on each map's side. Written for any
    side it is a formula within a formula for every stride, which takes torch.export many minutes;
    where every side is even, it is a number.

    Args:
        graph: From `build_graph`.
    """
    padded = any(isinstance(module, (Conv2dSame, SamePaddedConv)) for module in graph.modules())
    divisor = getattr(graph.model.data_preprocessor, "pad_size_divisor", 1)
    return divisor if padded else 1


def describe_dynamic_shapes(graph: ModelGraph, image: Tensor) -> tuple[Any, ...]:
    """Return torch.export's `dynamic_shapes`; arguments as of `find_smallest_sides`."""
    step, least = find_step(graph), find_smallest_sides(graph, image)
    sides: dict[int, Any] = {}
    for place, (name, side) in enumerate(zip(("height", "width"), least, strict=True), start=2):
        if step == 1:
            sides[place] = Dim(name, min=side, max=LARGEST)
        else:
            steps = Dim(f"{name}_steps", min=math.ceil(side / step), max=LARGEST // step)
            sides[place] = step * steps
    if isinstance(graph, DetectionGraph):
        return sides, None
    return ({0: Dim("batch", min=1, max=1024), **sides},)
