"""What inference takes from a config: test pipeline, classes, tiles instead of a resize."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.registry import TRANSFORMS, DefaultScope
from torch import nn

from hordet.datasets import classes
from hordet.datasets.roots import walk_datasets
from hordet.errors import ConfigError
from hordet.registry import MODELS, is_kind_of

_SLIDING = ("EncoderDecoder", "mmseg.EncoderDecoder", "hordet.EncoderDecoder")
OVERLAP = 1 / 3  # of a tile with the next, as in the published sliding windows of 512 by 341


def get_test_dataset(cfg: Config) -> ConfigDict:
    """Return the config of the test data set, below any wrappers.

    Raises:
        ConfigError: There is none, or it has no pipeline.
    """
    if not cfg.get("test_dataloader"):
        raise ConfigError("the config has no test_dataloader, whose pipeline prepares images")
    dataset = next(walk_datasets(cfg.test_dataloader.dataset))
    if not dataset.get("pipeline"):
        raise ConfigError("test_dataloader.dataset of the config has no pipeline")
    return dataset


def build_pipeline(cfg: Config) -> tuple[LoadImageFromFile, list[Any]]:
    """Build the transforms of the test pipeline: the loader, and those behind it.

    Those that load annotations are left out.

    Raises:
        ConfigError: The first does not load an image from a file.
    """
    steps = get_test_dataset(cfg).pipeline
    kept = [step for step in steps if not _name(step).endswith("Annotations")]
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        loader, *others = [TRANSFORMS.build(step) for step in kept]
    if not isinstance(loader, LoadImageFromFile):
        raise ConfigError(
            f"the test pipeline of the config begins with {_name(steps[0])}; it must begin with "
            "hordet.LoadImageFromFile or another that loads an image from a file"
        )
    return loader, others


def read_metainfo(cfg: Config) -> dict[str, Any]:
    """Return `classes` and perhaps `palette` of the test data set, without reading its files.

    Raises:
        ConfigError: It names no classes.
    """
    known = classes.read_metainfo(get_test_dataset(cfg), cfg.get("default_scope"))
    if "classes" not in known:
        raise ConfigError(
            "the config names no classes; set metainfo=dict(classes=(...)) of "
            "test_dataloader.dataset"
        )
    return known


def reduces_zero_label(cfg: Config) -> bool:
    """Tell whether label files of the test data set count classes from 1, as ADE20K's."""
    return classes.reduces_zero_label(get_test_dataset(cfg), cfg.get("default_scope"))


def read_tile(tile: int | Sequence[int], overlap: float | None) -> tuple[int, int]:
    """Return (height, width) of a tile, from these or from the length of both sides.

    Raises:
        ConfigError: It has no size, or the overlap is none.
    """
    size = tuple(tile) if isinstance(tile, list | tuple) else (tile, tile)
    if len(size) != 2 or not all(type(side) is int and side >= 1 for side in size):
        raise ConfigError(
            f"got tiles of {tile!r} pixels; allowed are one whole number from 1, or (height, width)"
        )
    if overlap is not None and not 0 <= overlap < 1:
        raise ConfigError(
            f"got an overlap of {overlap}; allowed is 0 to below 1, the share of a tile that its "
            "neighbor has too"
        )
    height, width = size
    return height, width


def is_segmentor(cfg: Config) -> bool:
    """Tell whether a config's model is one of mmseg's segmentors; it is not built."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        kind = MODELS.get(_name(cfg.model))
    return kind is not None and is_kind_of(kind, "mmseg.BaseSegmentor")


def refuse_tiles(model: str) -> ConfigError:
    """Return the error about a model, named by its class, that cannot predict by tiles."""
    return ConfigError(
        f"got tiles for {model}; allowed are detectors and the segmentors {', '.join(_SLIDING)}. "
        "Leave the tiles out: the image is then resized as in the config"
    )


def slide_over_tiles(cfg: Config, size: tuple[int, int], overlap: float | None) -> None:
    """Make a segmentor predict images at their own size by overlapping tiles; changes `cfg`.

    Args:
        cfg: The config.
        size: (height, width) of a tile in pixels.
        overlap: Share of a tile that its neighbor has too; None: `OVERLAP`.

    Raises:
        ConfigError: The model has no sliding window.
    """
    if _name(cfg.model) not in _SLIDING:
        raise refuse_tiles(_name(cfg.model))
    share = OVERLAP if overlap is None else overlap
    stride = tuple(max(1, round(side * (1 - share))) for side in size)
    cfg.model.type = "hordet.EncoderDecoder"  # of bounded memory
    cfg.model.test_cfg = dict(mode="slide", crop_size=size, stride=stride)
    dataset = get_test_dataset(cfg)
    dataset.pipeline = [step for step in dataset.pipeline if not _name(step).endswith("Resize")]


def slice_detector(
    detector: nn.Module,
    pipeline: Sequence[Any],
    cfg: Config,
    size: tuple[int, int],
    overlap: float | None,
) -> nn.Module:
    """Return a detector that looks at overlapping tiles of an image, and at the whole.

    Args:
        detector: With its weights.
        pipeline: What prepares a loaded image for it.
        cfg: Its `sliced_model`, if any, has how tiles are merged.
        size: (height, width) of a tile in pixels.
        overlap: Share of a tile that its neighbor has too; None: that of `sliced_model`.

    Raises:
        ConfigError: An option of `sliced_model` is not what it may be.
    """
    options = {"type": "hordet.SlicedDetector", **cfg.get("sliced_model", {}), "patch_size": size}
    if overlap is not None:
        options["patch_overlap_ratio"] = overlap
    try:
        return MODELS.build(dict(options, module=detector, pipeline=pipeline)).eval()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sliced_model: {error}") from error


def choose_device(name: str | None) -> torch.device:
    """Return a device that is there; without a name the first of CUDA, or the CPU.

    Raises:
        ConfigError: torch cannot put a tensor there.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"got device {name!r}, which cannot be used here ({reason}); `python -m hordet` lists "
            "devices, and 'cpu' is always one"
        ) from error
    return device


def _name(part: dict) -> str:
    """Return the type of a part of a config, as a word."""
    kind = part["type"]
    return kind if isinstance(kind, str) else kind.__name__
