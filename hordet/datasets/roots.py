"""Where the data of a config lie: the data sets in its loaders, and moving all of them at once."""

import os
from collections.abc import Iterator
from pathlib import Path

from hordet.errors import ConfigError

DEFAULT_FOLDER = "data"  # which the variable HORDET_DATA replaces
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")
# Annotations, and the folder of panoptic maps.
_EVALUATOR_PATHS = {"ann_file", "seg_prefix"}


def walk_datasets(dataset: dict) -> Iterator[dict]:
    """The data sets that read files, below any wrappers (repeated, concatenated, mixed ...).

    Args:
        dataset: The `dataset` of a data loader's config.

    Yields:
        Each innermost data set's config.

    Raises:
        ConfigError: One is no dict.
    """
    if not isinstance(dataset, dict):
        raise ConfigError(
            f"a data set of the config is {str(dataset)[:60]!r}; it must be dict(type=..., ...)"
        )
    inner = dataset.get("datasets", dataset.get("dataset"))
    if inner is None:
        yield dataset
    else:
        for child in inner if isinstance(inner, list | tuple) else [inner]:
            yield from walk_datasets(child)


def list_metrics(evaluator: dict | list | None) -> list[dict]:
    """The metrics of an evaluator's config, which holds one, a list of them, or `metrics`."""
    if isinstance(evaluator, dict) and "metrics" in evaluator:
        evaluator = evaluator["metrics"]
    if isinstance(evaluator, dict):
        return [evaluator]
    return list(evaluator or [])


def find_moved_root(cfg: dict) -> str | None:
    """Find the data of a config that was written down where `HORDET_DATA` was not set.

    A config of the folder `configs` asks for the variable itself. What a training or a checkpoint
    keeps of it is the folder that was meant then, `data/NAME`.

    Args:
        cfg: A config.

    Returns:
        The same folder below `HORDET_DATA`, if it is there and the config's one root is not.
    """
    loaders = [cfg[key] for key in LOADERS if cfg.get(key)]
    found = [loader["dataset"] for loader in loaders if loader.get("dataset")]
    datasets = [dataset for each in found for dataset in walk_datasets(each)]
    roots = {str(dataset.get("data_root")) for dataset in datasets}
    folder = os.environ.get("HORDET_DATA")
    if not folder or len(roots) != 1 or Path(old := roots.pop()).is_dir():
        return None
    if not old.startswith(DEFAULT_FOLDER + "/"):
        return None
    moved = Path(folder) / Path(old).relative_to(DEFAULT_FOLDER)
    return str(moved) if moved.is_dir() else None


def set_data_root(cfg: dict, root: str | Path) -> None:
    """Make a config read its data elsewhere: data sets of all loaders, and evaluators' files.

    Args:
        cfg: A config, changed in place. All its data sets must lie in one root.
        root: The new root, in place of that one.

    Raises:
        ConfigError: The data sets have several roots or none, or an evaluator's annotation file or
            folder of maps does not lie in their root.
    """
    loaders = [cfg[key] for key in LOADERS if cfg.get(key)]
    datasets = [dataset for loader in loaders for dataset in walk_datasets(loader["dataset"])]
    roots = {str(dataset.get("data_root")) for dataset in datasets}
    if len(roots) != 1 or "None" in roots:
        raise ConfigError(
            f"One data root can replace one other, but the data sets of this config have "
            f"{', '.join(sorted(roots)) or 'none'}. Set data_root of each data set by itself."
        )
    old = Path(roots.pop())
    for key in EVALUATORS:
        for metric in list_metrics(cfg.get(key)):
            for name in _EVALUATOR_PATHS & metric.keys():
                if not metric[name]:
                    continue
                try:
                    inside = Path(metric[name]).relative_to(old)
                except ValueError as error:
                    raise ConfigError(
                        f"{key}.{name} = {metric[name]} does not lie in the data root {old}. "
                        "Set it by itself."
                    ) from error
                metric[name] = str(Path(root) / inside)
    for dataset in datasets:
        dataset["data_root"] = str(root)
    if "data_root" in cfg:
        cfg["data_root"] = str(root)
