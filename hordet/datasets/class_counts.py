"""How often each class occurs in training data: in images, objects and pixels."""

import contextlib
import io
from collections import Counter
from typing import Any

import numpy as np
from mmengine.dataset import ClassBalancedDataset

from hordet.datasets.classes import read_metainfo
from hordet.datasets.transforms import IGNORED, LoadSegAnnotations
from hordet.errors import DatasetError
from hordet.registry import DATASETS

# Label maps that are read to count pixels, spread over all.
MAPS_READ = 1000


def build_quietly(dataset: dict) -> Any:
    """Build a data set that loads no images, without what COCO's reader prints.

    Args:
        dataset: Config of a data set that reads files.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build({**dataset, "pipeline": []})


def find_median_frequency(dataset: Any) -> float:
    """Return the median, over the classes that occur, of the share of images that have the class.

    Args:
        dataset: A data set of mmdet, built.

    Raises:
        DatasetError: No image has an object.
    """
    found = Counter(label for i in range(len(dataset)) for label in set(dataset.get_cat_ids(i)))
    if not found:
        raise DatasetError(
            "no training image has an object, so no class can be repeated. Correct the "
            "annotation file, or leave out repeat_rare_classes of the recipe"
        )
    return round(float(np.median([*found.values()])) / len(dataset), 6)


def count_objects(dataset: Any, number: int, threshold: float | None) -> list[int]:
    """Count the objects of each class in one epoch.

    Args:
        dataset: A data set of mmdet, built.
        number: Of the classes, K.
        threshold: `oversample_thr` of the ClassBalancedDataset around it; None without one.

    Returns:
        K numbers.
    """
    repeated = dataset if threshold is None else ClassBalancedDataset(dataset, threshold)
    labels = Counter(label for i in range(len(repeated)) for label in repeated.get_cat_ids(i))
    return [labels[index] for index in range(number)]


def count_pixels(dataset: dict, scope: str | None) -> list[int]:
    """Count the pixels of each class in label maps, of 1,000 at most, spread over all.

    Args:
        dataset: Config of a data set of mmseg.
        scope: The config's default scope.

    Raises:
        DatasetError: A label map is faulty.
    """
    built = build_quietly(dataset)
    number = len(read_metainfo(dataset, scope).get("classes") or built.metainfo["classes"])
    load = LoadSegAnnotations(number)
    chosen = np.unique(np.linspace(0, len(built) - 1, min(len(built), MAPS_READ)).astype(int))
    counts = np.zeros(IGNORED + 1, np.int64)
    for index in chosen:
        sample = load.transform(built.get_data_info(int(index)))
        counts += np.bincount(sample["gt_seg_map"].ravel(), minlength=IGNORED + 1)
    return [int(count) for count in counts[:number]]
