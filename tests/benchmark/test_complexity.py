"""Counts by hand, by another counter, and of every kind of model that the counter knows."""

from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from hordet.backbones import HorNet
from hordet.benchmark.complexity import (
    EmptyOnMeta,
    count_complexity,
    count_forward,
    get_paper_shape,
)
from hordet.config.load import load_config
from hordet.layers import GlobalLocalFilter

MMDET = Path(mmdet.__file__).parent / ".mim" / "configs"
MMSEG = Path(mmseg.__file__).parent / ".mim" / "configs"


def test_layers_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    )
    cost = count_forward(model, (3, 32, 20))
    pixels = 16 * 10
    assert cost.matrix_multiply_adds == 9 * 3 * 8 * pixels
    # Bias 1, BatchNorm 2, ReLU 1, pooling 1 an input.
    assert cost.multiply_adds == cost.matrix_multiply_adds + (1 + 2 + 1 + 1) * 8 * pixels
    assert cost.parameters == 9 * 3 * 8 + 8 + 8 + 8
    assert (cost.fft, cost.input_shape) == (0, (3, 32, 20))


def test_ffts_by_hand():
    cost = count_forward(GlobalLocalFilter(8), (8, 12, 20))
    # Half of the channels, forth and back; 2^7 < 12 * 20 < 2^8.
    assert cost.fft == 2 * 4 * 12 * 20 * 8
    assert cost.multiply_adds == cost.matrix_multiply_adds == 4 * 9 * 12 * 20


def test_layers_of_other_classes_are_seen_by_torchs_counter_alone():
    class StandardizedConv2d(nn.Conv2d):
        pass

    cost = count_forward(StandardizedConv2d(3, 8, 1), (3, 5, 5))
    assert (cost.multiply_adds, cost.matrix_multiply_adds) == (0, 3 * 8 * 25)


def test_norms_of_hornet_are_left_out_as_in_the_authors_code():
    model = HorNet(dict(base_channels=8, depths=(1,), orders=(2,)), out_indices=(0,))
    pixels = 4
    convs = (4 * 4 * 3 + 1) * 8 + (8 + 1) * 16 + (49 + 1) * 12 + (4 + 1) * 8 + (8 + 1) * 8
    # mmcv's counter has no bias in a linear layer.
    assert count_forward(model, (3, 8, 8)).multiply_adds == (convs + 2 * 8 * 32) * pixels


def test_frozen_parameters_count():
    model = nn.Conv2d(3, 8, 1).requires_grad_(False)
    assert count_forward(model, (3, 4, 4)).parameters == 32


@pytest.mark.parametrize(
    "path",
    [
        MMDET / "retinanet" / "retinanet_r50_fpn_1x_coco.py",
        MMDET / "faster_rcnn" / "faster-rcnn_r50-caffe_c4-1x_coco.py",
        MMDET / "htc" / "htc_r50_fpn_1x_coco.py",
        MMDET / "panoptic_fpn" / "panoptic-fpn_r50_fpn_1x_coco.py",
        MMDET / "mask2former" / "mask2former_r50_8xb2-lsj-50e_coco.py",
        MMSEG / "upernet" / "upernet_r50_4xb4-160k_ade20k-512x512.py",
    ],
    ids=lambda path: path.parent.name,
)
def test_kinds_of_models(path):
    cfg = load_config(path)
    cost = count_complexity(cfg, (3, 128, 96))
    # Norms on one side, attention (a sixth of Mask2Former) on the other.
    assert 0.8 < cost.matrix_multiply_adds / cost.multiply_adds < 1.25
    # Heads on RoIs cost the same at every size; the rest grows with the image.
    assert count_complexity(cfg, (3, 256, 96)).multiply_adds > cost.multiply_adds


@pytest.mark.parametrize(
    "path",
    [
        MMDET / "retinanet" / "retinanet_r50_fpn_1x_coco.py",
        MMSEG / "swin" / "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
    ],
    ids=lambda path: path.parent.name,
)
def test_shapes_count_as_values_do(path):
    cfg = load_config(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    assert not next(model.parameters()).is_meta
    # mmseg's example has SyncBN, as it is: both counts pass over it.
    assert count_forward(model, (3, 96, 64)) == count_complexity(cfg, (3, 96, 64))


def test_stages_and_masks_are_counted():
    """HTC's mask heads see the features of the stage before; without them fewer are counted."""
    cfg = load_config(MMDET / "htc" / "htc-without-semantic_r50_fpn_1x_coco.py")
    whole = count_complexity(cfg, (3, 128, 96))
    cfg.model.roi_head.mask_info_flow = False
    apart = count_complexity(cfg, (3, 128, 96))
    # Stages 2 and 3 mix in the features through a 1x1 convolution with bias and ReLU.
    assert whole.multiply_adds - apart.multiply_adds == 2 * 100 * 14 * 14 * 256 * (256 + 1 + 1)


def test_roi_heads_without_a_known_way_of_counting():
    cfg = load_config(MMDET / "sparse_rcnn" / "sparse-rcnn_r50_fpn_1x_coco.py")
    with pytest.raises(ValueError, match="got the RoI head SparseRoIHead; .* StandardRoIHead"):
        count_complexity(cfg)


def test_shape_of_the_papers():
    def shape(*scale):
        steps = [dict(type="Load"), dict(type="Resize", scale=scale)]
        return get_paper_shape(Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps)))))

    assert shape(1333, 800) == (3, 1280, 800)
    assert shape(2048, 512) == (3, 2048, 512)
    with pytest.raises(ValueError, match=r"no Resize.*give the shape"):
        shape(0.5)


def test_no_values_are_computed():
    """The largest model of the paper is counted at 2560 x 640 in no memory to speak of."""
    with EmptyOnMeta():
        model = HorNet("large", spatial="gf")
    assert next(model.parameters()).is_meta
    assert count_forward(model.to("meta"), (3, 2560, 640)).multiply_adds > 7e11
    assert not torch.empty(1).is_meta
