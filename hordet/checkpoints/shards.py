"""Conversion between tensors that are split among processes (DTensor) and whole tensors."""

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only


def gather_shards(state: Any) -> Any:
    """Return a state with whole tensors in place of shards; every process must call it."""
    return tree_map_only(DTensor, lambda shards: shards.full_tensor().cpu(), state)


def shard_like(tensor: Any, model: Any) -> Any:
    """Return a whole tensor split like `model`, if that is split; anything else unchanged.

    Args:
        tensor: A tensor that every process holds whole.
        model: A parameter of the model; its split is copied.
    """
    whole = isinstance(tensor, Tensor) and not isinstance(tensor, DTensor)
    if whole and isinstance(model, DTensor) and tensor.ndim == model.ndim:
        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
    return tensor
