"""Activations that the backward pass computes again instead of keeping."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


@contextmanager
def recompute(result: Tensor, again: Callable[[], Tensor]) -> Iterator[None]:
    """Inside, an operator that would keep `result` for its gradient keeps `again` in its place.

    For what is cheap to compute from tensors that are kept anyway, such as a product of two of
    them: the memory of `result` is free as soon as the forward pass is done with it. Everything
    else is kept as usual. Under `torch.compile`, whose compiler makes this choice itself, nothing
    changes.

    Args:
        result: What the operators inside read.
        again: Computes it once more, in the same dtype and layout; it must hold the tensors that
            it reads, not a module whose parameters may be others by then.
    """
    if torch.compiler.is_compiling() or not result.requires_grad or result.is_meta:
        yield
        return
    address, count = result.data_ptr(), result.numel()

    def pack(kept: Tensor) -> Any:
        if kept.data_ptr() == address and kept.numel() == count and kept.dtype == result.dtype:
            return again, kept.shape, kept.stride()
        return kept

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        again, shape, stride = kept
        with torch.no_grad():
            return again().as_strided(shape, stride)

    with saved_tensors_hooks(pack, unpack):
        yield
