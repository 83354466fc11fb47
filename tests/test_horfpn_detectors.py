"""Detectors on HorNet and HorFPN: mmdet's heads unchanged, and every parameter learns."""

from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from hordet.config import load_config
from hordet.config_faults import nested_dicts
from hordet.layers import GnFusion

MMDET = Path(mmdet.__file__).parent / ".mim" / "configs"
SMALL = dict(base_channels=32, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5))
FEW = dict(fc_out_channels=64, max_per_img=20, nms_pre=100, num=32)
# Leaf of configs/coco: the config of mmdet whose heads it has.
DETECTORS = {
    "faster-rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade-rcnn": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "htc": "htc/htc-without-semantic_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
}


@pytest.fixture
def leaf(repository):
    return lambda name, options=None: load_config(
        repository / f"configs/coco/{name}_hornet-tiny-7x7_horfpn-7x7_1x.py", options
    )


def plain(value):
    """The value as plain dicts, without scopes and without what is the default anyway."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        # PseudoSampler is what one-stage heads take without a sampler. In R-CNN stages low-quality
        # matches change nothing: min_pos_iou is pos_iou_thr.
        quiet = {"_scope_", "match_low_quality", "dcn_on_last_conv"} | (
            {"sampler"} if value.get("sampler") == {"type": "PseudoSampler"} else set()
        )
        return {key: plain(item) for key, item in value.items() if key not in quiet}
    return value


@pytest.mark.parametrize("name", DETECTORS)
def test_all_but_backbone_and_neck_is_mmdets(leaf, name):
    ours, theirs = leaf(name).model, load_config(MMDET / DETECTORS[name]).model
    assert ours.type == theirs.type and ours.neck.type == "hordet.HorFPN"
    for part in ("rpn_head", "roi_head", "bbox_head", "train_cfg", "test_cfg"):
        assert plain(ours.get(part)) == plain(theirs.get(part)), part
    options = ("out_channels", "num_outs", "add_extra_convs", "relu_before_extra_convs")
    for option in options:
        assert ours.neck.get(option) == theirs.neck.get(option), option


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_learns(leaf, name):
    """One that no loss reaches would stop DistributedDataParallel."""
    from mmdet.testing import demo_mm_inputs

    cfg = leaf(name)
    inputs = [channels // 2 for channels in cfg.model.neck.in_channels]
    cfg.model.neck.in_channels = inputs
    cfg.model.backbone.update(arch=SMALL, init_cfg=None)
    for part in nested_dicts(cfg.model):
        part.update({key: value for key, value in FEW.items() if key in part})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model)
    model.init_weights()
    assert sum(isinstance(part, GnFusion) for part in model.neck.modules()) == (
        4 if len(inputs) == 4 else 5
    )
    batch = demo_mm_inputs(2, (3, 128, 128), [3, 3], 80, with_mask=name == "htc")
    data = model.data_preprocessor(batch, training=True)
    loss, parts = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    assert loss.isfinite() and loss > 0, parts
    missed = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missed
    assert sum(bool(p.grad.any()) for p in model.backbone.parameters()) > 10

    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(demo_mm_inputs(1, (3, 128, 128), [0], 80))
    found = result.pred_instances
    assert len(found) <= 20 and found.bboxes.shape == (len(found), 4)
    assert ("masks" in found) == (name == "htc")
