"""The keys of a recipe that change the training data: jitter of scale and color, mixed images."""

import math
from typing import Any

from mmengine.config import Config

from hordet.config.faults import walk_dicts
from hordet.datasets.roots import walk_datasets
from hordet.engine.recipe.requirements import (
    LOOPS,
    is_detection,
    read_name,
    require,
    require_loop,
)
from hordet.errors import ConfigError

KEYS = ("mosaic", "copy_paste", "large_scale_jitter", "color_jitter")
_RESIZES = ("Resize", "RandomResize", "RandomChoiceResize", "ResizeShortestEdge", "FixScaleResize")
_CROPS = ("RandomCrop", "MinIoURandomCrop", "CenterCrop", "RandomCenterCropPad")
_COLORS = ("PhotoMetricDistortion", "YOLOXHSVRandomAug")
_STRIDE = 32


def change_data(cfg: Config, chosen: dict[str, Any]) -> None:
    """Change the training pipeline, and wrap the data set where several images make a sample.

    Args:
        cfg: Changed in place.
        chosen: The recipe, with at least one of `KEYS`.

    Raises:
        ConfigError: A key does not fit the data or their pipeline.
    """
    keys = [key for key in KEYS if key in chosen]
    detection = is_detection(cfg, keys[0])
    leaves = list(walk_datasets(cfg.train_dataloader.dataset))
    pipeline = [dict(step) for step in leaves[0].get("pipeline") or []]
    require(
        all([dict(step) for step in leaf.get("pipeline") or []] == pipeline for leaf in leaves),
        f"{keys[0]} needs one pipeline, and the training data sets have several",
    )
    require(
        bool(pipeline) and read_name(pipeline[0]).startswith("Load"),
        f"{keys[0]} needs a pipeline of the training data that begins by loading",
    )
    last_load = max(i for i, step in enumerate(pipeline) if read_name(step).startswith("Load"))
    loading, middle, pack = pipeline[: last_load + 1], pipeline[last_load + 1 : -1], pipeline[-1]
    require(
        read_name(pack).startswith("Pack") and last_load < len(pipeline) - 1,
        f"{keys[0]} needs a pipeline that ends in PackDetInputs or PackSegInputs",
    )
    masked = any(step.get("with_mask") for step in loading)
    sized = any(key in chosen for key in ("mosaic", "large_scale_jitter"))
    size = _find_image_size(cfg, middle) if sized else (0, 0)
    if "large_scale_jitter" in chosen:
        ratios = tuple(chosen["large_scale_jitter"])
        middle = _jitter_scale(cfg, middle, size, ratios, detection, masked)
    tail = [pack]
    if "color_jitter" in chosen and not any(read_name(s) in _COLORS for s in walk_dicts(middle)):
        scope = "mmdet" if detection else "mmseg"
        tail.insert(0, dict(type=f"{scope}.PhotoMetricDistortion"))
    mixed = [key for key in ("mosaic", "copy_paste") if key in chosen]
    if not mixed:
        _set_pipeline(leaves, [*loading, *middle, *tail])
        return
    require(
        not any(step.get("with_seg") or "Panoptic" in read_name(step) for step in loading)
        or not detection,
        f"{mixed[0]} mixes boxes and masks, or label maps alone, and this pipeline loads both",
    )
    if "copy_paste" in chosen:
        require(
            detection and masked,
            "copy_paste needs masks of objects (with_mask=True in LoadAnnotations): without them "
            "the background around an object would be pasted, too. Mosaic works with boxes alone "
            "and with label maps",
        )
        tail.insert(0, dict(type="mmdet.FilterAnnotations", min_gt_bbox_wh=(1, 1), by_mask=True))
        tail.insert(0, dict(type="hordet.CopyPaste", max_num_pasted=chosen["copy_paste"] + 1))
    ending: dict[str, Any] = {}
    if "mosaic" in chosen:
        require_loop(cfg, "mosaic")
        by_epoch = cfg.train_cfg.type == LOOPS[0]
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
        if read_name(step) in _RESIZES:
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
    crops = [step for step in walk_dicts(middle) if read_name(step) in _CROPS]
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
    return any(read_name(each) in (*_RESIZES, *_CROPS) for each in walk_dicts(step))
