"""The keys of a recipe that balance classes: repeated images, weights in the loss."""

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config

from hordet.config.faults import walk_dicts
from hordet.datasets.class_counts import (
    build_quietly,
    count_objects,
    count_pixels,
    find_median_frequency,
)
from hordet.datasets.class_weights import weigh_objects, weigh_pixels
from hordet.datasets.classes import read_metainfo
from hordet.datasets.roots import walk_datasets
from hordet.engine.recipe.requirements import is_detection, read_name, require


def find_losses(cfg: Config) -> Iterator[dict]:
    """Yield the config of each loss of classes, which can have weights.

    Args:
        cfg: The config.

    Raises:
        ConfigError: There is none, or another loss.
    """
    heads: Any
    if is_detection(cfg, "balance_classes"):
        heads, key = (cfg.model.get("roi_head") or {}).get("bbox_head"), "loss_cls"
    else:
        heads, key = cfg.model.get("decode_head"), "loss_decode"
    require(
        bool(heads) and not (key == "loss_decode" and "loss_cls" in _list_keys(heads)),
        "balance_classes weighs the classes in a softmax cross entropy, of a roi_head (Faster, "
        "Mask, Cascade R-CNN) or a decode_head, and this model has none; "
        "recipe.repeat_rare_classes works with every detector",
    )
    for head in heads if isinstance(heads, list | tuple) else [heads]:
        losses = head.setdefault(key, dict(type="CrossEntropyLoss", use_sigmoid=False))
        parts = losses if isinstance(losses, list | tuple) else [losses]
        good = [p for p in parts if read_name(p) == "CrossEntropyLoss" and not p.get("use_sigmoid")]
        require(
            bool(good),
            f"balance_classes weighs the classes in a softmax cross entropy, and {key} of this "
            f"model is {', '.join(map(read_name, parts))}"
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


def repeat_rare_classes(cfg: Config, threshold: float | bool) -> float:
    """Repeat images of rare classes; return the share of images below which a class is rare.

    Args:
        cfg: Changed in place.
        threshold: The share; True takes the median of the classes' shares.
    """
    dataset, replace = _find_leaf(cfg)
    if threshold is True:
        built = build_quietly(next(walk_datasets(dataset)))
        threshold = find_median_frequency(built)
    replace(
        dict(type="mmengine.ClassBalancedDataset", oversample_thr=float(threshold), dataset=dataset)
    )
    return float(threshold)


def balance_classes(cfg: Config, threshold: float | None) -> None:
    """Weigh the classes in the loss by how often they occur.

    Args:
        cfg: Changed in place.
        threshold: What `repeat_rare_classes` returned, since it changes how often; None without.
    """
    scope = cfg.get("default_scope")
    leaves = list(walk_datasets(cfg.train_dataloader.dataset))
    classes = read_metainfo(leaves[0], scope).get("classes") or ()
    if not is_detection(cfg, "balance_classes"):
        counts = [count_pixels(leaf, scope) for leaf in leaves]
        weights = weigh_pixels([sum(each) for each in zip(*counts, strict=True)])
        for loss in find_losses(cfg):
            # mmseg's own mean fails with weights and ignored pixels; mmengine takes the mean.
            loss.pop("avg_non_ignore", None)
            loss.update(class_weight=weights, reduction="none")
        return
    counts = [count_objects(build_quietly(leaf), len(classes), threshold) for leaf in leaves]
    weights = weigh_objects([sum(each) for each in zip(*counts, strict=True)])
    for loss in find_losses(cfg):
        loss["class_weight"] = [*weights, 1.0]  # the last is the background
