"""Preprocessed images on which exports are compared and int8 is calibrated."""

import copy
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn

from hordet.datasets.images import decode_image
from hordet.datasets.roots import walk_datasets
from hordet.datasets.shapes.cache import draw_missing_shapes
from hordet.errors import DatasetError, ExportError


def prepare_images(
    cfg: Any, model: nn.Module, split: str, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images of a config's data after its test pipeline and its data preprocessor.

    Args:
        cfg: The config.
        model: Its model, with a `data_preprocessor`.
        split: 'train' or 'test'.
        count: Largest number of images; they are spread evenly over the data.

    Yields:
        An image (1, 3, H, W) and its height and width without padding, (2,).

    Raises:
        ExportError: The config has no such data, or the files are missing.
        DatasetError: The data are images that hordet draws, and cannot be written.
    """
    loader = cfg.get(f"{split}_dataloader")
    if not loader or not cfg.get("test_dataloader"):
        raise ExportError(f"the config has no {split}_dataloader, and its images are needed")
    data = copy.deepcopy(next(walk_datasets(loader.dataset)))
    data["pipeline"] = next(walk_datasets(cfg.test_dataloader.dataset))["pipeline"]
    draw_missing_shapes(cfg)
    try:
        scope = cfg.get("default_scope", "mmengine")
        # pycocotools prints what it does.
        with DefaultScope.overwrite_default_scope(scope), redirect_stdout(StringIO()):
            dataset = DATASETS.build(data)
    except FileNotFoundError as error:
        raise ExportError(
            f"the {split} data are missing ({error}): give --data-root, or --image FILE"
        ) from error
    preprocess: Any = model.data_preprocessor
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int):
        batch = preprocess(pseudo_collate([dataset[int(index)]]), False)
        shape = batch["data_samples"][0].metainfo["img_shape"][:2]
        yield batch["inputs"], torch.tensor(shape, dtype=batch["inputs"].dtype)


def read_image(model: nn.Module, path: str | Path) -> Tensor:
    """Read an image file without resizing it and apply the data preprocessor: (1, 3, H, W).

    Raises:
        ExportError: The file cannot be read as an image.
    """
    try:
        image, _ = decode_image(Path(path).read_bytes())
    except (DatasetError, OSError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise ExportError(f"the image {path} cannot be used: {words}. Give another") from error
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    preprocess: Any = model.data_preprocessor
    return preprocess(dict(inputs=[tensor], data_samples=None), False)["inputs"]


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (N, 3, H, W) at another size."""
    if tuple(image.shape[2:]) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True)
