"""The table of backbones under HorFPN: outputs and cost of each, and whether it can be trained.

Shapes and costs come from forward passes without values (torch's device `meta`). The training step
is real: a RetinaNet on small random images. It shows that the parts fit and that every parameter
gets a gradient, not how good a model is.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.model import initialize
from mmengine.structures import InstanceData
from torch import Tensor, nn

from hordet.benchmark.complexity import count_forward
from hordet.benchmark.table import TableRow, format_table
from hordet.registry import MODELS

COUNTED, TRAINED = (800, 1280), (64, 96)  # (H, W) of the images
NECK: dict[str, Any] = dict(type="hordet.HorFPN", out_channels=256, num_outs=5)
# Sides of images must be multiples of one of these: the smallest that the model accepts.
DIVISORS = (32, 64, 128, 256)
NOTE = """\
- **Use:** `from hordet.benchmark.peers import PEERS`, then `backbone=PEERS[NAME]`. The channels are
  HorFPN's `in_channels`.
- **Neck:** HorFPN-7x7 with five outputs of 256 channels.
- **Parameters and multiply-adds** are *counted here*, at 800 x 1280 or at the padded size.
  Multiply-adds are those of convolutions, linear layers and attention (torch's counter).
- **Loss** is *measured here*, in one training step of a RetinaNet on random images. It shows that
  the parts fit and that every parameter has a gradient. It does not show quality.
- **Images:** "any" size is padded to a multiple of 32, as in mmdet and mmseg. Models of "one size"
  take it as `img_size=(H, W)`, and every image is padded to it.

"""
HEADER = (
    "backbone",
    "channels",
    "images",
    "parameters, M",
    "with HorFPN",
    "multiply-adds, G",
    "with HorFPN",
    "loss of a step",
)


@dataclass(frozen=True)
class BackboneRow(TableRow):
    """One backbone of the table.

    Attributes:
        name: Name of the backbone.
        config: Config of the backbone.
        channels: Channels of each output.
        strides: Stride of each output in pixels of the image.
        images: The sizes of images that it accepts.
        counted: (H, W) of the counted image: 800 x 1280, or the next size that it accepts.
        parameters: Number for the backbone alone, and with the neck.
        multiply_adds: Likewise, by torch's counter: convolutions and matrix products.
        loss: Loss of a training step.
    """

    name: str
    config: dict[str, Any]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    images: str
    counted: tuple[int, int]
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    loss: float


def resize_backbone(
    config: dict[str, Any], size: tuple[int, int]
) -> tuple[dict[str, Any], tuple[int, int]]:
    """Fit a backbone and an image size to each other.

    Args:
        config: Config of a backbone; not changed.
        size: (H, W), multiples of 32.

    Returns:
        The config, with `img_size` if the model accepts only one size; and `size`, or the next
        larger size that the model accepts.

    Raises:
        ValueError: The model accepts none of the sizes tried.
    """
    config = copy.deepcopy(config)
    with torch.device("meta"):
        backbone = MODELS.build(copy.deepcopy(config))
    if getattr(backbone, "img_size", None):
        return {**config, "img_size": size}, size
    refusal: ValueError | None = None
    for divisor in DIVISORS:
        height, width = (math.ceil(side / divisor) * divisor for side in size)
        try:
            compute_maps(backbone, (height, width))
        except ValueError as error:
            refusal = error
        else:
            return config, (height, width)
    raise ValueError(f"got {config}, which accepts images of no multiple of {DIVISORS}: {refusal}.")


def compute_maps(backbone: nn.Module, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Run a backbone on the device `meta`; its outputs have shapes but no values."""
    backbone.eval()  # chaining would fail: mmdet's `train` returns nothing
    with torch.no_grad():
        return backbone(torch.zeros(1, 3, *size, device="meta"))


def build_retinanet(config: dict[str, Any], channels: Iterable[int]) -> nn.Module:
    """Build a RetinaNet (Lin et al., ICCV 2017) on P2 to P6 of HorFPN, with a thin head.

    Args:
        config: Config of the backbone.
        channels: Channels of its outputs.
    """
    anchors = dict(octave_base_scale=4, scales_per_octave=1, ratios=[1.0])
    head = dict(
        type="mmdet.RetinaHead",
        num_classes=3,
        in_channels=NECK["out_channels"],
        stacked_convs=1,
        feat_channels=32,
        anchor_generator=dict(type="mmdet.AnchorGenerator", strides=[4, 8, 16, 32, 64], **anchors),
        bbox_coder=dict(type="mmdet.DeltaXYWHBBoxCoder"),
        loss_cls=dict(type="mmdet.FocalLoss", use_sigmoid=True),
        loss_bbox=dict(type="mmdet.L1Loss"),
    )
    assigner = dict(type="mmdet.MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0)
    model = MODELS.build(
        dict(
            type="mmdet.RetinaNet",
            data_preprocessor=dict(type="mmdet.DetDataPreprocessor"),
            backbone=copy.deepcopy(config),
            neck=dict(NECK, in_channels=list(channels)),
            bbox_head=head,
            train_cfg=dict(
                assigner=assigner,
                sampler=dict(type="mmdet.PseudoSampler"),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
        )
    )
    initialize(
        model.bbox_head, model.bbox_head.init_cfg
    )  # the bias of the classifier: anchors start as background
    return model


def run_train_step(model: nn.Module, size: tuple[int, int]) -> float:
    """Compute the gradients of a detector's loss on two random images with two boxes each.

    Args:
        model: A detector of mmdet.
        size: (H, W) of the images.

    Returns:
        The loss.

    Raises:
        ValueError: The loss is not finite, or a trainable parameter has no finite gradient.
    """
    height, width = size
    boxes = [[0.1, 0.1, 0.4, 0.5], [0.3, 0.2, 0.9, 0.9]]
    sides = torch.tensor([width, height, width, height])
    truth = InstanceData(bboxes=torch.tensor(boxes) * sides, labels=torch.tensor([0, 2]))
    sample = DetDataSample(
        gt_instances=truth, metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size)
    )
    detector: Any = model.train()  # mmdet's detectors have no type annotations
    losses = detector.loss(torch.randn(2, 3, height, width), [sample, sample])
    loss, _ = detector.parse_losses(losses)
    loss.backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not torch.isfinite(parameter.grad).all())
    ]
    if without or not torch.isfinite(loss):
        raise ValueError(
            f"got a loss of {loss.item()} and no finite gradient for {len(without)} parameters, "
            f"such as {', '.join(without[:3]) or 'none'}."
        )
    return loss.item()


def measure_backbone(name: str, config: dict[str, Any]) -> BackboneRow:
    """Measure one backbone.

    Args:
        name: Its name in the table.
        config: Its config.

    Raises:
        ValueError: As `resize_backbone` and `run_train_step`.
    """
    fitted, size = resize_backbone(config, COUNTED)
    with torch.device("meta"):
        backbone = MODELS.build(copy.deepcopy(fitted))
        outs = compute_maps(backbone, size)
        channels = tuple(out.shape[1] for out in outs)
        whole = nn.Sequential(backbone, MODELS.build(dict(NECK, in_channels=list(channels))))
        # Copies, because the counter adds attributes to the modules.
        alone, together = (count_forward(copy.deepcopy(m), (3, *size)) for m in (backbone, whole))
    images = "any" if size == COUNTED else f"padded to {size[0]} x {size[1]}"
    if "img_size" in fitted:
        images = "one size"
    fitted, small = resize_backbone(config, TRAINED)
    torch.manual_seed(0)
    return BackboneRow(
        name=name,
        config=config,
        channels=channels,
        strides=tuple(size[0] // out.shape[2] for out in outs),
        images=images,
        counted=size,
        parameters=(alone.parameters, together.parameters),
        multiply_adds=(alone.matrix_multiply_adds, together.matrix_multiply_adds),
        loss=run_train_step(build_retinanet(fitted, channels), small),
    )


def format_backbone_table(rows: Iterable[BackboneRow]) -> str:
    """Return the table as Markdown."""
    lines = [HEADER, ["---"] * 3 + ["---:"] * (len(HEADER) - 3)]
    for row in rows:
        cells = [row.name, ", ".join(map(str, row.channels)), row.images]
        cells += [f"{value / 1e6:.2f}" for value in row.parameters]
        cells += [f"{value / 1e9:.2f}" for value in row.multiply_adds]
        lines.append([*cells, f"{row.loss:.2f}"])
    return NOTE + "\n".join(format_table(*lines)) + "\n"
