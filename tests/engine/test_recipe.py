"""Each key of the recipe changes what it says, and a killed run goes on the same with it."""

import json
import logging
import math
from collections import Counter

import pytest
import torch
from equal_parts import assert_equal
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from hordet.checkpoints import find_newest_checkpoint, load_checkpoint
from hordet.config.recipe import RECIPE
from hordet.datasets.class_weights import weigh_objects, weigh_pixels
from hordet.datasets.roots import walk_datasets
from hordet.datasets.shapes.files import write_shapes
from hordet.engine import batch_size
from hordet.engine.recipe import apply_recipe, fit_recipe_to_data
from hordet.engine.runner import build_training_runner, read_config
from hordet.errors import ConfigError, ConfigWarning

DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"
NANO = dict(base_channels=8, depths=(1, 1, 1, 1), orders=(2, 3, 3, 3))
# Bit for bit, but for the moment at which a line of the log was written.
KEYS = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers", "position")
KEYS += ("random_states",)


@pytest.fixture
def read(repository, drawn_images, monkeypatch):
    """Read a dry run's config with a recipe."""
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))

    def make(path=DETECTION, work_dir="unused", **recipe):
        cfg = read_config(repository / path, tiny=True, work_dir=str(work_dir))
        cfg.recipe = recipe
        return cfg

    return make


def list_steps(dataset):
    """The types of all transforms, from the innermost data set outwards."""
    inner = list_steps(dataset["dataset"]) if "dataset" in dataset else []
    return inner + [step["type"].rpartition(".")[2] for step in dataset.get("pipeline") or []]


def test_the_base_config_has_every_key_and_all_off(read, repository):
    cfg = read_config(repository / DETECTION)
    assert cfg.recipe.keys() == RECIPE.keys()
    assert not any(cfg.recipe.values())
    dataset, hooks = dict(cfg.train_dataloader.dataset), list(cfg.custom_hooks)
    apply_recipe(cfg)
    fit_recipe_to_data(cfg)
    assert "recipe" not in cfg
    assert dict(cfg.train_dataloader.dataset) == dataset and list(cfg.custom_hooks) == hooks


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (dict(mosiac=True), "recipe.mosiac: unknown key; did you mean 'mosaic'"),
        (dict(ema=2), "recipe.ema: got '2'; it must be True or False, or the share"),
        (dict(max_minutes=True), "recipe.max_minutes: got 'True'; it must be None, or minutes"),
        (dict(large_scale_jitter=[2, 1]), "the smallest and the largest ratio"),
        (dict(color_jitter=0.5), "recipe.color_jitter: got '0.5'; it must be True or False"),
    ],
)
def test_wrong_keys_and_values_are_refused(repository, recipe, words):
    with pytest.raises(ConfigError) as caught:
        read_config(
            repository / DETECTION, options={f"recipe.{key}": v for key, v in recipe.items()}
        )
    assert words in str(caught.value)


def test_what_does_not_fit_is_refused(read):
    boxes = read(copy_paste=True)
    boxes.train_dataloader.dataset.pipeline[1].with_mask = False
    with pytest.raises(ConfigError, match="copy_paste needs masks of objects .* Mosaic works with"):
        apply_recipe(boxes)
    with pytest.raises(ConfigError, match="copy_paste needs masks"):
        apply_recipe(read(SEGMENTATION, copy_paste=True))
    with pytest.raises(ConfigError, match="repeat_rare_classes repeats images by the objects"):
        apply_recipe(read(SEGMENTATION, repeat_rare_classes=True))
    focal = read(balance_classes=True)
    focal.model.roi_head.bbox_head.loss_cls = dict(type="FocalLoss", use_sigmoid=True)
    with pytest.raises(ConfigError, match="loss_cls of this model is FocalLoss with use_sigmoid"):
        apply_recipe(focal)
    single = read(balance_classes=True)
    single.model.pop("roi_head")
    with pytest.raises(ConfigError, match="this model has none"):
        apply_recipe(single)
    for key, value in dict(mosaic=True, max_minutes=3).items():
        plain = read(**{key: value})
        plain.train_cfg.type = "EpochBasedTrainLoop"
        with pytest.raises(ConfigError, match=f"{key} needs to know .* 'EpochBasedTrainLoop'"):
            apply_recipe(plain)
    twice = read(ema=True)
    twice.custom_hooks = [dict(type="EMAHook")]
    with pytest.raises(ConfigError, match="custom_hooks has one already"):
        apply_recipe(twice)
    with pytest.raises(ConfigError, match="--new-schedule and recipe.max_minutes"):
        build_training_runner(read(max_minutes=1), new_schedule=True)


def test_pipelines(read):
    """Where each transform goes."""
    load = ["LoadImageFromFile", "LoadAnnotations"]
    jitter = ["RandomResize", "RandomCrop", "FilterAnnotations"]
    pasted = ["CopyPaste", "FilterAnnotations"]
    for recipe, expected in {
        (): [*load, "RandomFlip", "PackDetInputs"],
        ("color_jitter",): [*load, "RandomFlip", "PhotoMetricDistortion", "PackDetInputs"],
        ("large_scale_jitter",): [*load, *jitter, "RandomFlip", "PackDetInputs"],
        ("mosaic",): [*load, "Mosaic", "RandomFlip", "PackDetInputs"],
        ("copy_paste", "color_jitter"): [
            *(*load, "RandomFlip", *pasted, "PhotoMetricDistortion", "PackDetInputs"),
        ],
        ("mosaic", "copy_paste", "large_scale_jitter"): [
            *(*load, "Mosaic", *jitter, "RandomFlip", *pasted, "PackDetInputs"),
        ],
    }.items():
        cfg = read(**dict.fromkeys(recipe, True))
        apply_recipe(cfg)
        assert list_steps(cfg.train_dataloader.dataset) == expected
    cfg = read(SEGMENTATION, mosaic=True, large_scale_jitter=(0.5, 2.0), color_jitter=True)
    apply_recipe(cfg)
    dataset = cfg.train_dataloader.dataset
    assert list_steps(dataset) == [
        *("LoadImageFromFile", "LoadSegAnnotations", "SegMosaic", "RandomResize", "RandomCrop"),
        *("RandomFlip", "PhotoMetricDistortion", "PackSegInputs"),
    ]
    assert dataset["mosaic_until"] == int(0.85 * cfg.train_cfg.max_iters)
    assert not dataset["by_epoch"]


def test_large_scale_jitter_takes_the_place_of_the_resize_and_the_crop(read):
    cfg = read(large_scale_jitter=(0.5, 1.5))
    leaf = cfg.train_dataloader.dataset
    leaf.pipeline[2:3] = [
        ConfigDict(type="mmdet.RandomFlip", prob=0.5),
        ConfigDict(type="RandomResize", scale=(160, 96), resize_type="mmdet.Resize"),
        ConfigDict(type="mmdet.RandomCrop", crop_size=(64, 64)),
    ]
    apply_recipe(cfg)
    resize, crop = leaf["pipeline"][3:5]
    assert (resize["scale"], resize["ratio_range"]) == ((160, 96), (0.5, 1.5))
    assert crop["crop_size"] == (64, 64)
    assert [step["type"] for step in leaf["pipeline"]].count("mmdet.RandomCrop") == 1


def test_early_stopping_watches_the_judging_metric(read):
    cfg = read(early_stopping=3)
    apply_recipe(cfg)
    assert cfg.custom_hooks[-1]["monitor"] == "coco/segm_mAP"
    assert cfg.custom_hooks[-1]["patience"] == 3
    assert cfg.default_hooks.checkpoint.save_best == "coco/segm_mAP"
    cfg = read(SEGMENTATION, early_stopping=True)
    apply_recipe(cfg)
    assert cfg.custom_hooks[-1]["monitor"] == "mIoU"


@pytest.fixture(scope="module")
def rare_data(tmp_path_factory):
    """Two classes, 40 : 1; in the annotation file and the label maps."""
    root = tmp_path_factory.mktemp("rare") / "shapes"
    odds = (40 / 41, 1 / 41)
    return write_shapes(
        root, num_train=60, num_val=4, size=(64, 64), classes=("circle", "star"), odds=odds, seed=3
    )


def count_images_and_objects(root):
    content = json.loads((root / "annotations/instances_train.json").read_text())
    pairs = [(item["image_id"], item["category_id"] - 1) for item in content["annotations"]]
    images = [image["id"] for image in content["images"]]
    return images, {image: [c for i, c in pairs if i == image] for image in images}


@pytest.mark.parametrize("threshold", [0.6, True])
def test_repeats_are_those_of_lvis_and_weights_those_of_the_epoch(read, rare_data, threshold):
    cfg = read(repeat_rare_classes=threshold, balance_classes=True, mosaic=True)
    for leaf in walk_datasets(cfg.train_dataloader.dataset):
        leaf.update(data_root=str(rare_data), metainfo=dict(classes=("circle", "star")))
    apply_recipe(cfg)
    fit_recipe_to_data(cfg)
    repeated = cfg.train_dataloader.dataset["dataset"]
    images, found = count_images_and_objects(rare_data)
    share = {c: sum(c in found[i] for i in images) / len(images) for c in (0, 1)}
    assert share[1] < 0.25  # it is rare
    limit = sum(share.values()) / 2 if threshold is True else threshold
    assert repeated["oversample_thr"] == pytest.approx(limit, abs=1e-6)
    # Gupta et al., CVPR 2019 (LVIS), section 5: r(c) = max(1, sqrt(t / f(c))), of an image the max.
    factor = {c: max(1.0, math.sqrt(limit / share[c])) for c in share}
    times = {i: math.ceil(max(factor[c] for c in found[i])) for i in images}
    assert max(times.values()) > 1
    from hordet.registry import DATASETS

    with DefaultScope.overwrite_default_scope("mmdet"):
        built = DATASETS.build(dict(repeated))
    counted = Counter(built.get_data_info(i)["img_id"] for i in range(len(built)))
    assert counted == times
    objects = Counter(c for i in images for c in found[i] for _ in range(times[i]))
    weights = weigh_objects([objects[0], objects[1]])
    assert cfg.model.roi_head.bbox_head.loss_cls["class_weight"] == [*weights, 1.0]
    assert weights[1] > 2 * weights[0]


def test_pixels_of_label_maps_are_weighed(read, rare_data):
    import cv2
    import numpy as np

    cfg = read(SEGMENTATION, balance_classes=True)
    leaf = cfg.train_dataloader.dataset
    leaf.update(data_root=str(rare_data))
    leaf["metainfo"] = dict(classes=("ground", "circle", "star"))  # update would merge it
    apply_recipe(cfg)
    fit_recipe_to_data(cfg)
    maps = [cv2.imread(str(p), -1) for p in (rare_data / "labels/train").iterdir()]
    counts = np.bincount(np.concatenate([m.ravel() for m in maps]), minlength=3)
    cross_entropy, dice = cfg.model.decode_head.loss_decode
    assert cross_entropy["class_weight"] == weigh_pixels(counts)
    assert cross_entropy["class_weight"][2] > cross_entropy["class_weight"][0]
    assert cross_entropy["reduction"] == "none" and "class_weight" not in dice


def test_without_a_gpu_the_batch_size_stays(read, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = read(fit_batch_size=True)
    before = cfg.train_dataloader.batch_size
    apply_recipe(cfg)
    with pytest.warns(ConfigWarning, match="there is none: the batch size stays 2"):
        fit_recipe_to_data(cfg)
    assert cfg.train_dataloader.batch_size == before


def test_the_largest_batch_is_within_the_limit():
    tried = []

    def takes(size):
        tried.append(size)
        return math.inf if size > 40 else 100.0 * size

    assert batch_size.find_largest(takes, 1650) == 16
    assert tried == [1, 2, 4, 8, 16, 32]
    assert batch_size.find_largest(takes, 1e9) == 32
    assert batch_size.find_largest(takes, 1e9, most=9) == 8
    assert batch_size.find_largest(takes, 50) == 0


class Stop(Hook):
    priority = "LOWEST"

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


@pytest.fixture
def train(read, tmp_path, monkeypatch):
    """Train narrow layers for a dozen iterations; return the last checkpoint.

    On one thread: on several, torch 2.14's gradient of a 3x3 convolution over one pixel, the
    coarsest level of images of 64 pixels in a batch of one, differs in its last bit each time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    kinds = (MMLogger, MessageHub, Visualizer, DefaultScope)

    def run(name, path, recipe, stop=None, resume=None, workers=0, epochs=3):
        before = {kind: dict(kind._instance_dict) for kind in kinds}
        cfg = read(path, tmp_path / name, **recipe)
        cfg.model.backbone.arch = NANO
        if path == DETECTION:
            cfg.model.neck.in_channels = [8, 16, 32, 64]
            cfg.model.roi_head.bbox_head.fc_out_channels = 32
            cfg.train_cfg.update(max_epochs=epochs, val_interval=2)
        else:
            cfg.model.decode_head.update(in_channels=[8, 16, 32, 64], channels=16)
            cfg.model.auxiliary_head.update(in_channels=32, channels=16)
            cfg.train_cfg.update(max_iters=12, val_interval=6)
        cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3, max_keep_ckpts=2)
        cfg.default_hooks.logger.interval = 1000
        cfg.custom_hooks = []
        cfg.experiment_name = f"{tmp_path.name}_{name}_{resume}"
        object.__setattr__(cfg, "_format_python_code", False)
        runner = build_training_runner(cfg, resume=resume, force=True, seed=1)
        if stop:
            runner.register_hook(Stop(stop))
        try:
            runner.train()
        except KeyboardInterrupt:
            assert stop
        finally:
            for hook in runner.hooks:
                hook.after_run(runner)
            for kind in kinds:
                for key in kind._instance_dict.keys() - before[kind].keys():
                    instance = kind._instance_dict.pop(key)
                    for handler in instance.handlers if kind is MMLogger else ():
                        if isinstance(handler, logging.FileHandler):
                            handler.close()
        return load_checkpoint(find_newest_checkpoint(tmp_path / name)[0])

    yield run
    torch.set_num_threads(threads)


ALL = ("ema", "large_scale_jitter", "copy_paste", "mosaic", "color_jitter")
ALL += ("repeat_rare_classes", "balance_classes", "early_stopping")
JITTER = dict(large_scale_jitter=(0.5, 1.5))


def require_same_run(train, path, recipe, stop, **options):
    whole = train("whole", path, recipe, **options)
    train("killed", path, recipe, stop=stop, **options)
    resumed = train("killed", path, recipe, resume="auto", **options)
    for key in KEYS:
        assert_equal(whole.get(key), resumed.get(key), key)
    return whole


def test_killed_and_resumed_is_the_same_run_with_all_keys(train):
    recipe = dict.fromkeys(ALL, True) | JITTER | dict(mosaic=0.5)
    whole = require_same_run(train, DETECTION, recipe, stop=4, epochs=2)
    assert "ema_state_dict" in whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [5, 8, 10])
@pytest.mark.parametrize("key", ALL)
def test_killed_and_resumed_is_the_same_run_with_each_key(train, key, stop, workers):
    recipe = JITTER if key == "large_scale_jitter" else {key: True}
    require_same_run(train, DETECTION, recipe, stop, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [5, 11])
def test_segmentor_killed_and_resumed_is_the_same_run(train, stop, workers):
    recipe = dict(ema=True, mosaic=0.6, color_jitter=True, balance_classes=True) | JITTER
    require_same_run(train, SEGMENTATION, recipe, stop, workers=workers)
