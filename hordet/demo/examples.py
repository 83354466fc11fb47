"""Example images of a model: of its own validation data, or those that come with hordet."""

import heapq
from pathlib import Path

from mmengine.config import Config

from hordet.errors import ConfigError
from hordet.inference.settings import get_test_dataset

NUMBER = 3
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_examples(cfg: Config, config: str | Path) -> list[Path]:
    """Return up to `NUMBER` images to open the page with.

    Args:
        cfg: The model's config.
        config: Its file; images that come with the model lie beside it, in `examples/STEM`.

    Returns:
        The first images of the test data where they are on this machine, otherwise those that come
        with the model, if there are any.
    """
    config = Path(config)
    for folder in (_find_data(cfg), config.parent / "examples" / config.stem):
        if folder is not None and folder.is_dir():
            images = (file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
            if found := heapq.nsmallest(NUMBER, images):
                return found
    return []


def _find_data(cfg: Config) -> Path | None:
    """Return the folder of the test images, or None if the config names none."""
    try:
        dataset = get_test_dataset(cfg)
    except ConfigError:  # whoever builds the pipeline says so
        return None
    prefix = dataset.get("data_prefix") or {}
    name = prefix.get("img") or prefix.get("img_path")
    return Path(dataset.get("data_root") or "", name) if name else None
