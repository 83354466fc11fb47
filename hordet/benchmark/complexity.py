"""Parameters and multiply-adds of a config, counted as the papers count them.

The published tables come from mmcv 1's counter, which mmcv still ships: one multiply-add is one
"FLOP"; biases, norms, poolings and ReLUs are counted; FFTs, products of matrices outside of layers
(attention), products of gates, SyncBN and layers of other classes than torch's own are not. Beside
it stand torch's own counter, which sees every convolution and every matrix product wherever it is
made, and the FFTs. Tensors have shapes and no values here (torch's device `meta`), so that the
largest model takes a second and no memory.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import get_model_complexity_info
from mmcv.cnn.utils.flops_counter import conv_flops_counter_hook, linear_flops_counter_hook
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, HybridTaskCascadeRoIHead, StandardRoIHead
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from hordet.config.faults import walk_dicts
from hordet.layers.depthwise import DepthwiseConv2d
from hordet.layers.pointwise import PointwiseConv2d, PointwiseLinear, SplitPointwiseConv2d

# mmdet 2's `forward_dummy`: this many boxes, and masks of the first hundred.
NUM_ROIS, NUM_MASK_ROIS = 1000, 100
ROI_HEADS = (StandardRoIHead, CascadeRoIHead, HybridTaskCascadeRoIHead)
# Test scales at which the papers count another size.
PAPERS = {(1333, 800): (1280, 800)}


def _count_parts(module: nn.Module, inputs: Any, output: tuple[Tensor, ...]) -> None:
    """Count a convolution into parts, which has as many pixels as any of them."""
    conv_flops_counter_hook(module, inputs, output[0])


# mmcv's counter knows layers by their exact class, so it takes these for none that it counts. The
# norms of HorNet's blocks it leaves out, as it did those of the authors, which were their own.
COUNTERS = {
    DepthwiseConv2d: conv_flops_counter_hook,
    PointwiseConv2d: conv_flops_counter_hook,
    SplitPointwiseConv2d: _count_parts,
    PointwiseLinear: linear_flops_counter_hook,
}


@dataclass(frozen=True)
class Complexity:
    """What one forward of a model costs.

    Attributes:
        input_shape: (C, H, W) of the image.
        parameters: All of them, auxiliary heads and frozen layers included.
        multiply_adds: By mmcv's counter, the convention of the published tables.
        matrix_multiply_adds: By torch's counter: convolutions and products of matrices alone.
        fft: C * H * W * ceil(log2(H * W)) for each real FFT of (C, H, W), forth or back.
    """

    input_shape: tuple[int, int, int]
    parameters: int
    multiply_adds: int
    matrix_multiply_adds: int
    fft: int


def count_complexity(cfg: Config, input_shape: tuple[int, int, int] | None = None) -> Complexity:
    """Count the parameters and multiply-adds of a config's model.

    Args:
        cfg: A config of a detector or segmentor; not changed.
        input_shape: (C, H, W); by default as `get_paper_shape` finds it.

    Raises:
        ValueError: The config names no test scale, or the model has a RoI head for which the
            papers' way of counting is not known.
    """
    input_shape = input_shape or get_paper_shape(cfg)
    try:
        with EmptyOnMeta():
            model = _build(cfg)
        return count(model.to("meta"), input_shape)
    except RuntimeError:
        # Some models (deformable attention) read sizes out of tensors, so these need values.
        return count(_build(cfg), input_shape)


def _build(cfg: Config) -> nn.Module:
    """Build a config's model as a run of several processes has it."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model = MODELS.build(copy.deepcopy(cfg.model))  # builders write into it
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if cfg.get("sync_bn") else model


def get_paper_shape(cfg: Config) -> tuple[int, int, int]:
    """Return the (C, H, W) at which papers count a config: its test scale.

    2048 x 512 or 2560 x 640 for ADE20K; 1280 x 800 where COCO's (1333, 800) is the test scale.

    Raises:
        ValueError: The test pipeline has no step with a `scale` of two numbers.
    """
    loader = cfg.get("test_dataloader") or {}
    for step in walk_dicts(loader.get("dataset")):
        scale = step.get("scale")
        if isinstance(scale, (list, tuple)) and len(scale) == 2:
            scale = tuple(scale)
            return (3, *PAPERS.get(scale, scale))
    raise ValueError(
        "the config's test pipeline has no Resize with scale=(W, H), from which the size of the "
        "counted image comes; give the shape as (3, H, W)."
    )


def count(model: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Count one forward of a model on the device where its parameters are, `meta` for speed.

    A detector runs backbone, neck and RPN, its box head on 1,000 RoIs and its mask head on 100;
    a segmentor everything but the auxiliary heads; any other module its `forward`.

    Args:
        model: A detector of mmdet, a segmentor of mmseg, or a module that takes an image.
        input_shape: (C, H, W) of the image.

    Raises:
        ValueError: As `count_complexity`.
    """
    model.eval()
    ffts = {torch.ops.aten._fft_r2c: _rfft_cost, torch.ops.aten._fft_c2r: _irfft_cost}
    torch_counter = FlopCounterMode(display=False, custom_mapping=ffts)
    layers = [module for module in model.modules() if type(module) in COUNTERS]
    hooks = [layer.register_forward_hook(COUNTERS[type(layer)]) for layer in layers]
    for layer in layers:
        layer.__flops__ = 0
    with torch.no_grad(), torch_counter:
        multiply_adds, _ = get_model_complexity_info(
            _Scope(model), input_shape, print_per_layer_stat=False, as_strings=False
        )
    multiply_adds += sum(layer.__flops__ for layer in layers)
    for hook in hooks:
        hook.remove()
    by_operator = torch_counter.get_flop_counts()["Global"]
    fft = sum(by_operator.pop(operator, 0) for operator in ffts)
    return Complexity(
        input_shape=input_shape,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=int(multiply_adds),
        matrix_multiply_adds=sum(by_operator.values()) // 2,  # it counts both operations
        fft=fft,
    )


class EmptyOnMeta(TorchFunctionMode):
    """Builds the parameters of layers on the device `meta`: their values are never computed.

    Unlike `torch.device("meta")` it leaves other tensors alone, because backbones read drop-path
    rates from `torch.linspace` while they are built.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Send `torch.empty`, which every layer of torch starts from, to `meta`."""
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


class _Scope(nn.Module):
    """The part of a model that the papers count, as a module that takes an image."""

    def __init__(self, model: nn.Module) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> None:
        """Run (1, C, H, W) through what counts."""
        size = tuple(x.shape[-2:])
        sizes = dict(img_shape=size, pad_shape=size, ori_shape=size, batch_input_shape=size)
        if isinstance(self.model, TwoStageDetector):
            _two_stage(self.model, x)
        elif isinstance(self.model, BaseSegmentor):
            self.model.encode_decode(x, [sizes])
        elif isinstance(self.model, BaseModel):
            self.model(x, [DetDataSample(metainfo=sizes)], mode="tensor")
        else:
            self.model(x)


def _two_stage(model: Any, x: Tensor) -> None:
    """Run a two-stage detector with RoI features of the right shapes and no values."""
    roi_head = model.roi_head
    if type(roi_head) not in ROI_HEADS:
        raise ValueError(
            f"got the RoI head {type(roi_head).__name__}; the papers' way of counting is known "
            f"for {', '.join(kind.__name__ for kind in ROI_HEADS)}."
        )
    features = model.extract_feat(x)
    model.rpn_head(features)
    for holder in (model, roi_head):  # panoptic FPN and HTC
        if getattr(holder, "semantic_head", None) is not None:
            holder.semantic_head(features)
    _heads(roi_head.bbox_head, roi_head.bbox_roi_extractor, NUM_ROIS, roi_head, x)
    if not roi_head.with_mask:
        return
    _heads(roi_head.mask_head, roi_head.mask_roi_extractor, NUM_MASK_ROIS, roi_head, x)


def _heads(heads: Any, extractors: Any, num_rois: int, roi_head: Any, like: Tensor) -> None:
    """Run the head of each stage on `num_rois` RoIs."""
    staged = isinstance(heads, nn.ModuleList)
    previous = None
    for i, head in enumerate(heads if staged else [heads]):
        extractor = extractors[i] if isinstance(extractors, nn.ModuleList) else extractors
        size = extractor.roi_layers[0].output_size
        rois = like.new_zeros(num_rois, extractor.out_channels, *size)
        if roi_head.with_shared_head:
            rois = roi_head.shared_head(rois)
        if num_rois == NUM_MASK_ROIS and getattr(roi_head, "mask_info_flow", False):
            _, previous = head(rois, previous)  # HTC: a stage sees the features of the last
        else:
            head(rois)


def _rfft_cost(shape: torch.Size, *args: Any, **kwargs: Any) -> int:
    """Cost of a real FFT of (N, C, H, W)."""
    return math.prod(shape) * math.ceil(math.log2(math.prod(shape[-2:])))


def _irfft_cost(shape: torch.Size, *args: Any, out_shape: torch.Size, **kwargs: Any) -> int:
    """Cost of the way back to (N, C, H, W)."""
    return _rfft_cost(out_shape)
