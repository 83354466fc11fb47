"""Where drawn images lie, and drawing them once: `hordet://shapes` in configs.

A data set of certain settings has one folder, whose name is made of the settings. It is drawn when
its images are needed first, and then stays.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hordet.datasets.roots import LOADERS, walk_datasets
from hordet.datasets.shapes import files
from hordet.errors import DatasetError
from hordet.ops.files import get_cache_folder

SHAPES = "hordet://shapes"
"""The data root, in configs, of the data set with the default settings."""


def locate_shapes(
    *,
    num_train: int = 400,
    num_val: int = 100,
    size: tuple[int, int] = (128, 128),
    classes: Sequence[str] = files.DEFAULT_CLASSES,
    stuff: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Return the folder that a shapes data set has; nothing is drawn.

    It lies in the folder that the environment variable HORDET_CACHE names, or in ~/.cache/hordet.

    Args:
        num_train: Number of training images.
        num_val: Number of validation images.
        size: Height and width of the images, pixels.
        classes: Class names, any number up to 254.
        stuff: Further class names; given, panoptic annotations are written too.
        seed: Seed of the images.
    """
    settings = dict(
        num_train=num_train, num_val=num_val, size=list(size), classes=list(classes), seed=seed
    )
    if stuff:
        settings["stuff"] = list(stuff)
    digest = hashlib.sha256(json.dumps([files.VERSION, settings]).encode()).hexdigest()[:12]
    return get_cache_folder() / f"shapes-{digest}"


def ensure_shapes(**settings: Any) -> Path:
    """Return the folder of a shapes data set, drawn now if it is not there yet.

    Several processes may ask at once: each sees either no folder or a whole one.

    Args:
        **settings: Of `locate_shapes`.

    Raises:
        ValueError: As `hordet.datasets.shapes.files.write_shapes`.
        DatasetError: The cache folder cannot be written.
    """
    root = locate_shapes(**settings)
    if root.is_dir():
        return root
    try:
        return files.write_shapes(root, **settings)
    except OSError as error:
        if isinstance(error, FileExistsError) and root.is_dir():
            return root  # Another process was faster; what it wrote is the same.
        raise DatasetError(
            f"the shapes data set cannot be drawn to {root}: {error}. Set the environment variable "
            "HORDET_CACHE to a folder that can be written"
        ) from error


def draw_missing_shapes(cfg: dict) -> None:
    """Draw the shapes data set now if a data set of a config reads it and it is not there yet.

    Args:
        cfg: A config that `hordet.engine.prepare.locate_data` went over, with any of train, val and
            test_dataloader.

    Raises:
        DatasetError: The cache folder cannot be written.
    """
    loaders = [cfg[key] for key in LOADERS if cfg.get(key)]
    datasets = [dataset for loader in loaders for dataset in walk_datasets(loader["dataset"])]
    if str(locate_shapes()) in {str(dataset.get("data_root")) for dataset in datasets}:
        ensure_shapes()
