"""Panoptic annotations: the generated ones are true to the pixel, faulty ones are named."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from hordet.datasets.checks.before_training import check_datasets
from hordet.datasets.shapes.files import write_shapes
from hordet.errors import DatasetError

CLASSES, STUFF = ("square", "disc", "ring"), ("floor", "wall")


@pytest.fixture
def root(tmp_path):
    settings = dict(num_train=4, num_val=1, size=(64, 64), classes=CLASSES, stuff=STUFF)
    return write_shapes(tmp_path / "shapes", **settings)


def config(root, **changes):
    dataset = dict(
        type="mmdet.CocoPanopticDataset",
        data_root=str(root),
        ann_file="annotations/panoptic_train.json",
        data_prefix=dict(img="train/", seg="annotations/panoptic_train/"),
        metainfo=dict(classes=CLASSES + STUFF, thing_classes=CLASSES, stuff_classes=STUFF),
    )
    metric = dict(
        type="mmdet.CocoPanopticMetric",
        ann_file=f"{root}/annotations/panoptic_train.json",
        seg_prefix=f"{root}/annotations/panoptic_train",
    )
    masks = dict(type="mmdet.CocoMetric", ann_file=f"{root}/annotations/instances_train.json")
    loader = dict(dataset=dataset | changes)
    return Config(dict(val_dataloader=loader, val_evaluator=[metric, masks]))


def faults(cfg):
    with pytest.raises(DatasetError) as caught:
        check_datasets(cfg)
    return str(caught.value)


def edited(root, edit):
    path = root / "annotations" / "panoptic_train.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return config(root)


def test_segments_are_the_label_maps_and_the_instances(root):
    content = json.loads((root / "annotations" / "panoptic_train.json").read_text())
    instances = json.loads((root / "annotations" / "instances_train.json").read_text())
    assert [(c["name"], c["isthing"]) for c in content["categories"]] == [
        *((name, 1) for name in CLASSES),
        *((name, 0) for name in STUFF),
    ]
    for item in content["annotations"]:
        colors = cv2.imread(str(root / "annotations/panoptic_train" / item["file_name"]))
        labels = cv2.imread(str(root / "labels/train" / item["file_name"]), cv2.IMREAD_UNCHANGED)
        ids = colors[..., ::-1].astype(int) @ (1, 256, 65536)
        segments = item["segments_info"]
        assert {segment["id"] for segment in segments} == set(np.unique(ids)) and ids.min() > 0
        for segment in segments:
            mask = ids == segment["id"]
            # Label 0 of the semantic map is the background: the first class of stuff.
            assert np.unique(labels[mask]).tolist() == [segment["category_id"] % (len(CLASSES) + 1)]
            rows, columns = np.nonzero(mask)
            x, y, width, height = segment["bbox"]
            assert (x, x + width) == (columns.min(), columns.max() + 1)
            assert (y, y + height) == (rows.min(), rows.max() + 1)
            assert segment["area"] == mask.sum()
        things = [(s["category_id"], s["bbox"], s["area"]) for s in segments[:-1]]
        own = [a for a in instances["annotations"] if a["image_id"] == item["image_id"]]
        assert things == [(a["category_id"], a["bbox"], a["area"]) for a in own]


def test_stuff_changes_nothing_else(root, tmp_path):
    settings = dict(num_train=4, num_val=1, size=(64, 64), classes=CLASSES)
    plain = write_shapes(tmp_path / "plain", **settings)
    files = [path.relative_to(plain) for path in plain.rglob("*") if path.is_file()]
    assert all((plain / file).read_bytes() == (root / file).read_bytes() for file in files)
    assert not any("panoptic" in str(file) for file in files)
    with pytest.raises(ValueError, match="differ from one another and classes"):
        write_shapes(tmp_path / "same", **settings, stuff=("disc",))


def test_good_data_pass(root):
    check_datasets(config(root))


def test_no_map(root):
    (root / "annotations/panoptic_train/000002.png").unlink()
    assert "1 of 4 panoptic maps" in faults(config(root)) and "000002.png" in faults(config(root))
    message = faults(config(root, data_prefix=dict(img="train/", seg="maps/")))
    assert "4 of 4 panoptic maps" in message and "correct data_prefix (seg)" in message


def test_a_file_of_instances(root):
    cfg = config(root, ann_file="annotations/instances_train.json", metainfo=dict(classes=CLASSES))
    assert "lack isthing" in faults(cfg) and "must name one" in faults(cfg)


def test_the_metric_must_read_the_same_file(root):
    cfg = config(root)
    cfg.val_evaluator[0].ann_file = f"{root}/annotations/panoptic_val.json"
    assert "its evaluator scores against" in faults(cfg)


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda c: c["annotations"][0].update(image_id=99), "1 of 4 annotations"),
        (lambda c: c["annotations"][1]["segments_info"][0].pop("bbox"), "image_id 2"),
        (lambda c: c["annotations"][1]["segments_info"][0].update(category_id=9), "image_id 2"),
        (lambda c: c["annotations"][0].pop("segments_info"), "1 of 4 annotations"),
        (lambda c: c.update(annotations=[]), "has no segment"),
        (lambda c: c["categories"].reverse(), "in another order"),
        (lambda c: c["images"][0].update(file_name="x.png"), "1 of 4 images"),
    ],
)
def test_faults_are_named(root, edit, words):
    assert words in faults(edited(root, edit))
