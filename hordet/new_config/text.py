"""Text that configs of detectors and segmentors share: docstring, classes, backbone, steps."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from hordet.new_config.coco_folder import CocoStatistics
from hordet.new_config.map_folder import MapStatistics
from hordet.new_config.rules import Schedule
from hordet.new_config.words import format_count
from hordet.visualization.panels import get_class_colors

CHANNELS = {"efficientnet-lite0": [24, 40, 112, 320], "hornet-nano": [32, 64, 128, 256]}
# Times the learning rate: the better of 3 and 6 for HorFPN, on nuclei with EfficientNet-Lite0, on
# shapes with HorNet-nano; see docs/necks.md.
FUSION_RATES = {"efficientnet-lite0": 6, "hornet-nano": 3}


@dataclass(frozen=True)
class BackboneChoice:
    """The backbone of a config's model.

    Attributes:
        weights: File of EfficientNet-Lite0's ImageNet weights; None for HorNet-nano from scratch.
    """

    weights: str | None

    @property
    def name(self) -> str:
        """The name in file names of configs."""
        return "efficientnet-lite0" if self.weights else "hornet-nano"

    @property
    def title(self) -> str:
        """The name in docstrings of configs."""
        return "EfficientNet-Lite0 (ImageNet-1k)" if self.weights else "HorNet-nano from scratch"

    def format_settings(self) -> str:
        """Return the settings within `model`; empty for HorNet-nano, which the bases have."""
        if not self.weights:
            return ""
        return f"""\
    backbone=dict(
        _delete_=True,
        type="hordet.TimmBackbone",
        model_name="tf_efficientnet_lite0",
        # Layers up to stride 4 are trained already, and batches are too small for statistics.
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint={quote(self.weights)}),
    ),
"""

    def format_preprocessing(self) -> str:
        """Return the settings within `data_preprocessor` that the weights need."""
        return "mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]" if self.weights else ""


def format_note(
    algorithm: str,
    neck: str,
    statistics: CocoStatistics | MapStatistics,
    schedule: Schedule,
    backbone: BackboneChoice,
) -> str:
    """Return the docstring of a config, with the statistics of the data."""
    unit = "epochs" if isinstance(statistics, CocoStatistics) else "iterations"
    seen = "\n".join(
        textwrap.fill(escape_text(line), 96, initial_indent="    ", subsequent_indent="    ")
        for line in statistics.summarize()
    )
    return f'''\
"""{algorithm}, {backbone.title}, {neck} on {escape_text(statistics.root.name)}.

Written by hordet new-config from these statistics:
{seen}

Cost: {schedule.length} {unit} of batch {schedule.batch_size}.
Expected: not run yet.
Train: hordet train THIS
"""
'''


def escape_text(text: str) -> str:
    """Return a text that may stand in a docstring: nothing ends it, escapes or is substituted."""
    plain = text.replace("\\", "/").replace('"', "").replace("{{", "{ {")
    return "".join(character if character.isprintable() else " " for character in plain)


def format_data(statistics: CocoStatistics | MapStatistics) -> str:
    """Return the settings that name the data's root, classes and colors."""
    # Lines break between names only, not at spaces within a name.
    names = ", ".join(quote(name).replace(" ", "\0") for name in statistics.classes)
    lines = textwrap.wrap(names, 92, break_on_hyphens=False, break_long_words=False)
    lines = [line.replace("\0", " ") for line in lines]
    classes = f"({lines[0]},)" if len(lines) == 1 else "(\n    {},\n)".format("\n    ".join(lines))
    return (
        f"data_root = {quote(statistics.root.resolve().as_posix())}\n"
        f"# {format_count(len(statistics.classes), 'class')}, in the order of their labels.\n"
        f"classes = {classes}\n"
        "# Red, green, blue of each; without them colors are random.\n"
        f"palette = [\n{_palette(statistics.classes)}\n]\n"
        "metainfo = dict(classes=classes, palette=palette)"
    )


def _palette(classes: tuple[str, ...]) -> str:
    """Return one color for each class, as the inside of a list."""
    colors = get_class_colors(dict(classes=classes))[1]
    return wrap_values([str([round(255 * part) for part in color]) for color in colors])


def format_steps(schedule: Schedule, backbone: BackboneChoice, fusions: str = "") -> str:
    """Return the settings of the optimizer, their batch size, and the memory layout of weights.

    Args:
        schedule: Length, batch size and learning rate.
        backbone: The backbone of the model.
        fusions: Name of the neck's gnConvs, which learn faster; empty without such a neck.
    """
    comments, settings = [], []
    if backbone.weights:
        comments.append("Smaller steps for pretrained layers: 0.9 ** 17 times the rate at the stem")
        settings.append("decay_rate=0.9")
    if fusions:
        comments.append("Larger steps for the gnConvs of the neck")
        settings.append(f'custom_keys={{"{fusions}": dict(lr_mult={FUSION_RATES[backbone.name]})}}')
    decay = "".join(f"    # {comment}.\n" for comment in comments)
    if settings:
        decay += f"    paramwise_cfg=dict({', '.join(settings)}),\n"
    rate = f"{schedule.learning_rate:.3g}"
    layout = "channels_last = True  # the same numbers in less time\n" if backbone.weights else ""
    return f"""\
{layout}optim_wrapper = dict(
{decay}    optimizer=dict(lr={rate}),  # in proportion to 1.5e-3 for a batch of 4
)
# hordet train --auto-scale-lr keeps the proportion for other batches and for several processes.
auto_scale_lr = dict(enable=False, base_batch_size={schedule.batch_size})"""


def find_median_side(statistics: CocoStatistics | MapStatistics) -> str:
    """Return the images' median sides, as in '640 x 480'."""
    return f"{int(np.median(statistics.long_sides))} x {int(np.median(statistics.short_sides))}"


def scale_size(scale: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a size (pixels) times a factor."""
    return (round(scale[0] * factor), round(scale[1] * factor))


def join_items(values: list[str]) -> str:
    """Return a list of strings as Python code, one item on each line."""
    return "[\n" + "".join(f"    {quote(value)},\n" for value in values) + "]"


def wrap_values(values: list[str]) -> str:
    """Return the inside of a list, in lines of at most 92 characters broken between values."""
    line = " ".join(f"{value},".replace(" ", "\0") for value in values)
    filled = textwrap.fill(line, 92, initial_indent="    ", subsequent_indent="    ")
    return filled.replace("\0", " ")


def quote(value: Any) -> str:
    """Return a string as Python code, in double quotes, in which mmengine substitutes nothing."""
    inner = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\x27")
    # mmengine puts values of its own in place of `{{ NAME }}` before Python reads the file.
    inner = inner.replace("{{", "{\\x7b")
    return '"' + "".join(c if c.isprintable() else _escape(c) for c in inner) + '"'


def _escape(character: str) -> str:
    """Return a line break, a part of a pair or the like as Python's escape of it."""
    return character.encode("unicode_escape").decode("ascii")
