"""Renames the tensors of a checkpoint from one project's names to another's.

A conversion reads names and returns a new dict; no number changes. Converting twice has no further
effect. Only torchvision's ConvNeXt needs another shape: its layer scales of (C, 1, 1) are (C,) in
the other projects. Global filters keep their size; a model resizes them when it loads them.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from hordet.checkpoints.coverage import get_tensors
from hordet.checkpoints.layouts import FAMILIES, Family
from hordet.errors import CheckpointError, list_first

# 'hordet' means the names that the models of this package read.
SOURCES = ("auto", "hordet", *sorted({name for family in FAMILIES for name in family.layouts}))
TARGETS = ("hordet", "official", "mmpretrain", "timm")

_FIELDS = {
    "s": r"\d+",
    "b": r"\d+",
    "k": r"\d+",
    "p": r"[a-z_]+",
    "q": r"[a-z_]+",
    "part": r"neck|[a-z_]+_head",
    "rest": r".+",
}


@dataclass(frozen=True)
class Conversion:
    """A state dict under new names.

    Attributes:
        state_dict: The tensors.
        family: The kind of model, or '' where names were kept without looking.
        source: The project of the names in the file.
        target: The project of the new names.
        known: Number of tensors whose names are known names of the source.
        unknown: Names that are not known; their tensors keep them.
        dropped: Names of buffers that are left out, because the target computes them itself.
    """

    state_dict: OrderedDict[str, Tensor]
    family: str
    source: str
    target: str
    known: int
    unknown: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line: the kind of model, the projects, and how many names are known."""
        if not self.family:
            return f"{len(self.state_dict)} tensors, names kept"
        total = self.known + len(self.unknown)
        line = f"{self.family}, {self.source} -> {self.target}: {self.known} of {total} names known"
        for word, names in (("unknown, kept", self.unknown), ("dropped", self.dropped)):
            if names:
                line += f"; {word}: {list_first(names, 3)}"
        return line


def convert_names(
    checkpoint: dict, source: str = "auto", target: str = "hordet", minimum_share: float = 0.9
) -> Conversion:
    """Rename the tensors of a checkpoint; `hordet.checkpoints.layouts` has the known names.

    Args:
        checkpoint: From `load_checkpoint`: a state dict, or a dict that has one under `model` or
            `state_dict`.
        source: The project of its names, one of `SOURCES`; 'auto' finds it by the names. From
            'hordet' to 'hordet' the names of any model are kept.
        target: The project of the new names, one of `TARGETS`.
        minimum_share: Smallest share of the names that must be known, 0 to 1.

    Returns:
        The tensors under their new names. They share memory with the given tensors.

    Raises:
        CheckpointError: The source or target is unknown, the model has no names of the target, or
            too few names are known; the message says how many.
    """
    for word, given, allowed in (("source", source, SOURCES), ("target", target, TARGETS)):
        if given not in allowed:
            raise CheckpointError(f"got {word} {given!r}; allowed are {', '.join(allowed)}")
    tensors = get_tensors(checkpoint)
    if source == target == "hordet":
        return Conversion(tensors, "", source, target, len(tensors))
    family, column = _recognize(tensors, source, minimum_share)
    goal = family.layouts[0] if target == "hordet" else target
    if goal not in family.layouts:
        raise CheckpointError(
            f"{family.name} has no names of {target!r}; its projects are "
            f"{', '.join(family.layouts)}"
        )
    result: OrderedDict[str, Tensor] = OrderedDict()
    unknown: list[str] = []
    dropped: list[str] = []
    to = family.layouts.index(goal)
    for name, tensor in tensors.items():
        if to != column and name.endswith(family.derived):
            dropped.append(name)
            continue
        renamed = _rename(family, column, to, name)
        if renamed is None:
            unknown.append(name)
        elif name.endswith(".layer_scale") and to != column:
            tensor = tensor.flatten()
        result[renamed or name] = tensor
    known = len(result) - len(unknown)
    return Conversion(
        result, family.name, family.layouts[column], goal, known, tuple(unknown), tuple(dropped)
    )


def halve_precision(state_dict: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return weights as float16; running statistics, whose range is wider, stay as they are.

    Raises:
        CheckpointError: A weight is beyond the range of float16, 65,504.
    """
    result = OrderedDict(state_dict)
    for name, tensor in state_dict.items():
        if tensor.is_floating_point() and not name.endswith(("running_mean", "running_var")):
            result[name] = tensor.half()
            if not result[name].isfinite().all():
                raise CheckpointError(f"{name} has values beyond the range of half precision")
    return result


def wrap_state_dict(conversion: Conversion) -> dict:
    """Return a state dict in its project's file format: under `model`, `state_dict`, or bare."""
    state = conversion.state_dict
    if conversion.target == "official" and not any(k.startswith("backbone.") for k in state):
        return {"model": state}
    if conversion.target in ("official", "mmpretrain"):
        return {"state_dict": state}
    return state


def _recognize(tensors: dict, source: str, minimum_share: float) -> tuple[Family, int]:
    """Find the family of models, and the column of names, that fit best."""
    candidates = [
        (family, column)
        for family in FAMILIES
        for column, layout in enumerate(family.layouts)
        if source in ("auto", layout) or (source == "hordet" and column == 0)
    ]
    counts = []
    for family, column in candidates:
        names = [name for name in tensors if not name.endswith(family.derived)]
        fits = re.compile("|".join(_expression(row[column], "?:") for row in family.rows))
        counts.append((sum(bool(fits.fullmatch(name)) for name in names), len(names)))
    best = max(range(len(counts)), key=lambda i: counts[i][0] / max(counts[i][1], 1))
    (fitting, total), (family, column) = counts[best], candidates[best]
    if not fitting or fitting < minimum_share * total:
        raise CheckpointError(
            f"the file is of no known kind of model: {fitting} of {total} names fit the nearest "
            f"({family.name}, {family.layouts[column]}; at least {minimum_share:.0%} are needed), "
            f"and it holds {', '.join(list(tensors)[:3]) or 'no tensor'}. Known are "
            + "; ".join(f"{f.name} ({', '.join(f.layouts)})" for f in FAMILIES)
            + ". A checkpoint of hordet train needs no conversion"
        )
    return family, column


def _rename(family: Family, column: int, to: int, name: str) -> str | None:
    """Return the name in another column, or None if no row fits."""
    for pattern, row in _patterns(family, column):
        if match := pattern.fullmatch(name):
            return row[to].format(**match.groupdict())
    return None


@cache
def _patterns(family: Family, column: int) -> list[tuple[re.Pattern, tuple[str, ...]]]:
    """Return each row with the pattern of its name in a column; groups have the fields' names."""
    return [(re.compile(_expression(row[column], "?P<{}>")), row) for row in family.rows]


def _expression(name: str, group: str) -> str:
    """Turn a name with fields into a regular expression.

    Args:
        name: A name with fields such as `{p}`.
        group: How the group of each field begins; `{}` stands for the field's name.
    """
    escaped = name.replace(".", r"\.")
    return re.sub(r"{(\w+)}", lambda m: f"({group.format(m[1])}{_FIELDS[m[1]]})", escaped)
