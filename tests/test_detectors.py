"""mmdet's mainstream detectors, built from mmdet's own configs and made tiny, train and test."""

from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

import hordet  # noqa: F401  (before mmdet's models, which import mmcv.ops)

CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
CLASSES = 10

DETECTORS = [
    "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py",
    "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
    "dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py",
    "dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
    "carafe/mask-rcnn_r50_fpn-carafe_1x_coco.py",
    "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss/atss_r50_fpn_1x_coco.py",
    "gfl/gfl_r50_fpn_1x_coco.py",
    "solov2/solov2_r50_fpn_1x_coco.py",
    "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
    "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "dino/dino-4scale_r50_8xb2-12e_coco.py",
    "tood/tood_r50_fpn_1x_coco.py",
    "vfnet/vfnet_r50_fpn_1x_coco.py",
    "reppoints/reppoints-moment_r50_fpn_1x_coco.py",
    "dyhead/atss_r50_fpn_dyhead_1x_coco.py",
    "guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py",
    "pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py",
]

# Also in mixed precision.
MIXED = [
    "dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
    "retinanet/retinanet_r50_fpn_1x_coco.py",
]

CHANNELS = {"channels", "dims", "feats"}
SMALL = dict(
    num_classes=CLASSES,
    num_things_classes=CLASSES,
    class_weight=[1.0] * CLASSES + [0.1],
    num_groups=4,
    num_layers=2,
    stacked_convs=1,
    num_queries=20,
    num_dn_queries=4,
    score_thr=0.0,
    max_per_img=10,
    max_per_image=10,
    filter_low_score=False,
    filter_thr=0.0,
)


def tiny(node, shrink):
    """The config with few channels, layers and queries, and without pretrained files."""
    if isinstance(node, (list, tuple)):
        return type(node)(tiny(child, shrink) for child in node)
    if not isinstance(node, dict):
        return node
    small = {}
    for key, value in node.items():
        if key == "init_cfg" and isinstance(value, dict) and value.get("type") == "Pretrained":
            value = None
        elif key in SMALL and value is not None:
            value = SMALL[key]
        elif key.rsplit("_", 1)[-1] in CHANNELS and key != "channels":
            value = [n // shrink for n in value] if isinstance(value, list) else value // shrink
        small[key] = tiny(value, shrink)
    if small.get("type") == "ResNet":  # zero_init_residual would hide the blocks from the gradient
        small.update(base_channels=64 // shrink, zero_init_residual=False)
    if small.get("type") in ("DeformableDETRHead", "DINOHead"):
        small.update(embed_dims=256 // shrink)
    return small


def build(name):
    from mmdet.registry import MODELS

    shrink = 1 if name.startswith("dino/") else 4  # DINO encodes positions in 256 channels, always
    model = ConfigDict(tiny(Config.fromfile(CONFIGS / name).model.to_dict(), shrink))
    if "batch_augments" in model["data_preprocessor"]:
        model["data_preprocessor"]["batch_augments"] = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(model)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    "name, bfloat16", [(name, False) for name in DETECTORS] + [(name, True) for name in MIXED]
)
def test_detector_takes_a_train_step_and_a_test_step(name, bfloat16, monkeypatch):
    from mmdet.testing import demo_mm_inputs

    # TOOD asks the runner, which there is none of, for the epoch.
    monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, "epoch", 0)
    model = build(name)
    batch = demo_mm_inputs(2, (3, 128, 128), [2, 3], CLASSES, with_mask=True)
    data = model.data_preprocessor(batch, training=True)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
    with mixed:
        loss, parts = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    assert loss.isfinite() and loss > 0, parts
    trained = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    assert all(grad.isfinite().all() for grad in trained.values())
    reached = [k for k, grad in trained.items() if k.startswith("backbone") and grad.any()]
    assert len(reached) > 10
    for part in ("conv_offset", "content_encoder", "sampling_offsets"):
        of_part = [k for k, _ in model.named_parameters() if f"{part}.weight" in k]
        assert not of_part or any(trained[k].any() for k in of_part), part

    model.eval()
    with torch.no_grad(), mixed:
        (result,) = model.test_step(demo_mm_inputs(1, (3, 128, 128), [0], CLASSES))
    found = result.pred_instances
    assert 0 < len(found) <= 10
    assert found.scores.isfinite().all() and found.bboxes.shape == (len(found), 4)
    if "masks" in found:
        assert found.masks.shape == (len(found), 128, 128)
