"""The hooks that keys of a recipe add: averages of weights, an early end, a limit of time."""

from typing import Any

from mmengine.config import Config

from hordet.datasets.roots import list_metrics
from hordet.engine.recipe.requirements import require, require_loop
from hordet.errors import ConfigError

_LEAST_GAIN = 0.001  # of the judging metric, by which a validation must be better


def add_hook(cfg: Config, name: str, **settings: Any) -> None:
    """Add a hook of hordet to the config.

    Args:
        cfg: Changed in place.
        name: Its class.
        settings: Its arguments.

    Raises:
        ConfigError: The config has such a hook already.
    """
    hooks = list(cfg.get("custom_hooks") or [])
    key = {"EMAHook": "ema", "EarlyStoppingHook": "early_stopping"}.get(name, "max_minutes")
    require(
        not any(str(hook.get("type")).endswith(name) for hook in hooks if isinstance(hook, dict)),
        f"{key} adds a hordet.{name}, and custom_hooks has one already: leave out one of them",
    )
    cfg.custom_hooks = [*hooks, dict(type=f"hordet.{name}", **settings)]


def stop_early(cfg: Config, patience: int) -> None:
    """Stop after so many validations without a better one; keep the best checkpoint.

    Args:
        cfg: Changed in place.
        patience: The number of validations.

    Raises:
        ConfigError: There is no validation, no checkpoint, or no metric to watch.
    """
    require(bool(cfg.get("val_dataloader")), "early_stopping needs a val_dataloader")
    saving: Any = (cfg.get("default_hooks") or {}).get("checkpoint")
    require(bool(saving), "early_stopping needs default_hooks.checkpoint, which keeps the best")
    metric = saving.get("save_best")
    if not isinstance(metric, str) or metric == "auto":
        metric = saving["save_best"] = _find_judging_metric(cfg)
    rule = "less" if "loss" in metric else "greater"
    settings = dict(monitor=metric, rule=rule, patience=patience, min_delta=_LEAST_GAIN)
    add_hook(cfg, "EarlyStoppingHook", **settings)


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


def limit_time(cfg: Config, minutes: float, mosaic_share: float | None) -> None:
    """Fit the length of the training to a time.

    Args:
        cfg: Changed in place.
        minutes: The time.
        mosaic_share: The share of the training that has mosaics; None without.

    Raises:
        ConfigError: As `require_loop` and `add_hook`.
    """
    require_loop(cfg, "max_minutes")
    share = {} if mosaic_share is None else {"mosaic_share": mosaic_share}
    add_hook(cfg, "TimeBudgetHook", minutes=minutes, **share)
