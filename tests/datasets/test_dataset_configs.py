"""The base configs of data sets: each builds, loads a sample to train and one to test on."""

import json

import numpy as np
import pytest
from mmengine.registry import METRICS, DefaultScope

from hordet.config.load import load_config
from hordet.datasets.checks.before_training import check_datasets
from hordet.datasets.roots import set_data_root
from hordet.datasets.shapes.cache import draw_missing_shapes, locate_shapes
from hordet.datasets.shapes.files import DEFAULT_CLASSES, write_shapes
from hordet.engine.prepare import locate_data
from hordet.engine.runner import read_config
from hordet.registry import DATASETS

FOLDERS = {
    "nuclei_instance": "nuclei",
    "camvid_semantic": "camvid",
    "coco_instance": "coco_mini",
    "coco_detection": "coco_mini",
    "ade20k": "ade_mini",
    "ade20k_640": "ade_mini",
}
NUMBERS = {
    "shapes_instance": (400, 100),
    "shapes_semantic": (400, 100),
    "nuclei_instance": (199, 72),
    "camvid_semantic": (367, 101),
    "coco_instance": (128, 45),  # of 129, one has no annotation
    "coco_detection": (128, 45),
    "ade20k": (7, 3),
    "ade20k_640": (7, 3),
}
# Of the scales of a multi-scale test.
RATIOS = {
    "shapes_semantic": [0.75, 1.0, 1.25],
    "camvid_semantic": [0.75, 1.0, 1.25, 1.5],
    "ade20k": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(repository, cache, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(cache))
    monkeypatch.delenv("HORDET_DATA", raising=False)
    folder = repository / "configs" / "_base_" / "datasets"

    def load(name):
        cfg = load_config(folder / f"{name}.py")
        locate_data(cfg)
        return cfg

    return load


def test_every_base_config_has_its_row(repository):
    files = (repository / "configs" / "_base_" / "datasets").glob("*.py")
    assert {path.stem for path in files} == {*NUMBERS, "coco_panoptic"}


@pytest.mark.parametrize("name", NUMBERS)
def test_samples_to_train_and_to_test_on(load, request, name):
    cfg = load(name)
    if name in FOLDERS:
        set_data_root(cfg, request.getfixturevalue("shared_data") / FOLDERS[name])
    draw_missing_shapes(cfg)
    check_datasets(cfg)
    masks = "instance" in name
    instances = masks or "detection" in name
    with DefaultScope.overwrite_default_scope("mmdet" if instances else "mmseg"):
        train, val = (DATASETS.build(cfg[f"{key}_dataloader"].dataset) for key in ("train", "val"))
        assert (len(train), len(val)) == NUMBERS[name]
        metric = METRICS.build(cfg.val_evaluator)
        for dataset in (train, val):
            sample = dataset[0]
            image, truth = sample["inputs"], sample["data_samples"]
            assert image.dtype.itemsize == 1 and image.shape[0] == 3
            assert truth.img_shape == image.shape[1:]
            if instances:
                assert len(truth.gt_instances.bboxes) > 0
                found = len(truth.gt_instances.masks) if "masks" in truth.gt_instances else None
                assert found == (len(truth.gt_instances.bboxes) if masks else None)
                assert truth.gt_instances.labels.max() < len(train.metainfo["classes"])
            else:
                known = set(truth.gt_sem_seg.data.unique().tolist()) - {255}
                assert known and max(known) < len(train.metainfo["classes"])
        if instances:
            assert metric._coco_api is not None
            assert metric.metrics == (["bbox", "segm"] if masks else ["bbox"])
            assert truth.scale_factor[0] > 0  # predictions are scaled back by it
        else:
            assert truth.gt_sem_seg.shape == truth.ori_shape  # scored at full size
        assert len(train.metainfo["palette"]) == len(train.metainfo["classes"])


def test_panoptic_samples(load, tmp_path):
    """No panoptic image of COCO is at hand, so shapes bear its names and folders."""
    from mmdet.datasets import CocoPanopticDataset

    cfg = load("coco_panoptic")
    names = CocoPanopticDataset.METAINFO
    root = write_shapes(
        tmp_path / "coco",
        num_train=3,
        num_val=2,
        classes=names["thing_classes"],
        stuff=names["stuff_classes"],
    )
    for split in ("train", "val"):
        (root / split).rename(root / f"{split}2017")
        for path in [*(root / "annotations").glob(f"*_{split}*")]:
            path.rename(path.with_name(path.name.replace(split, f"{split}2017")))
    set_data_root(cfg, root)
    check_datasets(cfg)
    metric = METRICS.build(cfg.val_evaluator)
    with DefaultScope.overwrite_default_scope("mmdet"):
        train, val = (DATASETS.build(cfg[f"{key}_dataloader"].dataset) for key in ("train", "val"))
    assert (len(train), len(val), len(metric.categories)) == (3, 2, 133)
    for dataset in (train, val):
        truth = dataset[0]["data_samples"]
        assert len(truth.gt_instances.masks) == len(truth.gt_instances.bboxes) > 0
        assert truth.gt_sem_seg.sem_seg.max() == 80
    assert truth.gt_sem_seg.sem_seg.shape[1:] == truth.ori_shape


@pytest.mark.parametrize("name", RATIOS)
def test_multi_scale_test_keeps_the_image_and_the_truth(load, request, name):
    cfg = load(name)
    if name in FOLDERS:
        set_data_root(cfg, request.getfixturevalue("shared_data") / FOLDERS[name])
    draw_missing_shapes(cfg)
    cfg.val_dataloader.dataset.pipeline = cfg.tta_pipeline
    with DefaultScope.overwrite_default_scope("mmseg"):
        sample = DATASETS.build(cfg.val_dataloader.dataset)[0]
    views = sample["inputs"]
    scales = [step.scale for step in cfg.tta_pipeline[1].transforms[0]]
    assert len(views) == 2 * len(scales)
    for first, second in zip(views[::2], views[1::2], strict=True):
        np.testing.assert_array_equal(first.numpy(), second.flip(2).numpy())
    heights = [view.shape[1] for view in views[::2]]
    # Ratios of the single test scale, as published; not of the original image.
    single = cfg.test_dataloader.dataset.pipeline[1].scale
    ratios = [scale[0] / single[0] for scale in scales]
    assert ratios == RATIOS[name] == [scale[1] / single[1] for scale in scales]
    height = heights[ratios.index(1.0)]
    np.testing.assert_allclose(heights, [height * ratio for ratio in ratios], atol=1)


def test_shapes_name_their_classes_for_both_tasks(load):
    cfg = load("shapes_instance")
    draw_missing_shapes(cfg)
    assert tuple(cfg.metainfo.classes) == DEFAULT_CLASSES
    categories = json.loads(open(cfg.val_evaluator.ann_file).read())["categories"]
    assert [category["name"] for category in categories] == list(DEFAULT_CLASSES)
    maps = load("shapes_semantic").train_dataloader.dataset.metainfo
    assert tuple(maps.classes) == ("background", *DEFAULT_CLASSES)
    assert maps.palette == [[0, 0, 0], *cfg.metainfo.palette]


def test_reading_a_config_draws_nothing(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    name = "shapes/mask-rcnn_hornet-nano_horfpn_7e"
    assert load_config(name).val_evaluator.ann_file == (
        "hordet://shapes/annotations/instances_val.json"
    )
    cfg = read_config(name)
    root = str(locate_shapes())
    assert cfg.data_root == cfg.train_dataloader.dataset.data_root == root
    assert cfg.val_evaluator.ann_file == f"{root}/annotations/instances_val.json"
    assert "hordet://" not in cfg.pretty_text
    assert read_config(name, data_root="mine").test_evaluator.ann_file == (
        "mine/annotations/instances_val.json"
    )
    assert not list(tmp_path.iterdir())


def test_camvid_names_are_those_of_the_data(load, shared_data):
    meta = json.loads((shared_data / "camvid" / "meta.json").read_text())
    classes = load("camvid_semantic").train_dataloader.dataset.metainfo.classes
    assert list(classes) == meta["classes"]


def test_the_environment_names_the_folder_of_all_data(load, monkeypatch):
    cfg = load("coco_instance")
    assert cfg.train_dataloader.dataset.data_root == "data/coco"
    monkeypatch.setenv("HORDET_DATA", "/elsewhere")
    cfg = load("coco_instance")
    assert cfg.train_dataloader.dataset.data_root == "/elsewhere/coco"
    assert cfg.val_evaluator.ann_file == "/elsewhere/coco/annotations/instances_val2017.json"
    assert load("ade20k").data_root == "/elsewhere/ade/ADEChallengeData2016"


def test_coco_crops_are_those_of_the_recipe(load):
    cfg = load("coco_instance")
    choice = cfg.train_dataloader.dataset.pipeline[3]
    plain, cropped = choice.transforms
    sides = [list(range(480, 801, 32)), [400, 500, 600]]
    assert [scale[1] for scale in plain[0].scales] == sides[0]
    assert [scale[1] for scale in cropped[0].scales] == sides[1]
    assert [step.type for step in cropped] == [
        "RandomChoiceResize",
        "mmdet.RandomCrop",
        "RandomChoiceResize",
    ]
    assert cropped[1].crop_type == "absolute_range" and tuple(cropped[1].crop_size) == (384, 600)
    assert all(scale[0] == 1333 for scale in plain[0].scales)
    assert cfg.train_dataloader.batch_size == 2
