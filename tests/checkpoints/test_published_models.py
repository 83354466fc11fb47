"""The authors' detectors and segmentors: their files' names and shapes fill our models wholly.

The backbones' names are the authors' (../shared/reference/keys.json); those of heads and necks are
written out here as mmdet 2 and mmseg 0 have them, not taken from the models that are compared.
"""

import json
from collections import OrderedDict

import pytest
import torch
from mmengine.registry import DefaultScope

from hordet.checkpoints import convert_names, find_published
from hordet.config.load import load_config
from hordet.registry import MODELS

# Width, and for each form of filter the backbone's row of keys.json: detectors, segmentors.
ROWS = [
    (size, kind, width)
    for size, width in dict(tiny=64, small=96, base=128, large=192).items()
    for kind in ("7x7", "gf")
]


def conv(name, out, into, kernel, bias=True):
    yield f"{name}.weight", (out, into, kernel, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def norm(name, channels):
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def linear(name, out, into):
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def cascade_parts(width):
    """FPN, RPNHead, CascadeRoIHead (4conv1fc, SyncBN, boxes by class) of mmdet 2, 80 classes."""
    for i in range(4):
        yield from conv(f"neck.lateral_convs.{i}.conv", 256, width * 2**i, 1)
        yield from conv(f"neck.fpn_convs.{i}.conv", 256, 256, 3)
    yield from conv("rpn_head.rpn_conv", 256, 256, 3)
    yield from conv("rpn_head.rpn_cls", 3, 256, 1)
    yield from conv("rpn_head.rpn_reg", 12, 256, 1)
    for stage in range(3):
        box, mask = f"roi_head.bbox_head.{stage}", f"roi_head.mask_head.{stage}"
        yield from linear(f"{box}.fc_cls", 81, 1024)
        yield from linear(f"{box}.fc_reg", 320, 1024)
        for i in range(4):
            yield from conv(f"{box}.shared_convs.{i}.conv", 256, 256, 3, bias=False)
            yield from norm(f"{box}.shared_convs.{i}.bn", 256)
            yield from conv(f"{mask}.convs.{i}.conv", 256, 256, 3)
        yield from linear(f"{box}.shared_fcs.0", 1024, 256 * 49)
        yield from conv(f"{mask}.upsample", 256, 256, 2)
        yield from conv(f"{mask}.conv_logits", 80, 256, 1)


def upernet_parts(width):
    """UPerHead of 512 channels with SyncBN and FCNHead of 256 of mmseg 0, 150 classes."""

    def module(name, out, into, kernel):
        yield from conv(f"{name}.conv", out, into, kernel, bias=False)
        yield from norm(f"{name}.bn", out)

    head, top = "decode_head", width * 8
    yield from conv(f"{head}.conv_seg", 150, 512, 1)
    for i in range(4):
        yield from module(f"{head}.psp_modules.{i}.1", 512, top, 1)
    yield from module(f"{head}.bottleneck", 512, top + 4 * 512, 3)
    for i in range(3):
        yield from module(f"{head}.lateral_convs.{i}", 512, width * 2**i, 1)
        yield from module(f"{head}.fpn_convs.{i}", 512, 512, 3)
    yield from module(f"{head}.fpn_bottleneck", 512, 4 * 512, 3)
    yield from conv("auxiliary_head.conv_seg", 150, 256, 1)
    yield from module("auxiliary_head.convs.0", 256, width * 4, 3)


def write_file(reference, row, parts):
    """A checkpoint of mmdet 2's form; tensors of any size that take no memory."""
    keys = json.loads((reference / "keys.json").read_text())[row]
    shapes = {f"backbone.{name}": shape for name, shape in keys.items()} | dict(parts)
    state = OrderedDict(
        (name, torch.zeros(()).expand(tuple(shape))) for name, shape in shapes.items()
    )
    meta = dict(mmdet_version="2.11.0", CLASSES=("person",), config="model = dict()")
    return dict(meta=meta, state_dict=state, optimizer=dict(state={}))


def build(name):
    cfg = load_config(name)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device("meta"):
        return cfg, MODELS.build(cfg.model).state_dict()


def require_whole(file, model):
    conversion = convert_names(file, minimum_share=1.0)
    assert conversion.unknown == conversion.dropped == ()
    found = {name: tuple(tensor.shape) for name, tensor in conversion.state_dict.items()}
    assert found == {name: tuple(tensor.shape) for name, tensor in model.items()}


@pytest.mark.parametrize(("size", "kind", "width"), ROWS)
def test_a_cascade_of_the_authors_fills_ours(reference, size, kind, width):
    name = f"coco/cascade-mask-rcnn_hornet-{size}-{kind}_fpn_3x"
    assert find_published(name)
    filters = "gf_24x13" if size == "large" else "gf_14x8"
    row = f"dense/{size}_{filters if kind == 'gf' else '7x7'}"
    cfg, model = build(name)
    require_whole(write_file(reference, row, cascade_parts(width)), model)
    # The authors' images are red, green, blue with ImageNet's mean and deviation.
    assert cfg.model.data_preprocessor.bgr_to_rgb is True
    assert list(cfg.model.data_preprocessor.mean) == [123.675, 116.28, 103.53]


@pytest.mark.parametrize(("size", "kind", "width"), ROWS)
def test_an_upernet_of_the_authors_fills_ours(reference, size, kind, width):
    name = f"ade20k/upernet_hornet-{size}-{kind}_uperhead_160k"
    assert bool(find_published(name)) == (size != "base")
    row = f"dense/{size}_{'gf_24x13' if kind == 'gf' else '7x7'}"
    cfg, model = build(name)
    require_whole(write_file(reference, row, upernet_parts(width)), model)
    assert cfg.model.data_preprocessor.bgr_to_rgb is True


def test_one_tensor_more_or_less_is_noticed(reference):
    _, model = build("coco/cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x")
    file = write_file(reference, "dense/tiny_7x7", cascade_parts(64))
    del file["state_dict"]["roi_head.bbox_head.1.fc_cls.bias"]
    with pytest.raises(AssertionError):
        require_whole(file, model)


def test_classes_are_in_the_order_of_mmdet_2():
    """80 classes and then the background, as since mmdet 2; mmdet 1 had it first."""
    from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
    from mmengine.config import ConfigDict

    head = ConvFCBBoxHead(in_channels=4, fc_out_channels=4, num_shared_fcs=1, num_classes=80)
    rois = torch.tensor([[0.0, 0, 0, 10, 10]] * 3)
    scores = torch.full((3, 81), -10.0)
    scores[0, 0] = scores[1, 79] = scores[2, 80] = 10.0
    deltas = torch.zeros(3, 320)
    rcnn = ConfigDict(score_thr=0.5, nms=dict(type="nms", iou_threshold=1.0), max_per_img=9)
    with DefaultScope.overwrite_default_scope("mmdet"):
        (found,) = head.predict_by_feat(
            (rois,), (scores,), (deltas,), [dict(img_shape=(20, 20))], rcnn
        )
    assert sorted(found.labels.tolist()) == [0, 79]  # the third is background
    classes = load_config("coco/cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x")
    from mmdet.datasets import CocoDataset

    assert classes.test_dataloader.dataset.type.endswith("CocoDataset")
    names = CocoDataset.METAINFO["classes"]
    assert (names[0], names[1], names[79], len(names)) == ("person", "bicycle", "toothbrush", 80)
