"""What the texts of detectors' and segmentors' leaves share: lab note, classes, backbone, steps."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from hordet.new_config.coco_folder import CocoFigures
from hordet.new_config.map_folder import MapFigures
from hordet.new_config.rules import Schedule
from hordet.new_config.words import counted
from hordet.visualization.panels import class_colours

CHANNELS = {"efficientnet-lite0": [24, 40, 112, 320], "hornet-nano": [32, 64, 128, 256]}


@dataclass(frozen=True)
class Backbone:
    """What a config's model stands on.

    Attributes:
        weights: File of EfficientNet-Lite0's ImageNet weights; None: HorNet-nano from scratch.
    """

    weights: str | None

    @property
    def name(self) -> str:
        """As in the names of configs."""
        return "efficientnet-lite0" if self.weights else "hornet-nano"

    @property
    def title(self) -> str:
        """As in lab notes."""
        return "EfficientNet-Lite0 (ImageNet-1k)" if self.weights else "HorNet-nano from scratch"

    def lines(self) -> str:
        """Settings within `model`; HorNet-nano is the bases' own."""
        if not self.weights:
            return ""
        return f"""\
    backbone=dict(
        _delete_=True,
        type="hordet.TimmBackbone",
        model_name="tf_efficientnet_lite0",
        # Up to stride 4 it knows edges already, and batches are too small for statistics.
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint={quoted(self.weights)}),
    ),
"""

    def preprocessing(self) -> str:
        """What the weights expect of images, within `data_preprocessor`."""
        return "mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]" if self.weights else ""


def note(
    algorithm: str,
    neck: str,
    figures: CocoFigures | MapFigures,
    schedule: Schedule,
    backbone: Backbone,
) -> str:
    """The docstring: a lab note with the figures of the data."""
    unit = "epochs" if isinstance(figures, CocoFigures) else "iterations"
    seen = "\n".join(
        textwrap.fill(plain(line), 96, initial_indent="    ", subsequent_indent="    ")
        for line in figures.summary()
    )
    return f'''\
"""{algorithm}, {backbone.title}, {neck} on {plain(figures.root.name)}.

Written by tools/new_config.py from these figures:
{seen}

Cost: {schedule.length} {unit} of batch {schedule.batch_size}.
Expected: not run yet.
Train: python tools/train.py THIS
"""
'''


def plain(text: str) -> str:
    """Text that can stand in a docstring."""
    return text.replace("\\", "/").replace('"', "")


def data(figures: CocoFigures | MapFigures) -> str:
    """Return the settings that name the data's root, classes and colours."""
    # Lines break between names alone, not at the blanks within.
    names = ", ".join(quoted(name).replace(" ", "\0") for name in figures.classes)
    lines = textwrap.wrap(names, 92, break_on_hyphens=False, break_long_words=False)
    lines = [line.replace("\0", " ") for line in lines]
    classes = f"({lines[0]},)" if len(lines) == 1 else "(\n    {},\n)".format("\n    ".join(lines))
    return (
        f"data_root = {quoted(figures.root.resolve().as_posix())}\n"
        f"# {counted(len(figures.classes), 'class')}, in the order of their labels.\n"
        f"classes = {classes}\n"
        "# Red, green, blue of each; without them mmseg draws lots.\n"
        f"palette = [\n{_palette(figures.classes)}\n]\n"
        "metainfo = dict(classes=classes, palette=palette)"
    )


def _palette(classes: tuple[str, ...]) -> str:
    """Return a colour a class, as the inside of a list."""
    colours = class_colours(dict(classes=classes))[1]
    return wrapped([str([round(255 * part) for part in colour]) for colour in colours])


def steps(schedule: Schedule, backbone: Backbone) -> str:
    """Settings of the optimizer, the batch they are meant for, and the layout of weights."""
    decay = ""
    if backbone.weights:
        decay = (
            "    # Smaller steps for layers that know something already: 0.9 ** 17 at the stem.\n"
            "    paramwise_cfg=dict(decay_rate=0.9),\n"
        )
    rate = f"{schedule.learning_rate:.3g}"
    layout = "channels_last = True  # the same numbers in less time\n" if backbone.weights else ""
    return f"""\
{layout}optim_wrapper = dict(
{decay}    optimizer=dict(lr={rate}),  # 1.5e-3 for a batch of 4, in proportion
)
# tools/train.py --auto-scale-lr keeps the proportion for other batches and for several processes.
auto_scale_lr = dict(enable=False, base_batch_size={schedule.batch_size})"""


def middle(figures: CocoFigures | MapFigures) -> str:
    """Return the images' median sides, as in '640 x 480'."""
    return f"{int(np.median(figures.long_sides))} x {int(np.median(figures.short_sides))}"


def times(scale: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a size (pixels) times a factor."""
    return (round(scale[0] * factor), round(scale[1] * factor))


def items(values: list[str]) -> str:
    """Return a list of strings as Python writes it, an item a line."""
    return "[\n" + "".join(f"    {quoted(value)},\n" for value in values) + "]"


def wrapped(values: list[str]) -> str:
    """Return the inside of a list, lines of at most 92 characters that break between values."""
    line = " ".join(f"{value},".replace(" ", "\0") for value in values)
    filled = textwrap.fill(line, 92, initial_indent="    ", subsequent_indent="    ")
    return filled.replace("\0", " ")


def quoted(value: Any) -> str:
    """A string as Python writes it, in double quotes."""
    inner = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\x27")
    return '"' + inner.replace("\n", "\\n") + '"'
