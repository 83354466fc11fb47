"""Renaming the tensors of a checkpoint from one project's names to another's.

Pure: a conversion reads names and returns a new dict; no tensor's numbers change. Idempotent: what
is converted already stays as it is. Only torchvision's ConvNeXt needs a shape changed, its layer
scales of (C, 1, 1) being (C,) elsewhere. Global filters keep the size that they have in the file;
a model resizes them when it loads them.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from hordet.checkpoints.coverage import get_tensors
from hordet.checkpoints.layouts import FAMILIES, Family
from hordet.errors import CheckpointError

# `hordet` is what the models of this package read, under whoever's names that is.
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
        source: The project whose names the file had.
        target: The project whose names the tensors have now.
        known: Number of tensors whose names the source is known to use.
        unknown: The other names; these tensors are kept under them.
        dropped: Names of buffers left out, which the target computes for itself.
    """

    state_dict: OrderedDict[str, Tensor]
    family: str
    source: str
    target: str
    known: int
    unknown: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line: what the file is, and how many of its names are known."""
        if not self.family:
            return f"{len(self.state_dict)} tensors, names kept"
        total = self.known + len(self.unknown)
        line = f"{self.family}, {self.source} -> {self.target}: {self.known} of {total} names known"
        for word, names in (("unknown, kept", self.unknown), ("dropped", self.dropped)):
            if names:
                more = f", ... ({len(names)} in all)" if len(names) > 3 else ""
                line += f"; {word}: {', '.join(names[:3])}{more}"
        return line


def convert(
    checkpoint: dict, source: str = "auto", target: str = "hordet", minimum_share: float = 0.9
) -> Conversion:
    """Rename the tensors of a checkpoint; see `hordet.checkpoints.layouts` for what is known.

    Args:
        checkpoint: What `load_checkpoint` returns: bare tensors, or under `model` or `state_dict`.
        source: The project whose names it has, of `SOURCES`; 'auto' goes by the names alone.
            'hordet' to 'hordet' keeps the names of any model.
        target: The project whose names it shall have, of `TARGETS`.
        minimum_share: The least share of its names that must be known, 0 to 1.

    Returns:
        The tensors under their new names. They share memory with the given ones.

    Raises:
        CheckpointError: The source or target is unknown, there is no such conversion, or too few
            names are known; the message says how many.
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
    unknown, dropped = [], []
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


def wrap_state_dict(conversion: Conversion) -> dict:
    """Return a state dict in the form of its project's files: in `model`, `state_dict` or bare."""
    state = conversion.state_dict
    if conversion.target == "official" and not any(k.startswith("backbone.") for k in state):
        return {"model": state}
    if conversion.target in ("official", "mmpretrain"):
        return {"state_dict": state}
    return state


def _recognize(tensors: dict, source: str, minimum_share: float) -> tuple[Family, int]:
    """Find the family and the column whose names fit best."""
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
            f"this is no file of a known kind: {fitting} of {total} names fit the nearest "
            f"({family.name}, {family.layouts[column]}; at least {minimum_share:.0%} are needed), "
            f"and there is {', '.join(list(tensors)[:3]) or 'no tensor'}. Known are "
            + "; ".join(f"{f.name} ({', '.join(f.layouts)})" for f in FAMILIES)
        )
    return family, column


def _rename(family: Family, column: int, to: int, name: str) -> str | None:
    """Return the name in another column, or None where no row fits."""
    for pattern, row in _patterns(family, column):
        if match := pattern.fullmatch(name):
            return row[to].format(**match.groupdict())
    return None


@cache
def _patterns(family: Family, column: int) -> list[tuple[re.Pattern, tuple[str, ...]]]:
    """Return each row with the pattern of its name in a column; groups are named as its fields."""
    return [(re.compile(_expression(row[column], "?P<{}>")), row) for row in family.rows]


def _expression(name: str, group: str) -> str:
    """Turn a name with fields into a regular expression, each field a group that begins so."""
    escaped = name.replace(".", r"\.")
    return re.sub(r"{(\w+)}", lambda m: f"({group.format(m[1])}{_FIELDS[m[1]]})", escaped)
