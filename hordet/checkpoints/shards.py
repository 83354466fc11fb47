"""Conversion between tensors that are split among processes (DTensor) and whole tensors."""

import sys
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only


def gather_shards(state: Any) -> Any:
    """Return a state with whole tensors in place of shards; every process must call it."""
    return tree_map_only(is_shard, lambda shards: shards.full_tensor().cpu(), state)


def shard_like(tensor: Any, model: Any) -> Any:
    """Return a whole tensor split like `model`, if that is split; anything else unchanged.

    Args:
        tensor: A tensor that every process holds whole.
        model: A parameter of the model; its split is copied.
    """
    whole = isinstance(tensor, Tensor) and not is_shard(tensor)
    if whole and is_shard(model) and tensor.ndim == model.ndim:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
    return tensor


def is_shard(value: Any) -> bool:
    """Tell whether a value is a DTensor: then its module is there, which takes a second to load."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)
