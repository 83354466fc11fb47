"""The dry run keeps a config's parts and classes and shrinks all that takes time."""

import json
from pathlib import Path

import mmdet
import mmseg
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from hordet.config.load import load_config
from hordet.errors import ConfigError

MMDET = Path(mmdet.__file__).parent / ".mim" / "configs"
MMSEG = Path(mmseg.__file__).parent / ".mim" / "configs"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Stand-in images go to a folder of the test."""
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))


def test_detection(tmp_path):
    path = MMDET / "faster_rcnn" / "faster-rcnn_r50_fpn_1x_coco.py"
    full, cfg = load_config(path), load_config(path, tiny=True)
    train = cfg.train_dataloader
    assert (train.batch_size, train.num_workers, train.persistent_workers) == (2, 0, False)
    assert train.dataset.pipeline[2].scale == (160, 96)  # 1333 x 800, an eighth, multiples of 32
    assert full.train_dataloader.dataset.pipeline[2].scale == (1333, 800)
    assert len(train.dataset.metainfo["classes"]) == 80
    assert cfg.model.backbone.init_cfg is None and cfg.model.backbone.depth == 50
    assert cfg.model.train_cfg.rcnn.sampler.num == 64
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (1, 1)
    assert cfg.default_hooks.logger.interval == 1
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        truth = json.loads(Path(evaluator.ann_file).read_text())
        assert len(truth["images"]) == 4 and len(truth["categories"]) == 80
        assert truth["categories"][0]["name"] == "person"
    root = Path(train.dataset.data_root)
    assert len(list((root / train.dataset.data_prefix.img).glob("*.png"))) == 8
    assert tmp_path in root.parents


def test_sizes_shared_by_two_loaders_are_divided_once():
    cfg = load_config(MMSEG / "upernet" / "upernet_r50_4xb4-80k_ade20k-512x512.py", tiny=True)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[1].scale == (256, 64)


def test_segmentation():
    path = MMSEG / "swin" / "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"
    cfg = load_config(path, tiny=True)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (4, 4)
    assert cfg.default_hooks.checkpoint.interval == 4
    assert tuple(cfg.model.data_preprocessor.size) == (64, 64)
    dataset = cfg.train_dataloader.dataset
    assert dataset.reduce_zero_label is True  # ADE20K's default: label 0 is left out
    maps = Path(dataset.data_root) / dataset.data_prefix.seg_map_path
    values = np.unique(np.concatenate([np.unique(Image.open(p)) for p in maps.glob("*.png")]))
    assert values[0] == 0 and 1 < values[-1] <= 150


def test_segmentation_with_a_class_for_label_0():
    path = MMSEG / "fcn" / "fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py"
    dataset = load_config(path, tiny=True).train_dataloader.dataset
    assert dataset.reduce_zero_label is False
    maps = Path(dataset.data_root) / dataset.data_prefix.seg_map_path
    assert all(np.asarray(Image.open(p)).max() < 19 for p in maps.glob("*.png"))


def test_slide_inference_keeps_its_overlap(tmp_path):
    path = MMSEG / "upernet" / "upernet_r50_4xb4-80k_ade20k-512x512.py"
    (tmp_path / "slide.py").write_text(
        f"_base_ = {str(path)!r}\n"
        "model = dict(test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))\n"
    )
    test_cfg = load_config(tmp_path / "slide.py", tiny=True).model.test_cfg
    assert (test_cfg.crop_size, test_cfg.stride) == ((64, 64), (42, 42))


def test_other_formats_become_plain_ones():
    cfg = load_config(MMDET / "pascal_voc" / "faster-rcnn_r50_fpn_1x_voc0712.py", tiny=True)
    assert cfg.val_evaluator.type == "hordet.CocoMetric" and cfg.val_evaluator.metric == ["bbox"]
    assert cfg.train_dataloader.dataset.times == 1  # RepeatDataset


def test_panoptic():
    from mmdet.registry import DATASETS

    path = MMDET / "panoptic_fpn" / "panoptic-fpn_r50_fpn_1x_coco.py"
    cfg = load_config(path, tiny=True)
    assert cfg.val_evaluator.type == "CocoPanopticMetric"
    truth = json.loads(Path(cfg.val_evaluator.ann_file).read_text())
    assert len(truth["images"]) == 4
    assert [c["isthing"] for c in truth["categories"]] == [1] * 80 + [0] * 53
    maps = Path(cfg.val_evaluator.seg_prefix)
    assert all((maps / item["file_name"]).is_file() for item in truth["annotations"])
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 8
    sample = dataset[0]["data_samples"]
    labels = sample.gt_instances.labels
    assert len(labels) == len(sample.gt_instances.masks) > 0 and labels.max() < 80
    # The objects' own classes, and the background: the first kind of stuff.
    assert set(sample.gt_sem_seg.sem_seg.unique().tolist()) == {*labels.tolist(), 80}


def test_mask2former_of_all_three_tasks():
    path = MMDET / "mask2former" / "mask2former_r50_8xb2-lsj-50e_coco-panoptic.py"
    quality, masks = load_config(path, tiny=True).val_evaluator
    assert quality.ann_file.endswith("panoptic_val.json")
    assert masks.ann_file.endswith("instances_val.json") and Path(masks.ann_file).is_file()


def test_data_without_a_stand_in():
    with pytest.raises(ConfigError, match=r"has no dry run.*YouTubeVISDataset"):
        path = "masktrack_rcnn/masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019.py"
        load_config(MMDET / path, tiny=True)


def test_local_weights_are_kept(tmp_path):
    path = MMDET / "mask_rcnn" / "mask-rcnn_r50_fpn_1x_coco.py"
    (tmp_path / "w.pth").touch()
    options = {"model.backbone.init_cfg.checkpoint": str(tmp_path / "w.pth")}
    cfg = load_config(path, options, tiny=True)
    assert isinstance(cfg, Config) and cfg.model.backbone.init_cfg.checkpoint.endswith("w.pth")


def test_grad_init_shows_that_it_runs():
    path = MMDET / "retinanet" / "retinanet_r50_fpn_1x_coco.py"
    cfg = load_config(path, {"model.neck.init_cfg.type": "hordet.GradInit"}, tiny=True)
    assert cfg.model.neck.init_cfg == dict(type="hordet.GradInit", iterations=2)
