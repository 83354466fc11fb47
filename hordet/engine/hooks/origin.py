"""Where a number that is none comes from: the first module of a forward pass that gave one."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def find_first_not_finite(model: nn.Module, data_batch: Any) -> str | None:
    """Name the first module whose output is not finite in a training forward pass.

    Args:
        model: A model of mmengine, in training mode; its buffers change as in training.
        data_batch: A batch as the data loader gives it.

    Returns:
        The module's dotted name and class; "the images themselves" if those are not finite; None
        if all outputs are finite.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if not found and any(not torch.isfinite(each).all() for each in _tensors(output)):
            found.append(f"{name} ({type(module).__name__})")

    handles = [
        module.register_forward_hook(lambda m, _, output, name=name: look(name, m, output))
        for name, module in model.named_modules()
        if name and not name.startswith("data_preprocessor")
    ]
    runnable: Any = model
    try:
        with torch.no_grad():
            data = runnable.data_preprocessor(data_batch, True)
            inputs = data.get("inputs") if isinstance(data, dict) else data
            if any(not torch.isfinite(each).all() for each in _tensors(inputs)):
                return "the images themselves"
            runnable._run_forward(data, mode="loss")
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
