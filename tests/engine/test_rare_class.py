"""A class of one object in 41, with and without the keys of the recipe that balance.

`python tests/engine/test_rare_class.py --images 400 --epochs 7 --seeds 0 1` prints the box AP of
both classes on validation images in which both are equally frequent.
"""

import argparse
import json
import tempfile
from pathlib import Path

import pytest

import hordet
from hordet.datasets.shapes.files import write_shapes

CLASSES = ("circle", "star")
CONFIG = Path(hordet.__file__).parents[1] / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"


def draw_rare_class(folder, images=400, validated=100, seed=0):
    """Draw training images, 40 circles for each star, and validation images with as many of both.

    Returns:
        The folders of the two, whose annotations are of `train` and of `val`.
    """
    rare = write_shapes(
        folder / "rare",
        num_train=images,
        num_val=1,
        classes=CLASSES,
        odds=(40 / 41, 1 / 41),
        seed=seed,
    )
    even = write_shapes(
        folder / "even", num_train=1, num_val=validated, classes=CLASSES, seed=seed + 1000
    )
    return rare, even


def train_and_score(folder, rare, even, epochs, seed, recipe):
    """Train Mask R-CNN; return the box AP of each class."""
    from hordet.engine.runner import build_training_runner, read_config, read_last_validation

    cfg = read_config(CONFIG, work_dir=str(folder))
    for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        head.num_classes = len(CLASSES)
    metainfo = dict(classes=CLASSES)
    cfg.train_dataloader.dataset.update(data_root=str(rare), metainfo=metainfo)
    cfg.val_dataloader.dataset.update(data_root=str(even), metainfo=metainfo)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.val_evaluator.update(
        ann_file=str(even / "annotations/instances_val.json"), metric=["bbox"], classwise=True
    )
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.recipe = recipe
    runner = build_training_runner(cfg, seed=seed)
    runner.train()
    found = read_last_validation(runner)
    return {name: found[f"val/coco/bbox_{name}_precision"] for name in CLASSES}


BALANCED = dict(repeat_rare_classes=True, balance_classes=True)


@pytest.mark.slow
def test_the_rare_class_gains(tmp_path):
    rare, even = draw_rare_class(tmp_path, images=160, validated=40)
    plain = train_and_score(tmp_path / "plain", rare, even, 8, 0, {})
    balanced = train_and_score(tmp_path / "balanced", rare, even, 8, 0, BALANCED)
    assert balanced["star"] > plain["star"] + 0.02, (plain, balanced)


def test_the_drawn_set_has_one_star_for_forty_circles(tmp_path):
    rare, even = draw_rare_class(tmp_path, images=120, validated=10)
    counts = []
    for root, split in ((rare, "train"), (even, "val")):
        content = json.loads((root / f"annotations/instances_{split}.json").read_text())
        labels = [item["category_id"] for item in content["annotations"]]
        counts.append(labels.count(1) / labels.count(2))
    assert 25 < counts[0] < 65
    assert 0.4 < counts[1] < 2.5


def main():
    """Train with and without balancing, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        folder = Path(tempfile.mkdtemp(prefix="rare-"))
        rare, even = draw_rare_class(folder, arguments.images, seed=seed)
        for name, recipe in (("plain", {}), ("balanced", BALANCED)):
            scores = train_and_score(folder / name, rare, even, arguments.epochs, seed, recipe)
            print(f"seed {seed}, {name}: {scores}", flush=True)


if __name__ == "__main__":
    main()
