"""Every neck under every kind of detector and backbone: one train step and one test step each.

By default each pair (neck and detector, neck and backbone, detector and backbone) is in one of 15
models; `--slow` tries all 45. The backbones have few blocks, heads are narrow inside and see few
boxes: types, channels and wiring between the parts are those of the real ones.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import hordet.registry  # noqa: F401
from hordet.config.faults import walk_dicts
from hordet.hornet.architectures import ARCHITECTURES

DETECTORS = {
    "mask-rcnn": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade-mask-rcnn": "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
}
SHALLOW = dict(ARCHITECTURES["tiny"], depths=(1, 1, 1, 1))
BACKBONES = {
    "resnet50": (dict(type="mmdet.ResNet", depth=50, style="pytorch"), [256, 512, 1024, 2048]),
    "hornet-tiny": (dict(type="hordet.HorNet", arch=SHALLOW), [64, 128, 256, 512]),
    "swin-tiny": (
        dict(type="mmdet.SwinTransformer", depths=[2, 2, 2, 2], num_heads=[3, 6, 12, 24]),
        [96, 192, 384, 768],
    ),
}
NECKS = {
    "fpn": dict(),
    "horfpn-7x7": dict(type="hordet.HorFPN"),
    "horfpn-gf": dict(type="hordet.HorFPN", spatial="gf"),
}
# (topology's options, detector, backbone): each once, beside the full grid above.
GRAPHS = {
    "bifpn": (dict(), "retinanet", "resnet50"),
    "bifpn-3": (dict(stack_times=3, weight_method="softmax"), "atss", "resnet50"),
    "hor-bifpn": (dict(fusion="gnconv"), "mask-rcnn", "hornet-tiny"),
    "hor-bifpn-gf": (dict(fusion="gnconv", spatial="gf"), "fcos", "resnet50"),
    "pafpn": (
        dict(topology="pafpn", fusion="conv", weight_method="sum", downsample="conv"),
        "cascade-mask-rcnn",
        "resnet50",
    ),
}


def read_shipped_model(name):
    """The model of a config that comes inside mmdet's wheel, with narrow heads and few boxes."""
    import mmdet

    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / name).model
    for part in walk_dicts([cfg]):
        if "fc_out_channels" in part:
            part.fc_out_channels = 64
        if "pos_fraction" in part:
            part.num = 16  # boxes that losses sample
        if "max_per_img" in part:
            part.max_per_img = 20  # boxes that are proposed, or kept
    return cfg


def list_grid():
    """Every model; those that hold no pair which another one holds, too, are slow."""
    for i, neck in enumerate(NECKS):
        for j, detector in enumerate(DETECTORS):
            for k, backbone in enumerate(BACKBONES):
                marks = () if (i + j + k) % 3 == 0 else pytest.mark.slow
                yield pytest.param(neck, detector, backbone, marks=marks)


@pytest.mark.parametrize(("neck", "detector", "backbone"), list_grid())
def test_train_and_test_step(neck, detector, backbone):
    cfg = read_shipped_model(DETECTORS[detector])
    cfg.backbone, cfg.neck.in_channels = BACKBONES[backbone]
    cfg.neck.update(NECKS[neck])
    train_and_test(cfg, "FPN" if neck == "fpn" else "HorFPN", "mask" in detector)


@pytest.mark.parametrize("neck", GRAPHS)
def test_graph_fpn_in_a_train_and_a_test_step(neck):
    options, detector, backbone = GRAPHS[neck]
    cfg = read_shipped_model(DETECTORS[detector])
    cfg.backbone, cfg.neck.in_channels = BACKBONES[backbone]
    for key in ("add_extra_convs", "relu_before_extra_convs"):  # extra levels are BiFPN's own
        cfg.neck.pop(key, None)
    cfg.neck.update(type="hordet.GraphFPN", **options)
    train_and_test(cfg, "GraphFPN", "mask" in detector)


def train_and_test(cfg, neck, with_mask):
    """One step of each: losses and gradients are finite, predictions have their shapes."""
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules

    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    assert type(model.neck).__name__ == neck

    model.train()
    batch = demo_mm_inputs(2, [[3, 64, 96], [3, 64, 80]], num_classes=80, with_mask=with_mask)
    data = model.data_preprocessor(batch, True)
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    assert torch.isfinite(loss)
    loss.backward()
    gradients = {
        n: p.grad for n, p in model.named_parameters() if n.startswith(("neck", "backbone"))
    }
    missing = [n for n, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    # An output norm of a level that the neck does not use (RetinaNet and its kin start at C3).
    assert all(n.startswith(("backbone.norm0", "backbone.norm1")) for n in missing), missing
    assert any(
        g.abs().sum() > 0
        for n, g in gradients.items()
        if n.startswith("backbone") and g is not None
    )

    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(demo_mm_inputs(1, [[3, 64, 96]], num_classes=80))
    found = result.pred_instances
    assert found.bboxes.shape[1] == 4
    assert len(found.bboxes) == len(found.scores) == len(found.labels)
    if with_mask:
        assert list(found.masks.shape[1:]) == list(result.ori_shape[:2])
