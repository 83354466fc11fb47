"""Eight real images learned by heart: nothing between file, loss and metric is broken. Slow."""

import json

import pytest

from hordet.datasets.roots import walk_datasets
from hordet.engine import runner as run

IMAGES = 8


@pytest.fixture
def train(repository, tmp_path):
    """Train a config without augmentation, validate on the training images, return metrics."""

    def function(config, edit, **options):
        cfg = run.read_config(
            repository / config,
            # One checkpoint at the end: writing one each epoch would take longer than training it.
            options={"default_hooks.checkpoint.interval": -1} | options,
            work_dir=str(tmp_path / "run"),
        )
        edit(cfg)
        pipeline = cfg.val_dataloader.dataset.pipeline
        same = next(walk_datasets(cfg.train_dataloader.dataset)).copy()
        cfg.val_dataloader.dataset = same | dict(test_mode=True, pipeline=pipeline)
        for key in ("test_dataloader", "test_cfg", "test_evaluator"):
            cfg[key] = None
        runner = run.build_training_runner(cfg, seed=0)
        runner.train()
        return run.read_last_validation(runner)

    return function


def eight_clear_images(annotations):
    """The subset of a COCO file with the fewest and largest objects."""
    coco = json.loads(annotations.read_text())
    by_image = {}
    for annotation in coco["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)

    def clear(image):
        found = by_image.get(image["id"], [])
        shares = [a["area"] / image["width"] / image["height"] for a in found]
        return 0 < len(found) <= 4 and min(shares) > 0.02 and not any(a["iscrowd"] for a in found)

    coco["images"] = [image for image in coco["images"] if clear(image)][:IMAGES]
    assert len(coco["images"]) == IMAGES
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    return coco


@pytest.mark.slow
def test_coco_masks(train, shared_data, tmp_path):
    root = shared_data / "coco_mini"
    subset = eight_clear_images(root / "annotations" / "instances_train2017.json")
    path = tmp_path / "eight.json"
    path.write_text(json.dumps(subset))

    def edit(cfg):
        data = cfg.train_dataloader.dataset
        data.update(data_root=str(root), ann_file=str(path))
        data.pipeline = [step for step in data.pipeline if "Flip" not in step["type"]]
        cfg.val_evaluator.ann_file = str(path)

    metrics = train(
        "configs/coco/mask-rcnn_hornet-nano_horfpn_12e.py",
        edit,
        **{"train_cfg.max_epochs": 220, "train_cfg.val_interval": 220},
    )
    assert metrics["val/coco/segm_mAP"] >= 0.80


@pytest.mark.slow
def test_ade20k_labels(train, shared_data):
    def edit(cfg):
        data = cfg.train_dataloader.dataset
        # The mini set has seven training images.
        data.update(data_root=str(shared_data / "ade_mini"))
        load, resize, annotate, pack = cfg.val_dataloader.dataset.pipeline
        resize.update(scale=(256, 256), keep_ratio=False)
        data.pipeline = [load, annotate, resize, pack]

    metrics = train(
        "configs/ade20k/upernet_hornet-nano_horuperhead_2k.py",
        edit,
        **{
            "train_dataloader.batch_size": 2,
            "train_cfg.max_iters": 1500,
            "train_cfg.val_interval": 1500,
        },
    )
    assert metrics["val/mIoU"] >= 80
