"""Activations that the backward pass computes again instead of keeping.

A product of two maps, a norm or an activation costs little beside the convolution that reads it,
and its inputs are kept anyway. So whoever computes such a map does it by `make_recomputable`, which
notes on the map how it is made, and the layer that reads it does so inside `recompute`: there, what
would keep the map for its gradient keeps the note. The map's memory is free as soon as the forward
pass is done with it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import disable_saved_tensors_hooks, saved_tensors_hooks

_NOTE = "_computed_again_by"
_enabled = True


def switch_recomputation(enabled: bool) -> None:
    """Let this process keep all activations, as plain layers do, or compute some again.

    Off, a training step needs more memory and fewer kernels; numbers stay the same. For a GPU with
    memory to spare, whose host cannot launch kernels fast enough. It is on at first.
    """
    global _enabled
    _enabled = enabled


@contextmanager
def keep_all_activations() -> Iterator[None]:
    """Keep all activations inside, as for a gradient that is differentiated itself.

    What is computed again has no gradient of its own, so that such a second one would lack a part.
    """
    before = _enabled
    switch_recomputation(False)
    try:
        yield
    finally:
        switch_recomputation(before)


def make_recomputable(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Return `function(*inputs)`, with a note of how to compute it again.

    The second computation sees the same tensors, the same autocast and no gradient. Without a
    gradient to compute, with recomputation switched off, or under `torch.compile`, whose compiler
    makes this choice itself, there is no note.

    Args:
        function: Gives the same values and memory layout each time.
        inputs: All that it reads, the parameters too: a module's may be others by then.
    """
    result = function(*inputs)
    if (
        _enabled
        and not torch.compiler.is_compiling()
        and result.requires_grad
        and not result.is_meta
    ):
        detached = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        autocast = _read_autocast(result.device.type)
        setattr(result, _NOTE, partial(_compute_again, function, detached, autocast))
    return result


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a map in another dtype, which can be computed again if the map can."""
    if x.dtype == dtype:
        return x
    result = x.to(dtype)
    again = None if torch.compiler.is_compiling() else getattr(x, _NOTE, None)
    if again is not None:
        setattr(result, _NOTE, lambda: again().to(dtype))
    return result


def cast_as_autocast(x: Tensor) -> Tensor:
    """Return a map in the dtype in which autocast hands it to a convolution or linear layer.

    Autocast would make a copy that has no note, and that copy would be kept.
    """
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x
    return x if x.dtype == torch.float64 else cast(x, torch.get_autocast_dtype(device))


@contextmanager
def recompute(x: Tensor) -> Iterator[None]:
    """Inside, an operator that would keep `x` for its gradient computes it again in its place.

    Everything else is kept as usual, and `x` too if it has no note. Where hooks of someone else
    decide what is kept, such as those of a checkpoint around the whole block, they decide on `x`.

    Args:
        x: What the operators inside read.
    """
    again = None if torch.compiler.is_compiling() else getattr(x, _NOTE, None)
    if again is None or _others_decide():
        yield
        return
    # The hooks live as long as the graph, so they must not hold `x`. This frame does, as long as
    # they can be called: no other tensor comes to lie at its address.
    address, count, dtype = x.data_ptr(), x.numel(), x.dtype

    def pack(kept: Tensor) -> Any:
        if kept.data_ptr() == address and kept.numel() == count and kept.dtype == dtype:
            return again, kept.shape, kept.stride()
        return kept

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        again, shape, stride = kept
        return again().as_strided(shape, stride)

    with saved_tensors_hooks(pack, unpack):
        yield


def _others_decide() -> bool:
    """Whether hooks for kept tensors are set already: forbidding them would be an error then."""
    try:
        with disable_saved_tensors_hooks("set"):
            return False
    except RuntimeError:
        return True


def _read_autocast(device: str) -> dict[str, Any] | None:
    """Return what autocast is now, as arguments of `torch.autocast`; None if there is none."""
    if not torch.amp.is_autocast_available(device):
        return None
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    # No cache: a weight that is cast without a gradient would be found there with one.
    return dict(device_type=device, dtype=dtype, enabled=enabled, cache_enabled=False)


def _compute_again(
    function: Callable[..., Tensor], inputs: list[Any], autocast: dict[str, Any] | None
) -> Tensor:
    """Compute as in the forward pass, of which the backward pass knows nothing else."""
    with torch.no_grad(), nullcontext() if autocast is None else torch.autocast(**autocast):
        return function(*inputs)
