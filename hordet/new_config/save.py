"""Saving a leaf: where its bases are, its name, and what training would say of it."""

import os
from pathlib import Path

from hordet.config.load import load_config
from hordet.datasets.checks.before_training import find_data_faults
from hordet.datasets.checks.findings import Findings
from hordet.errors import ConfigError
from hordet.new_config.coco_folder import CocoStatistics
from hordet.new_config.map_folder import MapStatistics
from hordet.new_config.rules import Schedule
from hordet.new_config.text import Backbone
from hordet.ops.files import write_whole

_BASES = Path(__file__).resolve().parents[2] / "configs" / "_base_"
_DETECTION = ("models/mask_rcnn_nano.py", "datasets/coco_instance.py", "schedules/scratch.py")
_SEGMENTATION = ("models/upernet_nano.py", "datasets/ade20k.py", "schedules/scratch_iters.py")


def name_config(
    statistics: CocoStatistics | MapStatistics, schedule: Schedule, backbone: Backbone
) -> Path:
    """Return the file that a config goes to by default, named as the configs here are."""
    if isinstance(statistics, CocoStatistics):
        algorithm = "mask-rcnn" if statistics.with_mask else "faster-rcnn"
        name = f"{algorithm}_{backbone.name}_horfpn_{schedule.length}e.py"
    else:
        name = f"upernet_{backbone.name}_horuperhead_{schedule.length / 1000:g}k.py"
    return Path("own_configs") / statistics.root.resolve().name / name


def find_bases(statistics: CocoStatistics | MapStatistics, out: Path) -> list[str]:
    """Return the paths of a leaf's bases: relative ones in this checkout, absolute ones elsewhere.

    Raises:
        ConfigError: hordet was installed without its configs.
    """
    if not _BASES.is_dir():
        raise ConfigError(
            f"there is no {_BASES}: the configs come with a checkout. Install it by `pip install "
            "-e .` and run hordet new-config again"
        )
    names = _DETECTION if isinstance(statistics, CocoStatistics) else _SEGMENTATION
    inside = out.resolve().is_relative_to(_BASES.parents[1])
    folder = os.path.relpath(_BASES, out.resolve().parent) if inside else _BASES
    return [Path(folder, name).as_posix() for name in names]


def write_held_out(
    statistics: CocoStatistics | MapStatistics, out: Path, force: bool = False
) -> list[Path]:
    """Give the lists of a held-out share their place beside the config.

    Args:
        statistics: Of the data; `ann_file` of both splits becomes the absolute path.
        out: File of the config.
        force: Whether files that are there may be overwritten.

    Returns:
        The files that `save_config` will write, in the order of `statistics.held_out`.

    Raises:
        ConfigError: One of the files, or the config, is there already.
    """
    files = [out.resolve().with_name(f"{out.stem}_{name}") for name in statistics.held_out]
    for file in [out, *files]:
        if file.exists() and not force:
            raise ConfigError(
                f"{file} is there already, and is kept: name another file with --out, or add "
                "--force to overwrite it"
            )
    if files:
        statistics.train.ann_file, statistics.val.ann_file = map(str, files)
    return files


def save_config(
    statistics: CocoStatistics | MapStatistics, text: str, out: Path, held_out: list[Path]
) -> Findings:
    """Write a config and its lists, and check both as training does before it starts.

    Args:
        statistics: Of the data.
        text: Of the config.
        out: Where it goes; folders are made.
        held_out: By `write_held_out`.

    Returns:
        What training would refuse or warn of.
    """
    for file, content in zip(held_out, statistics.held_out.values(), strict=True):
        write_whole(file, content)
    write_whole(out, text)
    return find_data_faults(load_config(out))
