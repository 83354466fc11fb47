"""Saving a leaf: where its bases are, its name, and what training would say of it."""

import os
from pathlib import Path

from hordet.config.load import load_config
from hordet.datasets.checks.before_training import find_faults_of_data
from hordet.datasets.checks.findings import Findings
from hordet.errors import ConfigError
from hordet.new_config.coco_folder import CocoFigures
from hordet.new_config.leaf_parts import Backbone
from hordet.new_config.map_folder import MapFigures
from hordet.new_config.rules import Schedule

_BASES = Path(__file__).resolve().parents[2] / "configs" / "_base_"
_DETECTION = ("models/mask_rcnn_nano.py", "datasets/coco_instance.py", "schedules/scratch.py")
_SEGMENTATION = ("models/upernet_nano.py", "datasets/ade20k.py", "schedules/scratch_iters.py")


def name_of_leaf(figures: CocoFigures | MapFigures, schedule: Schedule, backbone: Backbone) -> Path:
    """Return the file that a config goes to by default, named as the configs here are."""
    if isinstance(figures, CocoFigures):
        algorithm = "mask-rcnn" if figures.with_mask else "faster-rcnn"
        name = f"{algorithm}_{backbone.name}_horfpn_{schedule.length}e.py"
    else:
        name = f"upernet_{backbone.name}_horuperhead_{schedule.length / 1000:g}k.py"
    return Path("own_configs") / figures.root.resolve().name / name


def bases_for(figures: CocoFigures | MapFigures, out: Path) -> list[str]:
    """Return the paths of a leaf's bases: relative ones in this checkout, absolute ones elsewhere.

    Raises:
        ConfigError: hordet was installed without its configs.
    """
    if not _BASES.is_dir():
        raise ConfigError(
            f"there is no {_BASES}: the configs come with a checkout. Install it by `pip install "
            "-e .` and run its tools/new_config.py"
        )
    names = _DETECTION if isinstance(figures, CocoFigures) else _SEGMENTATION
    inside = out.resolve().is_relative_to(_BASES.parents[1])
    folder = os.path.relpath(_BASES, out.resolve().parent) if inside else _BASES
    return [Path(folder, name).as_posix() for name in names]


def place_held_out(figures: CocoFigures | MapFigures, out: Path, force: bool = False) -> list[Path]:
    """Give the lists of a held-out share their place beside the config.

    Args:
        figures: Of the data; `ann_file` of both splits becomes the absolute path.
        out: File of the config.
        force: Whether files that are there may be overwritten.

    Returns:
        The files that `write_leaf` will write, in the order of `figures.held_out`.

    Raises:
        ConfigError: One of the files, or the config, is there already.
    """
    files = [out.resolve().with_name(f"{out.stem}_{name}") for name in figures.held_out]
    for file in [out, *files]:
        if file.exists() and not force:
            raise ConfigError(
                f"{file} is there already, and is kept: name another file with --out, or add "
                "--force to overwrite it"
            )
    if files:
        figures.train.ann_file, figures.val.ann_file = map(str, files)
    return files


def write_leaf(
    figures: CocoFigures | MapFigures, text: str, out: Path, held_out: list[Path]
) -> Findings:
    """Write a config and its lists, and check both as training does before it starts.

    Args:
        figures: Of the data.
        text: Of the config.
        out: Where it goes; folders are made.
        held_out: By `place_held_out`.

    Returns:
        What training would refuse or warn of.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for file, content in zip(held_out, figures.held_out.values(), strict=True):
        file.write_text(content, encoding="utf-8")
    out.write_text(text, encoding="utf-8")
    return find_faults_of_data(load_config(out))
