"""What the keys of a recipe demand of the config."""

from mmengine.config import Config

from hordet.datasets.classes import resolve_dataset_class
from hordet.datasets.roots import walk_datasets
from hordet.errors import ConfigError
from hordet.registry import is_kind_of

LOOPS = ("hordet.EpochBasedTrainLoop", "hordet.IterBasedTrainLoop")


def require(fits: bool, message: str) -> None:
    """Refuse a key of the recipe that does not fit the config.

    Args:
        fits: Whether it does.
        message: What is wrong, and what to do.

    Raises:
        ConfigError: It does not.
    """
    if not fits:
        raise ConfigError(f"recipe: {message}")


def require_loop(cfg: Config, key: str) -> None:
    """Refuse a key that has to know where in the training it is, where no loop can say it.

    Args:
        cfg: The config.
        key: The key, for the message.

    Raises:
        ConfigError: The loop is none of `LOOPS`, or the model is shared out among processes.
    """
    kind = (cfg.get("train_cfg") or {}).get("type")
    require(
        kind in LOOPS,
        f"{key} needs to know where in the training it is: set train_cfg.type to one of "
        f"{' and '.join(LOOPS)} (got {kind!r})",
    )
    require(
        cfg.get("runner_type", "Runner") == "Runner",
        f"{key} is for one whole model a process: leave out runner_type and strategy",
    )


def is_detection(cfg: Config, key: str) -> bool:
    """Tell whether the training data are mmdet's; False: mmseg's.

    Args:
        cfg: The config.
        key: The key that asks, for the message.

    Raises:
        ConfigError: They are neither.
    """
    require(bool(cfg.get("train_dataloader")), f"{key} needs a train_dataloader")
    leaf = next(walk_datasets(cfg.train_dataloader.dataset))
    kind = resolve_dataset_class(leaf, cfg.get("default_scope"))
    detection = kind is not None and is_kind_of(kind, "mmdet.BaseDetDataset")
    require(
        detection or (kind is not None and is_kind_of(kind, "mmseg.BaseSegDataset")),
        f"{key} knows mmdet's detection and mmseg's segmentation data sets, and this config "
        f"has {leaf.get('type')}",
    )
    return detection


def read_name(step: dict) -> str:
    """Return the type of a transform or loss without its scope.

    Args:
        step: Its config.
    """
    return str(step.get("type")).rpartition(".")[2]
