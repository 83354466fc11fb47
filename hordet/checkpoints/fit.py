"""Compares a file's tensors with the model that its name stands for, by names, shapes and values.

`shapes.json.gz` has the shapes of every model that can be fetched, in hordet's names; without the
classifiers of backbones, which no model here uses. `tests/checkpoints/model_shapes.py` writes it.
"""

import gzip
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from torch import Tensor

from hordet.checkpoints.weights import Weights
from hordet.errors import CheckpointError, list_first

NOT_FINITE = "NaN or infinite values"
SHAPES = Path(__file__).with_name("shapes.json.gz")
# What files hold beside a model: counters of BatchNorm, buffers that models compute themselves,
# and, beside a backbone, the classifier and the norm before it.
_BESIDE_MODEL = re.compile(r".*(num_batches_tracked|relative_position_index|attn_mask)")
_BESIDE_BACKBONE = re.compile(_BESIDE_MODEL.pattern + r"|(head|fc|classifier|norm\d?)\..*")


@cache
def read_shapes() -> dict[str, dict[str, list[int]]]:
    """Return the shapes of the tensors of each model by the name of its weights."""
    return json.loads(gzip.decompress(SHAPES.read_bytes()))


def require_fit(weights: Weights, tensors: Mapping[str, Tensor], source: str) -> None:
    """Check that tensors are those of the model that the name of weights stands for, all of it.

    Args:
        weights: That can be fetched.
        tensors: Under hordet's names.
        source: What the tensors are from, for the message.

    Raises:
        CheckpointError: A tensor is missing, of another shape, or of no use to the model. The
            message names the first of each, and the weights whose model the tensors do fit. Or
            their values are no weights.
    """
    shapes = {key: [*tensor.shape] for key, tensor in tensors.items()}
    names = find_names(shapes)
    wanted = read_shapes()[weights.name]
    if weights.name in names:
        # All of them are learned, or statistics of BatchNorm.
        unusable = find_unusable(tensors, wanted, wanted)
        if unusable:
            raise CheckpointError(f"{source} {describe_unusable(unusable)}")
        return
    missing = [key for key in wanted if key not in shapes]
    extra = [key for key in shapes if key not in wanted and not _is_beside(weights.name, key)]
    wrong = [
        f"{key} is {_write(shapes[key])} in the file, {_write(shape)} in the model"
        for key, shape in wanted.items()
        if shapes.get(key, shape) != shape
    ]
    faults = []
    if wrong:
        faults.append(f"{_count(wrong, wanted)} have another shape ({list_first(wrong, 1)})")
    if missing:
        faults.append(f"{_count(missing, wanted)} are missing ({list_first(missing, 3)})")
    if extra:
        others = f"{len(extra)} other{'s' * (len(extra) > 1)}"
        faults.append(f"it holds {others} ({list_first(extra, 3)})")
    hint = f". It fits {' or '.join(names)}" if names else ""
    raise CheckpointError(
        f"{source} is of another model than {weights.name} ({weights.what}): "
        f"{'; '.join(faults)}{hint}"
    )


def find_unusable(
    source: Mapping[str, Tensor], floating: Iterable[str], finite: Container[str]
) -> dict[str, list[str]]:
    """Return the names of tensors that cannot be a model's weights, by what they hold.

    Args:
        source: Tensors by the names of the model.
        floating: Names of the model's tensors of floating-point numbers.
        finite: Those whose values must be finite.
    """
    found: dict[str, list[str]] = {}
    for name in floating:
        value = source.get(name)
        if value is None:
            continue
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            found.setdefault(f"{kind} in place of floating-point numbers", []).append(name)
        elif name in finite and not value.float().isfinite().all():
            found.setdefault(NOT_FINITE, []).append(name)
    return found


def describe_unusable(unusable: Mapping[str, Sequence[str]]) -> str:
    """Say what `find_unusable` has found."""
    return " and ".join(
        f"holds {what} in {len(names)} of the model's tensors, first {names[0]}"
        for what, names in unusable.items()
    )


def find_names(shapes: Mapping[str, list[int]]) -> list[str]:
    """Return the names of weights whose model tensors of such shapes are, all of it."""
    return [
        name
        for name, wanted in read_shapes().items()
        if wanted.items() <= shapes.items()
        and all(key in wanted or _is_beside(name, key) for key in shapes)
    ]


def _is_beside(name: str, key: str) -> bool:
    """Tell whether a tensor may stand beside those of a model."""
    is_whole = any(own.startswith("backbone.") for own in read_shapes()[name])
    return bool((_BESIDE_MODEL if is_whole else _BESIDE_BACKBONE).fullmatch(key))


def _count(some: Sequence[str], wanted: Iterable[str]) -> str:
    return f"{len(some)} of {len([*wanted])} tensors"


def _write(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a number"
