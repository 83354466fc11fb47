"""Any config as a dry run of a CPU-minute: stand-in images, small sizes, four iterations.

It proves that a config's parts fit together, from data to metric, where neither its data nor a GPU
is at hand. The model keeps its layers, widths and classes; the numbers it reaches mean nothing.
"""

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from hordet.checkpoints import is_at_hand, is_named, split_sha256, suggest_name
from hordet.config.faults import walk_dicts
from hordet.datasets.classes import (
    read_metainfo,
    reduces_zero_label,
    resolve_dataset_class,
)
from hordet.datasets.roots import EVALUATORS, LOADERS, list_metrics, walk_datasets
from hordet.datasets.shapes.cache import ensure_shapes
from hordet.datasets.shapes.files import MAX_CLASSES
from hordet.errors import CheckpointError
from hordet.registry import is_kind_of

TRAIN_IMAGES, VAL_IMAGES, IMAGE_SIZE = 8, 4, (96, 96)
BATCH_SIZE = 2
ITERATIONS = TRAIN_IMAGES // BATCH_SIZE
# Sizes are divided by this, in whole multiples of the coarsest stride of a pyramid, at least two.
DIVISOR, MULTIPLE = 8, 32
_SPATIAL = ("scale", "scales", "img_scale", "crop_size", "size")


def make_tiny(cfg: Config) -> Config:
    """Return a dry run of a config.

    - Data: 8 training and 4 validation images of `hordet.datasets.shapes.files`, drawn with the
      config's own classes; in COCO form for detection (also panoptic), as label maps for
      segmentation.
    - Sizes of images and crops in pipelines, data_preprocessor and slide inference: an eighth.
    - Boxes sampled per image for the losses: an eighth.
    - Batch size 2, no worker processes, 4 iterations, each logged, then one validation.
    - `recipe.max_minutes` is left out: four iterations are no budget.
    - Weights to start from: only those that are there, or that a mirror has (HORDET_MIRROR).

    Args:
        cfg: A config without faults; not changed.

    Raises:
        ValueError: Its data are neither mmdet's detection nor mmseg's segmentation data sets.
    """
    cfg = copy.deepcopy(cfg)
    _replace_data(cfg)
    _shorten(cfg)
    if cfg.get("recipe"):
        cfg.recipe.pop("max_minutes", None)
    _drop_absent_weights(cfg.model)
    _shorten_grad_init(cfg.model)
    if cfg.get("load_from") and not _is_there(cfg.load_from):
        cfg.load_from = None
    parts = [cfg.get(key) for key in (*LOADERS, "tta_pipeline", "custom_hooks")]
    _shrink([*parts, cfg.model.get("data_preprocessor")])
    for sampler in walk_dicts(cfg.model):
        if "num" in sampler and "pos_fraction" in sampler:
            sampler["num"] = max(16, sampler["num"] // DIVISOR)
    slide = cfg.model.get("test_cfg") or {}
    if "crop_size" in slide and "stride" in slide:
        crop = _shrink_size(slide["crop_size"])
        pairs = zip(slide["stride"], crop, slide["crop_size"], strict=True)
        slide["stride"] = tuple(stride * new // old for stride, new, old in pairs)
        slide["crop_size"] = crop
    return cfg


def _replace_data(cfg: Config) -> None:
    """Put generated images in place of every data set, and their truth into the evaluators."""
    for key, evaluator in zip(LOADERS, (None, *EVALUATORS), strict=True):
        loader = cfg.get(key)
        if not loader:
            continue
        split = "train" if key == "train_dataloader" else "val"
        loader.update(batch_size=min(BATCH_SIZE, loader.get("batch_size", 1)), num_workers=0)
        if split == "train":
            loader.batch_size = BATCH_SIZE
        loader.persistent_workers = False
        loader.pop("prefetch_factor", None)
        for dataset in walk_datasets(loader.dataset):
            root = _replace_dataset(dataset, split, cfg.get("default_scope", "mmengine"))
        for wrapper in walk_dicts(loader.dataset):
            if "times" in wrapper:
                wrapper["times"] = 1
        for metric in list_metrics(cfg.get(evaluator)) if evaluator else ():
            _replace_truth(metric, dataset, root)


def _replace_dataset(dataset: ConfigDict, split: str, scope: str) -> Path:
    """Change a data set's config in place, keeping its classes and pipeline; return the root."""
    kind = resolve_dataset_class(dataset, scope)
    detection = is_kind_of(kind, "mmdet.BaseDetDataset")
    panoptic = is_kind_of(kind, "mmdet.CocoPanopticDataset")
    if not detection and not is_kind_of(kind, "mmseg.BaseSegDataset"):
        raise ValueError(
            f"no stand-in for the data of {kind.__name__}: a dry run knows mmdet's box, mask and "
            "panoptic data sets and mmseg's data sets"
        )
    metainfo = {"classes": ("object",), **read_metainfo(dataset, scope)}
    classes = metainfo["classes"]
    reduce = reduces_zero_label(dataset, scope)
    drawn = classes if detection or reduce else classes[1:]
    root = ensure_shapes(
        num_train=TRAIN_IMAGES,
        num_val=VAL_IMAGES,
        size=IMAGE_SIZE,
        classes=metainfo["thing_classes"] if panoptic else drawn[:MAX_CLASSES] or classes,
        stuff=metainfo["stuff_classes"] if panoptic else (),
    )
    kept = {key: dataset[key] for key in ("pipeline", "test_mode", "filter_cfg") if key in dataset}
    dataset.clear()
    dataset.update(metainfo=metainfo, data_root=str(root), **kept)
    if panoptic:
        dataset.update(
            type="mmdet.CocoPanopticDataset", ann_file=f"annotations/panoptic_{split}.json"
        )
        dataset.update(data_prefix=dict(img=split, seg=f"annotations/panoptic_{split}"))
    elif detection:
        dataset.update(type="mmdet.CocoDataset", ann_file=f"annotations/instances_{split}.json")
        dataset.update(data_prefix=dict(img=split))
    else:
        dataset.pop("filter_cfg", None)
        dataset.update(type="mmseg.BaseSegDataset", img_suffix=".png", seg_map_suffix=".png")
        dataset.update(reduce_zero_label=reduce)
        dataset.update(data_prefix=dict(img_path=split, seg_map_path=f"labels/{split}"))
    return root


def _replace_truth(metric: ConfigDict, dataset: ConfigDict, root: Path) -> None:
    """Point a metric at the stand-in's truth; metrics of special formats become the plain one."""
    name = str(metric["type"]).rpartition(".")[2]
    metric.pop("format_only", None)
    if dataset["type"] == "mmseg.BaseSegDataset":
        if not name.endswith("IoUMetric"):
            metric.clear()
            metric.update(type="hordet.IoUMetric", iou_metrics=["mIoU"])
        return
    if name == "CocoPanopticMetric":
        metric["ann_file"] = str(root / "annotations" / "panoptic_val.json")
        metric["seg_prefix"] = str(root / "annotations" / "panoptic_val")
        return
    if not name.endswith("CocoMetric"):
        masks = any(step.get("with_mask") for step in walk_dicts(dataset["pipeline"]))
        metric.clear()
        metric.update(type="hordet.CocoMetric", metric=["bbox", "segm"] if masks else ["bbox"])
    metric["ann_file"] = str(root / "annotations" / "instances_val.json")


def _shorten(cfg: Config) -> None:
    """Train for a few iterations, log each, and validate and save at the end."""
    loop = cfg.get("train_cfg")
    by_epoch = True
    if loop:
        by_epoch = "max_iters" not in loop
        loop.update(dict(max_epochs=1) if by_epoch else dict(max_iters=ITERATIONS))
        loop.update(val_interval=1 if by_epoch else ITERATIONS)
        for key in ("val_begin", "dynamic_intervals"):
            loop.pop(key, None)
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        # The end of training, which mmengine fills in, would now come before this.
        if scheduler.get("begin"):
            scheduler.setdefault("end", scheduler["begin"] + 1)
    hooks = cfg.get("default_hooks") or {}
    if hooks.get("logger"):
        hooks["logger"]["interval"] = 1
    if hooks.get("checkpoint"):
        hooks["checkpoint"].update(by_epoch=by_epoch, interval=1 if by_epoch else ITERATIONS)


def _shorten_grad_init(model: Any) -> None:
    """Let GradInit show that it runs; its many iterations are for a training."""
    for part in walk_dicts(model):
        if str(part.get("type")).rpartition(".")[2] == "GradInit":
            part["iterations"] = 2


def _drop_absent_weights(model: Any) -> None:
    """Start from random weights where a file of weights is not there; the internet is not asked."""
    for part in walk_dicts(model):
        init = part.get("init_cfg")
        if isinstance(init, dict) and "checkpoint" in init:
            if not _is_there(init["checkpoint"]):
                part["init_cfg"] = None
        pretrained = part.get("pretrained")
        if isinstance(pretrained, str) and not Path(pretrained).is_file():
            part["pretrained"] = None
        elif pretrained is True:
            part["pretrained"] = False


def _is_there(checkpoint: str) -> bool:
    if checkpoint.startswith(("http://", "https://")) or is_named(checkpoint):
        return is_at_hand(checkpoint.partition("#")[0])
    path = split_sha256(checkpoint)[0]
    if not path.is_file() and (hint := suggest_name(checkpoint.partition("#")[0])):
        raise CheckpointError(f"no checkpoint file at {checkpoint}{hint}")
    return path.is_file()


def _shrink(value: Any) -> None:
    """Divide every size in a nest of dicts; a dict that stands in several places is met once."""
    for part in {id(part): part for part in walk_dicts(value)}.values():
        for key in _SPATIAL:
            if key in part:
                part[key] = _shrink_size(part[key])


def _shrink_size(value: Any) -> Any:
    """Return a size, or nested sizes, divided by DIVISOR; small ones and fractions as they are."""
    if isinstance(value, (list, tuple)):
        return type(value)(_shrink_size(item) for item in value)
    if isinstance(value, int) and value > 2 * MULTIPLE:
        return max(2 * MULTIPLE, value // DIVISOR // MULTIPLE * MULTIPLE)
    return value
