"""The keys of a config's `recipe`, turned into what mmengine, mmdet, mmseg and hordet read.

`apply_recipe` does all that follows from the config alone. `fit_recipe_to_data` does what takes the
data, once they are checked: which classes are rare, how many images fit into a GPU.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from hordet.config.faults import walk_dicts
from hordet.config.recipe import find_recipe_faults
from hordet.datasets.class_counts import (
    build_quietly,
    count_objects,
    count_pixels,
    find_median_frequency,
)
from hordet.datasets.class_weights import weigh_objects, weigh_pixels
from hordet.datasets.classes import read_metainfo, resolve_dataset_class
from hordet.datasets.roots import list_metrics, walk_datasets
from hordet.engine.batch_size import fit_batch_size
from hordet.errors import ConfigError
from hordet.registry import is_kind_of

# What a key stands for where it is True.
DEFAULTS: dict[str, Any] = dict(
    ema=0.005,
    large_scale_jitter=(0.1, 2.0),  # Ghiasi et al., CVPR 2021, section 3
    copy_paste=100,
    mosaic=0.85,
    early_stopping=5,
    fit_batch_size=0.8,
)
_MEASURED = ("repeat_rare_classes", "balance_classes", "fit_batch_size")
_PIPELINE = ("mosaic", "copy_paste", "large_scale_jitter", "color_jitter")
_LOOPS = ("hordet.EpochBasedTrainLoop", "hordet.IterBasedTrainLoop")
_RESIZES = ("Resize", "RandomResize", "RandomChoiceResize", "ResizeShortestEdge", "FixScaleResize")
_CROPS = ("RandomCrop", "MinIoURandomCrop", "CenterCrop", "RandomCenterCropPad")
_COLORS = ("PhotoMetricDistortion", "YOLOXHSVRandomAug")
_LEAST_GAIN = 0.001  # of the judging metric, by which a validation must be better
_STRIDE = 32


def apply_recipe(cfg: Config) -> None:
    """Turn the keys of `recipe` that follow from the config into hooks, data sets and transforms.

    Keys that need the data stay for `fit_recipe_to_data`; the others leave the config, so that the
    config in the work folder holds what they stand for, once.

    Args:
        cfg: Changed in place.

    Raises:
        ConfigError: A key is unknown, has a value that it may not have, or does not fit the model
            or the data.
    """
    recipe = cfg.get("recipe") or {}
    cfg.pop("recipe", None)
    if isinstance(recipe, dict) and not any(recipe.values()):
        return
    if faults := list(find_recipe_faults(recipe)):
        raise ConfigError("\n  ".join(["the recipe has faults:", *faults]))
    chosen = {
        key: DEFAULTS.get(key, value) if value is True else value
        for key, value in recipe.items()
        if value is not None and value is not False
    }
    if "ema" in chosen:
        _add_hook(cfg, "EMAHook", momentum=chosen["ema"], update_buffers=True)
    if "early_stopping" in chosen:
        _stop_early(cfg, int(chosen["early_stopping"]))
    if "max_minutes" in chosen:
        _limit_time(cfg, chosen["max_minutes"], chosen.get("mosaic"))
    if any(key in chosen for key in _PIPELINE):
        _change_data(cfg, chosen)
    if "repeat_rare_classes" in chosen:
        _require(
            _is_detection(cfg, "repeat_rare_classes"),
            "repeat_rare_classes repeats images by the objects in them, and label maps have none: "
            "recipe.balance_classes weighs the classes of a segmentor",
        )
        _require(
            len(list(walk_datasets(cfg.train_dataloader.dataset))) == 1,
            "repeat_rare_classes needs one training data set, and this config has several: join "
            "their annotation files (hordet new-config --train-ann FILE FILE)",
        )
    if "balance_classes" in chosen:
        list(_find_losses(cfg))  # refuses losses without weights
    if measured := {key: chosen[key] for key in _MEASURED if key in chosen}:
        cfg.recipe = measured


def fit_recipe_to_data(cfg: Config) -> None:
    """Do what of the recipe takes the data, and take the recipe out of the config.

    Args:
        cfg: After `apply_recipe`, its data checked; changed in place.

    Raises:
        ConfigError: Not one image fits into the memory of the GPU.
        DatasetError: There is nothing to count.
    """
    recipe = dict(cfg.get("recipe") or {})
    cfg.pop("recipe", None)
    if not recipe:
        return
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        threshold = None
        if "repeat_rare_classes" in recipe:
            threshold = _repeat_rare_classes(cfg, recipe["repeat_rare_classes"])
        if "balance_classes" in recipe:
            _balance_classes(cfg, threshold)
    if "fit_batch_size" in recipe:
        fit_batch_size(cfg, recipe["fit_batch_size"])


def _require(fits: bool, message: str) -> None:
    """Raise ConfigError where a key of the recipe does not fit the config."""
    if not fits:
        raise ConfigError(f"recipe: {message}")


def _add_hook(cfg: Config, name: str, **settings: Any) -> None:
    hooks = list(cfg.get("custom_hooks") or [])
    key = {"EMAHook": "ema", "EarlyStoppingHook": "early_stopping"}.get(name, "max_minutes")
    _require(
        not any(str(hook.get("type")).endswith(name) for hook in hooks if isinstance(hook, dict)),
        f"{key} adds a hordet.{name}, and custom_hooks has one already: leave out one of them",
    )
    cfg.custom_hooks = [*hooks, dict(type=f"hordet.{name}", **settings)]


def _stop_early(cfg: Config, patience: int) -> None:
    """Stop after so many validations without a better one; keep the best checkpoint."""
    _require(bool(cfg.get("val_dataloader")), "early_stopping needs a val_dataloader")
    saving: Any = (cfg.get("default_hooks") or {}).get("checkpoint")
    _require(bool(saving), "early_stopping needs default_hooks.checkpoint, which keeps the best")
    metric = saving.get("save_best")
    if not isinstance(metric, str) or metric == "auto":
        metric = saving["save_best"] = _find_judging_metric(cfg)
    rule = "less" if "loss" in metric else "greater"
    settings = dict(monitor=metric, rule=rule, patience=patience, min_delta=_LEAST_GAIN)
    _add_hook(cfg, "EarlyStoppingHook", **settings)


def _find_judging_metric(cfg: Config) -> str:
    """Return the key of the metric by which a run is judged."""
    for metric in list_metrics(cfg.get("val_evaluator")):
        name = str(metric["type"]).rpartition(".")[2]
        if name == "CocoMetric":
            asked = metric.get("metric") or "bbox"
            return "coco/segm_mAP" if "segm" in asked else "coco/bbox_mAP"
        if name == "CocoPanopticMetric":
            return "coco_panoptic/PQ"
        if name == "IoUMetric":
            return "mIoU"
    raise ConfigError(
        "recipe: early_stopping does not know which metric to watch: name it in "
        "default_hooks.checkpoint.save_best, such as 'coco/bbox_mAP'"
    )


def _require_loop(cfg: Config, key: str) -> None:
    kind = (cfg.get("train_cfg") or {}).get("type")
    _require(
        kind in _LOOPS,
        f"{key} needs to know where in the training it is: set train_cfg.type to one of "
        f"{' and '.join(_LOOPS)} (got {kind!r})",
    )
    _require(
        cfg.get("runner_type", "Runner") == "Runner",
        f"{key} is for one whole model a process: leave out runner_type and strategy",
    )


def _limit_time(cfg: Config, minutes: float, mosaic_share: float | None) -> None:
    _require_loop(cfg, "max_minutes")
    share = {} if mosaic_share is None else {"mosaic_share": mosaic_share}
    _add_hook(cfg, "TimeBudgetHook", minutes=minutes, **share)


def _name(step: dict) -> str:
    """Return the type of a transform without its scope."""
    return str(step.get("type")).rpartition(".")[2]


def _is_detection(cfg: Config, key: str) -> bool:
    """Tell whether the training data are mmdet's; False: mmseg's.

    Raises:
        ConfigError: They are neither.
    """
    _require(bool(cfg.get("train_dataloader")), f"{key} needs a train_dataloader")
    leaf = next(walk_datasets(cfg.train_dataloader.dataset))
    kind = resolve_dataset_class(leaf, cfg.get("default_scope"))
    detection = kind is not None and is_kind_of(kind, "mmdet.BaseDetDataset")
    _require(
        detection or (kind is not None and is_kind_of(kind, "mmseg.BaseSegDataset")),
        f"{key} knows mmdet's detection and mmseg's segmentation data sets, and this config "
        f"has {leaf.get('type')}",
    )
    return detection


def _change_data(cfg: Config, chosen: dict[str, Any]) -> None:
    """Change the training pipeline, and wrap the data set where several images make a sample."""
    keys = [key for key in _PIPELINE if key in chosen]
    detection = _is_detection(cfg, keys[0])
    leaves = list(walk_datasets(cfg.train_dataloader.dataset))
    pipeline = [dict(step) for step in leaves[0].get("pipeline") or []]
    _require(
        all([dict(step) for step in leaf.get("pipeline") or []] == pipeline for leaf in leaves),
        f"{keys[0]} needs one pipeline, and the training data sets have several",
    )
    _require(
        bool(pipeline) and _name(pipeline[0]).startswith("Load"),
        f"{keys[0]} needs a pipeline of the training data that begins by loading",
    )
    last_load = max(i for i, step in enumerate(pipeline) if _name(step).startswith("Load"))
    loading, middle, pack = pipeline[: last_load + 1], pipeline[last_load + 1 : -1], pipeline[-1]
    _require(
        _name(pack).startswith("Pack") and last_load < len(pipeline) - 1,
        f"{keys[0]} needs a pipeline that ends in PackDetInputs or PackSegInputs",
    )
    masked = any(step.get("with_mask") for step in loading)
    sized = any(key in chosen for key in ("mosaic", "large_scale_jitter"))
    size = _find_image_size(cfg, middle) if sized else (0, 0)
    if "large_scale_jitter" in chosen:
        ratios = tuple(chosen["large_scale_jitter"])
        middle = _jitter_scale(cfg, middle, size, ratios, detection, masked)
    tail = [pack]
    if "color_jitter" in chosen and not any(_name(s) in _COLORS for s in walk_dicts(middle)):
        scope = "mmdet" if detection else "mmseg"
        tail.insert(0, dict(type=f"{scope}.PhotoMetricDistortion"))
    mixed = [key for key in ("mosaic", "copy_paste") if key in chosen]
    if not mixed:
        _set_pipeline(leaves, [*loading, *middle, *tail])
        return
    _require(
        not any(step.get("with_seg") or "Panoptic" in _name(step) for step in loading)
        or not detection,
        f"{mixed[0]} mixes boxes and masks, or label maps alone, and this pipeline loads both",
    )
    if "copy_paste" in chosen:
        _require(
            detection and masked,
            "copy_paste needs masks of objects (with_mask=True in LoadAnnotations): without them "
            "the background around an object would be pasted, too. Mosaic works with boxes alone "
            "and with label maps",
        )
        tail.insert(0, dict(type="mmdet.FilterAnnotations", min_gt_bbox_wh=(1, 1), by_mask=True))
        tail.insert(0, dict(type="hordet.CopyPaste", max_num_pasted=chosen["copy_paste"] + 1))
    ending: dict[str, Any] = {}
    if "mosaic" in chosen:
        _require_loop(cfg, "mosaic")
        by_epoch = cfg.train_cfg.type == _LOOPS[0]
        length = cfg.train_cfg["max_epochs" if by_epoch else "max_iters"]
        until = max(1, int(chosen["mosaic"] * length))
        ending = dict(mosaic_until=until, by_epoch=by_epoch)
        first = dict(type="hordet.Mosaic", img_scale=size)
        if not detection:
            first = dict(type="hordet.SegMosaic", img_scale=size[::-1])
        middle = [first, *middle]
    dataset = cfg.train_dataloader.dataset
    if mixed == ["mosaic"]:
        _set_pipeline(leaves, loading)
        steps = [*middle, *tail]
    elif mixed == ["copy_paste"]:
        _set_pipeline(leaves, [*loading, *middle])
        steps = tail
    else:  # what is pasted comes from mosaics, too
        _set_pipeline(leaves, loading)
        dataset = dict(type="hordet.MixDataset", dataset=dataset, pipeline=middle, **ending)
        steps = tail
    cfg.train_dataloader.dataset = dict(
        type="hordet.MixDataset", dataset=dataset, pipeline=steps, **ending
    )


def _set_pipeline(leaves: list[dict], pipeline: list[dict]) -> None:
    for leaf in leaves:
        leaf["pipeline"] = pipeline


def _find_image_size(cfg: Config, middle: list[dict]) -> tuple[int, int]:
    """Return width and height to which the pipeline resizes, pixels; else the test pipeline.

    Raises:
        ConfigError: Neither says a size.
    """
    tested = cfg.get("val_dataloader") or cfg.get("test_dataloader") or {}
    others = [leaf.get("pipeline") for leaf in walk_datasets(tested["dataset"])] if tested else []
    for step in walk_dicts([middle, *others]):
        if _name(step) in _RESIZES:
            scale = step.get("scale") or (step.get("scales") or [None])[-1]
            if isinstance(scale, list | tuple) and isinstance(scale[0], list | tuple):
                scale = scale[-1]
            if isinstance(scale, list | tuple) and len(scale) == 2:
                return int(scale[0]), int(scale[1])
    raise ConfigError(
        "recipe: the pipelines resize to no size (Resize or RandomResize with scale=(width, "
        "height)), which mosaic and large_scale_jitter need"
    )


def _jitter_scale(
    cfg: Config,
    middle: list[dict],
    size: tuple[int, int],
    ratios: tuple[float, ...],
    detection: bool,
    masked: bool,
) -> list[dict]:
    """Put a resize by a random ratio and a crop of the usual size in place of all resizes."""
    crops = [step for step in walk_dicts(middle) if _name(step) in _CROPS]
    crop: Any = next((step["crop_size"] for step in crops if step.get("crop_size")), None)
    resize = dict(type="RandomResize", scale=size, ratio_range=ratios, keep_ratio=True)
    if detection:
        side = max(_STRIDE, round(math.sqrt(size[0] * size[1]) / _STRIDE) * _STRIDE)
        absolute = crop and all(isinstance(each, int) for each in crop)
        crop = tuple(crop) if absolute else (side, side)
        steps = [
            resize | dict(resize_type="mmdet.Resize"),
            dict(
                type="mmdet.RandomCrop",
                crop_size=crop,
                recompute_bbox=masked,
                allow_negative_crop=True,
            ),
            dict(type="mmdet.FilterAnnotations", min_gt_bbox_wh=(1, 1), by_mask=masked),
        ]
    else:
        preprocessor = cfg.model.get("data_preprocessor") or {}
        crop = crop or preprocessor.get("size") or size[::-1]
        steps = [
            resize,
            dict(type="mmseg.RandomCrop", crop_size=tuple(crop), cat_max_ratio=0.75),
        ]
    old = [index for index, step in enumerate(middle) if _is_geometric(step)]
    place = old[0] if old else 0
    kept = [(step, index) for index, step in enumerate(middle) if index not in old]
    before = [step for step, index in kept if index < place]
    return [*before, *steps, *(step for step, index in kept if index >= place)]


def _is_geometric(step: dict) -> bool:
    """Tell whether a transform resizes or crops, or chooses among some that do."""
    return any(_name(each) in (*_RESIZES, *_CROPS) for each in walk_dicts(step))


def _find_losses(cfg: Config) -> Iterator[dict]:
    """Yield each loss of classes, which can have weights.

    Raises:
        ConfigError: There is none, or another loss.
    """
    heads: Any
    if _is_detection(cfg, "balance_classes"):
        heads, key = (cfg.model.get("roi_head") or {}).get("bbox_head"), "loss_cls"
    else:
        heads, key = cfg.model.get("decode_head"), "loss_decode"
    _require(
        bool(heads) and not (key == "loss_decode" and "loss_cls" in _list_keys(heads)),
        "balance_classes weighs the classes in a softmax cross entropy, of a roi_head (Faster, "
        "Mask, Cascade R-CNN) or a decode_head, and this model has none; "
        "recipe.repeat_rare_classes works with every detector",
    )
    for head in heads if isinstance(heads, list | tuple) else [heads]:
        losses = head.setdefault(key, dict(type="CrossEntropyLoss", use_sigmoid=False))
        parts = losses if isinstance(losses, list | tuple) else [losses]
        good = [p for p in parts if _name(p) == "CrossEntropyLoss" and not p.get("use_sigmoid")]
        _require(
            bool(good),
            f"balance_classes weighs the classes in a softmax cross entropy, and {key} of this "
            f"model is {', '.join(map(_name, parts))}"
            + (" with use_sigmoid" if any(p.get("use_sigmoid") for p in parts) else "")
            + "; recipe.repeat_rare_classes works with every detector",
        )
        yield from good


def _list_keys(value: Any) -> set[str]:
    """Return all keys of the dicts in a nest."""
    return {key for part in walk_dicts(value) for key in part}


def _find_leaf(cfg: Config) -> tuple[dict, Callable[[dict], None]]:
    """Return the config of the one data set that reads files, and what puts another in its place.

    The place is within data sets that mix images.
    """
    owner, key = cfg.train_dataloader, "dataset"
    while str(owner[key].get("type")) == "hordet.MixDataset":
        owner, key = owner[key], "dataset"
    return owner[key], lambda dataset: owner.__setitem__(key, dataset)


def _repeat_rare_classes(cfg: Config, threshold: float | bool) -> float:
    """Repeat images of rare classes; return the share of images below which a class is rare."""
    dataset, replace = _find_leaf(cfg)
    if threshold is True:
        built = build_quietly(next(walk_datasets(dataset)))
        threshold = find_median_frequency(built)
    replace(
        dict(type="mmengine.ClassBalancedDataset", oversample_thr=float(threshold), dataset=dataset)
    )
    return float(threshold)


def _balance_classes(cfg: Config, threshold: float | None) -> None:
    """Weigh the classes in the loss by how often they occur."""
    scope = cfg.get("default_scope")
    leaves = list(walk_datasets(cfg.train_dataloader.dataset))
    classes = read_metainfo(leaves[0], scope).get("classes") or ()
    if not _is_detection(cfg, "balance_classes"):
        counts = [count_pixels(leaf, scope) for leaf in leaves]
        weights = weigh_pixels([sum(each) for each in zip(*counts, strict=True)])
        for loss in _find_losses(cfg):
            # mmseg's own mean fails with weights and ignored pixels; mmengine takes the mean.
            loss.pop("avg_non_ignore", None)
            loss.update(class_weight=weights, reduction="none")
        return
    counts = [count_objects(build_quietly(leaf), len(classes), threshold) for leaf in leaves]
    weights = weigh_objects([sum(each) for each in zip(*counts, strict=True)])
    for loss in _find_losses(cfg):
        loss["class_weight"] = [*weights, 1.0]  # the last is the background
