"""Parameters and multiply-adds of a config, counted as the papers count them.

The published tables come from mmcv 1's counter, which mmcv still contains: one multiply-add is one
"FLOP"; biases, norms, poolings and ReLUs are counted; FFTs, matrix products outside of layers
(attention), products of gates, SyncBN and layers of classes other than torch's own are not. In
addition, torch's own counter counts every convolution and every matrix product, and FFTs are
counted. Tensors have shapes but no values here (torch's device `meta`), so the largest model takes
a second and no memory.
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

# As in mmdet 2's `forward_dummy`: 1000 boxes, and masks of the first hundred.
NUM_ROIS, NUM_MASK_ROIS = 1000, 100
ROI_HEADS = (StandardRoIHead, CascadeRoIHead, HybridTaskCascadeRoIHead)
# Test scales for which the papers count another size.
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
    """The cost of one forward pass of a model.

    Attributes:
        input_shape: (C, H, W) of the image.
        parameters: Number of all parameters, with auxiliary heads and frozen layers.
        multiply_adds: By mmcv's counter, the convention of the published tables.
        matrix_multiply_adds: By torch's counter: convolutions and matrix products only.
        fft: C * H * W * ceil(log2(H * W)) for each real FFT, or inverse, of (C, H, W).
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
        ValueError: The config has no test scale, or the model has a RoI head for which it is not
            known how papers count.
    """
    input_shape = input_shape or get_paper_shape(cfg)
    try:
        with EmptyOnMeta():
            model = _build(cfg)
        return count_forward(model.to("meta"), input_shape)
    except RuntimeError:
        # Some models (deformable attention) read sizes from tensors, so these need values.
        return count_forward(_build(cfg), input_shape)


def _build(cfg: Config) -> nn.Module:
    """Build the model of a config, with SyncBN as in a run of several processes."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model = MODELS.build(copy.deepcopy(cfg.model))  # builders write into it
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if cfg.get("sync_bn") else model


def get_paper_shape(cfg: Config) -> tuple[int, int, int]:
    """Return the (C, H, W) for which papers count a config: its test scale.

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
        "the config's test pipeline has no Resize with scale=(W, H), which is the default size of "
        "the counted image; give the shape as (3, H, W)."
    )


def count_forward(model: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Count one forward pass of a model on the device of its parameters (`meta` is fastest).

    Of a two-stage detector these run: backbone, neck, RPN, the box head on 1,000 RoIs and the mask
    head on 100. Of a segmentor everything runs except the auxiliary heads.

    Args:
        model: A detector of mmdet, a segmentor of mmseg, or a module that takes an image.
        input_shape: (C, H, W) of the image.

    Raises:
        ValueError: As `count_complexity`.
    """
    model.eval()
    ffts = {torch.ops.aten._fft_r2c: _count_rfft, torch.ops.aten._fft_c2r: _count_irfft}
    torch_counter = FlopCounterMode(display=False, custom_mapping=ffts)
    # `Any`, because the counters add the attribute `__flops__`.
    layers: list[Any] = [module for module in model.modules() if type(module) in COUNTERS]
    hooks = [layer.register_forward_hook(COUNTERS[type(layer)]) for layer in layers]
    for layer in layers:
        layer.__flops__ = 0
    with torch.no_grad(), torch_counter:
        multiply_adds, _ = get_model_complexity_info(
            _CountedPart(model), input_shape, print_per_layer_stat=False, as_strings=False
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
        matrix_multiply_adds=sum(by_operator.values())
        // 2,  # it counts multiplications and additions
        fft=fft,
    )


class EmptyOnMeta(TorchFunctionMode):
    """Builds the parameters of layers on the device `meta`, without values.

    Unlike `torch.device("meta")` it does not affect other tensors, because backbones read drop-path
    rates from `torch.linspace` while they are built.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `torch.empty`, which makes the parameters of every layer, on `meta`."""
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


class _CountedPart(nn.Module):
    """The part of a model that the papers count, as a module that takes an image."""

    model: Any  # the classes of mmdet and mmseg have no type annotations

    def __init__(self, model: nn.Module) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> None:
        """Run the counted part on an image (1, C, H, W)."""
        size = tuple(x.shape[-2:])
        sizes = dict(img_shape=size, pad_shape=size, ori_shape=size, batch_input_shape=size)
        if isinstance(self.model, TwoStageDetector):
            _run_two_stage(self.model, x)
        elif isinstance(self.model, BaseSegmentor):
            self.model.encode_decode(x, [sizes])
        elif isinstance(self.model, BaseModel):
            self.model(x, [DetDataSample(metainfo=sizes)], mode="tensor")
        else:
            self.model(x)


def _run_two_stage(model: Any, x: Tensor) -> None:
    """Run a two-stage detector; its RoI features have the right shapes, and zeros as values."""
    roi_head = model.roi_head
    if type(roi_head) not in ROI_HEADS:
        raise ValueError(
            f"got the RoI head {type(roi_head).__name__}; how papers count is known for "
            f"{', '.join(kind.__name__ for kind in ROI_HEADS)}."
        )
    features = model.extract_feat(x)
    model.rpn_head(features)
    for holder in (model, roi_head):  # panoptic FPN and HTC
        if getattr(holder, "semantic_head", None) is not None:
            holder.semantic_head(features)
    _run_heads(roi_head.bbox_head, roi_head.bbox_roi_extractor, NUM_ROIS, roi_head, x)
    if not roi_head.with_mask:
        return
    _run_heads(roi_head.mask_head, roi_head.mask_roi_extractor, NUM_MASK_ROIS, roi_head, x)


def _run_heads(heads: Any, extractors: Any, num_rois: int, roi_head: Any, like: Tensor) -> None:
    """Run the head of each stage on `num_rois` RoIs."""
    staged = isinstance(heads, nn.ModuleList)
    previous = None
    for i, head in enumerate(heads if staged else [heads]):
        extractor: Any = extractors[i] if isinstance(extractors, nn.ModuleList) else extractors
        size = extractor.roi_layers[0].output_size
        rois = like.new_zeros(num_rois, extractor.out_channels, *size)
        if roi_head.with_shared_head:
            rois = roi_head.shared_head(rois)
        if num_rois == NUM_MASK_ROIS and getattr(roi_head, "mask_info_flow", False):
            _, previous = head(rois, previous)  # HTC: a stage gets the features of the one before
        else:
            head(rois)


def _count_rfft(shape: torch.Size, *args: Any, **kwargs: Any) -> int:
    """Return the cost of a real FFT of (N, C, H, W)."""
    return math.prod(shape) * math.ceil(math.log2(math.prod(shape[-2:])))


def _count_irfft(shape: torch.Size, *args: Any, out_shape: torch.Size, **kwargs: Any) -> int:
    """Return the cost of an inverse real FFT to (N, C, H, W)."""
    return _count_rfft(out_shape)
