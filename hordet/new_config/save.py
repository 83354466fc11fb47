"""Saving a config: its bases, its file name, and the checks that training makes."""

import os
from pathlib import Path

from hordet.config.load import load_config
from hordet.config.names import CONFIGS, PREFIX
from hordet.datasets.checks.before_training import find_data_faults
from hordet.datasets.checks.findings import Findings
from hordet.errors import ConfigError
from hordet.new_config.coco_folder import CocoStatistics
from hordet.new_config.map_folder import MapStatistics
from hordet.new_config.rules import Schedule
from hordet.new_config.text import BackboneChoice
from hordet.ops.files import write_whole

_DETECTION = ("models/mask_rcnn_nano.py", "datasets/coco_instance.py", "schedules/scratch.py")
_SEGMENTATION = ("models/upernet_nano.py", "datasets/ade20k.py", "schedules/scratch_iters.py")


def name_config(
    statistics: CocoStatistics | MapStatistics, schedule: Schedule, backbone: BackboneChoice
) -> Path:
    """Return the default file of a config, named like the configs of this repository."""
    if isinstance(statistics, CocoStatistics):
        algorithm = "mask-rcnn" if statistics.with_mask else "faster-rcnn"
        name = f"{algorithm}_{backbone.name}_horfpn_{schedule.length}e.py"
    else:
        name = f"upernet_{backbone.name}_horuperhead_{schedule.length / 1000:g}k.py"
    return Path("own_configs") / statistics.root.resolve().name / name


def find_bases(statistics: CocoStatistics | MapStatistics, out: Path) -> list[str]:
    """Return the bases of a config: paths within the checkout; elsewhere names in the package."""
    names = _DETECTION if isinstance(statistics, CocoStatistics) else _SEGMENTATION
    if not out.resolve().is_relative_to(CONFIGS.parent):
        return [f"{PREFIX}_base_/{name}" for name in names]
    folder = os.path.relpath(CONFIGS / "_base_", out.resolve().parent)
    return [Path(folder, name).as_posix() for name in names]


def place_held_out(
    statistics: CocoStatistics | MapStatistics, out: Path, force: bool = False
) -> list[Path]:
    """Choose the files beside the config for the annotations of splits that no file holds yet.

    Args:
        statistics: Statistics of the data; `ann_file` of a split to be written becomes an absolute
            path.
        out: File of the config.
        force: Whether existing files may be overwritten.

    Returns:
        The files that `save_config` will write, in the order of `statistics.held_out`.

    Raises:
        ConfigError: One of the files, or the config, exists already.
    """
    files = [out.resolve().with_name(f"{out.stem}_{name}") for name in statistics.held_out]
    for file in [out, *files]:
        if file.exists() and not force:
            raise ConfigError(
                f"{file} is there already and is kept: name another file with --out, or add "
                "--force to overwrite it"
            )
    for name, file in zip(statistics.held_out, files, strict=True):
        getattr(statistics, Path(name).stem).ann_file = str(file)
    return files


def save_config(
    statistics: CocoStatistics | MapStatistics, text: str, out: Path, held_out: list[Path]
) -> Findings:
    """Write a config and its held-out files, and check them as training does at its start.

    Args:
        statistics: Statistics of the data.
        text: Text of the config.
        out: File of the config; its folder is made.
        held_out: Files from `place_held_out`.

    Returns:
        The faults at which training would stop, and the warnings.
    """
    for file, content in zip(held_out, statistics.held_out.values(), strict=True):
        write_whole(file, content)
    write_whole(out, text)
    return find_data_faults(load_config(out))
