"""Detectors on HorNet and HorFPN: the libraries' heads unchanged, and every parameter learns."""

from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

from hordet.config.faults import walk_dicts
from hordet.config.load import load_config
from hordet.layers import GnFusion

MMDET = Path(mmdet.__file__).parent / ".mim" / "configs"
MMSEG = Path(mmseg.__file__).parent / ".mim" / "configs"
SMALL = dict(base_channels=32, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5))
# At most so much of each; Mask2Former's heads keep their widths.
FEW = dict(fc_out_channels=64, max_per_img=20, max_per_image=20, nms_pre=100, num=32)
FEW |= dict(num_layers=2, num_queries=10, num_points=100)
# Leaf of configs/coco: the config of mmdet whose heads it has.
DETECTORS = {
    "faster-rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade-rcnn": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "htc": "htc/htc-without-semantic_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "panoptic-fpn": "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
}
PARTS = ("data_preprocessor", "rpn_head", "roi_head", "bbox_head", "semantic_head")
PARTS += ("panoptic_head", "panoptic_fusion_head", "decode_head", "train_cfg", "test_cfg")


@pytest.fixture
def leaf(repository):
    def load(name):
        if name in DETECTORS:
            name = f"coco/{name}_hornet-tiny-7x7_horfpn-7x7_1x"
        return load_config(repository / f"configs/{name}.py")

    return load


def small(cfg):
    """The model of a config with a small HorNet and few of everything."""
    widths = [
        SMALL["base_channels"] * 2**i for i in cfg.model.backbone.get("out_indices", range(4))
    ]
    reader = next(p for p in walk_dicts(cfg.model) if isinstance(p.get("in_channels"), list))
    reader["in_channels"] = widths
    cfg.model.backbone.update(arch=SMALL, init_cfg=None)
    for part in walk_dicts(cfg.model):
        part.update({key: min(few, part[key]) for key, few in FEW.items() if key in part})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def train_step(model, batch):
    """Take the gradients of one batch; each parameter must have one."""
    data = model.data_preprocessor(batch, training=True)
    loss, parts = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    assert loss.isfinite() and loss > 0, parts
    # One that no loss reaches would stop DistributedDataParallel.
    assert not [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert sum(bool(p.grad.any()) for p in model.backbone.parameters()) > 10


@torch.no_grad()
def predict(model, batch):
    (result,) = model.eval().test_step(batch)
    return result


def plain(value):
    """The value as plain dicts, without scopes and without what is the default anyway."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        # PseudoSampler is what one-stage heads take without a sampler. In R-CNN stages low-quality
        # matches change nothing: min_pos_iou is pos_iou_thr.
        quiet = {
            "_scope_",
            "match_low_quality",
            "dcn_on_last_conv",
            "conv_cfg",
            "mask_pad_value",
        } | ({"sampler"} if value.get("sampler") == {"type": "PseudoSampler"} else set())
        return {key: plain(item) for key, item in value.items() if key not in quiet}
    return value


def without_channels(config):
    """A head's settings but for the widths of the backbone it reads."""
    return {key: value for key, value in (config or {}).items() if key != "in_channels"}


@pytest.mark.parametrize("name", DETECTORS)
def test_all_but_backbone_and_neck_is_mmdets(leaf, name):
    ours, theirs = leaf(name).model, load_config(MMDET / DETECTORS[name]).model
    assert ours.type == theirs.type and ours.neck.type == "hordet.HorFPN"
    # Weights from Caffe want other means; targets cut out by boxes do not see padding of masks.
    if name in ("fcos", "htc"):
        ours.data_preprocessor = theirs.data_preprocessor
    for part in PARTS:
        assert plain(ours.get(part)) == plain(theirs.get(part)), part
    options = ("out_channels", "num_outs", "add_extra_convs", "relu_before_extra_convs")
    for option in options:
        assert ours.neck.get(option) == theirs.neck.get(option), option


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_learns(leaf, name):
    from mmdet.testing import demo_mm_inputs

    model = small(leaf(name))
    levels = 4 if len(model.backbone.out_indices) == 4 else 5
    assert sum(isinstance(part, GnFusion) for part in model.neck.modules()) == levels
    masks, panoptic = name in ("htc", "panoptic-fpn"), name == "panoptic-fpn"
    size = (3, 128, 128)
    train_step(model, demo_mm_inputs(2, size, [3, 3], 80, with_mask=masks, with_semantic=panoptic))
    result = predict(model, demo_mm_inputs(1, size, [0], 80))
    if panoptic:
        assert result.pred_panoptic_seg.sem_seg.shape == (1, 128, 128)
        return
    found = result.pred_instances
    assert len(found) <= 20 and found.bboxes.shape == (len(found), 4)
    assert ("masks" in found) == masks


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("coco/mask2former_hornet-tiny-7x7_50e", MMDET / "{}_r50_8xb2-lsj-50e_coco.py"),
        (
            "ade20k/mask2former_hornet-tiny-7x7_160k",
            MMSEG / "{}_r50_8xb2-160k_ade20k-512x512.py",
        ),
    ],
)
def test_mask2former_is_theirs_but_for_the_backbone(leaf, name, theirs):
    ours, theirs = leaf(name), load_config(str(theirs).format("mask2former/mask2former"))
    for part in PARTS:
        mine, other = (without_channels(cfg.model.get(part)) for cfg in (ours, theirs))
        assert plain(mine) == plain(other), part
    for key in ("optim_wrapper", "param_scheduler", "train_cfg", "auto_scale_lr"):
        assert plain(ours[key]) == plain(theirs[key]), key
    for key in ("train_dataloader", "test_dataloader"):
        mine, other = ours[key].dataset, theirs[key].dataset
        names = [[step.type.split(".")[-1] for step in d.pipeline] for d in (mine, other)]
        loads = {"LoadAnnotations": "LoadSegAnnotations"} if "ade20k" in name else {}
        assert names[0] == [loads.get(step, step) for step in names[1]]
        assert str(mine.data_root) == str(other.data_root).rstrip("/")


def test_every_parameter_of_mask2former_learns(leaf):
    from mmdet.testing import demo_mm_inputs

    cfg = leaf("coco/mask2former_hornet-tiny-7x7_50e")
    cfg.model.data_preprocessor.batch_augments = None
    model = small(cfg)
    size = (3, 128, 128)
    train_step(model, demo_mm_inputs(2, size, [3, 3], 80, with_mask=True))
    found = predict(model, demo_mm_inputs(1, size, [0], 80)).pred_instances
    assert 0 < len(found) <= 20 and found.masks.shape == (len(found), 128, 128)


def test_every_parameter_of_mask2former_for_classes_learns(leaf):
    from mmseg.structures import SegDataSample

    def batch(count):
        samples = [SegDataSample(metainfo=dict(ori_shape=(64, 96), img_shape=(64, 96)))] * count
        for sample in samples:
            truth = torch.zeros(1, 64, 96, dtype=torch.long)
            truth[:, 20:40, 30:60] = 149
            sample.gt_sem_seg = PixelData(data=truth)
        images = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)] * count
        return dict(inputs=images, data_samples=samples)

    cfg = leaf("ade20k/mask2former_hornet-tiny-7x7_160k")
    cfg.model.data_preprocessor.size = (64, 96)
    model = small(cfg)
    train_step(model, batch(2))
    assert predict(model, batch(1)).pred_sem_seg.data.shape == (1, 64, 96)
