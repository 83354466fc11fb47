"""Fetches the weights by name that a training starts from, and checks that they fill their part.

mmengine loads initial weights without counting what they fill, and long after the start.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from hordet import checkpoints
from hordet.config.faults import walk_dicts
from hordet.errors import CheckpointError, list_first
from hordet.registry import MODELS

# Norms of the outputs of a dense backbone, which files of a classifier do not have.
_OUTPUT_NORM = re.compile(r"norms?\d*\..*")


def require_initial_weights(cfg: Config) -> None:
    """Fetch every `hordet://NAME` that a part of the model starts from, and try it on that part.

    Args:
        cfg: Of a training.

    Raises:
        CheckpointError: A name is unknown, its file cannot be had, or a parameter of its part other
            than the norms of the outputs would keep its random start.
    """
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        for part, source in _find_parts(cfg.model):
            checkpoints.ensure_file(source.partition("#")[0])
            checkpoints.use_safe_loading()
            unfilled = _find_unfilled(part)
            if unfilled:
                if fault := checkpoints.find_fault(source)[1]:
                    raise CheckpointError(fault)
                raise CheckpointError(
                    f"{source} does not fill {part['type']}: {len(unfilled)} of its parameters "
                    f"stay random ({list_first(unfilled, 3)}). Take weights of the same model; "
                    "`hordet weights list` says what each name is"
                )


def _find_parts(model: Any) -> Iterator[tuple[dict[str, Any], str]]:
    for part in walk_dicts(model):
        init = part.get("init_cfg")
        if "type" in part and isinstance(init, dict) and init.get("type") == "Pretrained":
            if checkpoints.is_named(init.get("checkpoint")):
                yield part, init["checkpoint"]


def _find_unfilled(part: dict[str, Any]) -> list[str]:
    """Return the parameters that a part's own way of loading leaves as they were: here, NaN."""
    module = MODELS.build(copy.deepcopy(part))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    module.init_weights()
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.isnan().any() and not _OUTPUT_NORM.fullmatch(name)
    ]
