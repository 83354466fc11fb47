"""The keys of a config's `recipe`, turned into what mmengine, mmdet, mmseg and hordet read.

`apply_recipe` does all that follows from the config alone. `fit_recipe_to_data` does what takes the
data, once they are checked: which classes are rare, how many images fit into a GPU.
"""

from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from hordet.config.recipe import find_recipe_faults
from hordet.datasets.roots import walk_datasets
from hordet.engine.batch_size import fit_batch_size
from hordet.engine.recipe.balance import balance_classes, find_losses, repeat_rare_classes
from hordet.engine.recipe.hooks import add_hook, limit_time, stop_early
from hordet.engine.recipe.pipeline import KEYS, change_data
from hordet.engine.recipe.requirements import is_detection, require
from hordet.errors import ConfigError

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
        add_hook(cfg, "EMAHook", momentum=chosen["ema"], update_buffers=True)
    if "early_stopping" in chosen:
        stop_early(cfg, int(chosen["early_stopping"]))
    if "max_minutes" in chosen:
        limit_time(cfg, chosen["max_minutes"], chosen.get("mosaic"))
    if any(key in chosen for key in KEYS):
        change_data(cfg, chosen)
    if "repeat_rare_classes" in chosen:
        require(
            is_detection(cfg, "repeat_rare_classes"),
            "repeat_rare_classes repeats images by the objects in them, and label maps have none: "
            "recipe.balance_classes weighs the classes of a segmentor",
        )
        require(
            len(list(walk_datasets(cfg.train_dataloader.dataset))) == 1,
            "repeat_rare_classes needs one training data set, and this config has several: join "
            "their annotation files (hordet new-config --train-ann FILE FILE)",
        )
    if "balance_classes" in chosen:
        list(find_losses(cfg))  # refuses losses without weights
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
            threshold = repeat_rare_classes(cfg, recipe["repeat_rare_classes"])
        if "balance_classes" in recipe:
            balance_classes(cfg, threshold)
    if "fit_batch_size" in recipe:
        fit_batch_size(cfg, recipe["fit_batch_size"])
