"""A cap below the data is named, and one flag moves model and metric alike."""

import json

import pytest
from mmengine.config import ConfigDict

from hordet.datasets.checks.before_training import find_data_faults
from hordet.datasets.detection_limits import find_detection_limit, set_detection_limit

TWO_STAGES = dict(rpn=dict(nms_pre=500, max_per_img=300), rcnn=dict(max_per_img=100))


@pytest.mark.parametrize(
    "test_cfg, key",
    [
        (TWO_STAGES, "model.test_cfg.rcnn.max_per_img"),
        (dict(nms_pre=1000, max_per_img=100), "model.test_cfg.max_per_img"),
        (dict(max_per_image=100, instance_on=True), "model.test_cfg.max_per_image"),
    ],
)
def test_limits_of_models(test_cfg, key):
    model = dict(test_cfg=dict(test_cfg))
    assert find_detection_limit(model) == (key, 100)
    assert find_detection_limit(dict(module=dict(module=model))) == (key, 100)
    cfg = ConfigDict(model=model, val_evaluator=dict(type="hordet.CocoMetric"))
    assert set_detection_limit(cfg, 400)
    assert find_detection_limit(cfg.model) == (key, 400)
    assert "proposal_nums" not in cfg.val_evaluator, "1000 are scored already"
    assert set_detection_limit(cfg, 1500)
    assert cfg.val_evaluator.proposal_nums == (100, 300, 1500)
    if "rpn" in test_cfg:
        assert cfg.model.test_cfg.rpn == dict(nms_pre=1500, max_per_img=1500)


def test_a_model_without_a_limit():
    cfg = ConfigDict(model=dict(test_cfg=dict(mode="whole")), val_evaluator=dict(type="IoUMetric"))
    assert find_detection_limit(cfg.model) is None and not set_detection_limit(cfg, 200)
    assert find_detection_limit(None) is None


@pytest.mark.parametrize("number, warns", [(12, False), (13, True)])
def test_the_check_says_where_the_truth_exceeds_the_limit(tmp_path, number, warns):
    from PIL import Image

    Image.new("RGB", (300, 300)).save(tmp_path / "a.png")
    objects = [
        dict(id=k, image_id=1, category_id=1, bbox=[20 * k, 5, 12, 12], area=144, iscrowd=0)
        for k in range(number)
    ]
    content = dict(
        images=[dict(id=1, file_name="a.png", height=300, width=300)],
        categories=[dict(id=1, name="bead")],
        annotations=objects,
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(tmp_path),
        ann_file="a.json",
        metainfo=dict(classes=("bead",)),
        test_mode=True,
        pipeline=[],
    )
    cfg = ConfigDict(
        model=dict(test_cfg=dict(rcnn=dict(max_per_img=12))),
        val_dataloader=dict(dataset=dataset),
        val_evaluator=dict(type="hordet.CocoMetric", ann_file=str(tmp_path / "a.json")),
    )
    found = find_data_faults(cfg)
    assert not found.errors
    words = "(up to 13) than the 12 detections that the model gives of an image"
    assert any(words in line and "--max-dets 100" in line for line in found.warnings) == warns
