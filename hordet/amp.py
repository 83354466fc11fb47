"""Mixed precision on a CPU, which mmengine's AmpOptimWrapper refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn


class CpuAmpOptimWrapper(OptimWrapper):
    """An OptimWrapper whose forward pass runs in bfloat16 autocast.

    bfloat16 has float32's range, so the loss needs no scaling. Named by its full path in a config:
    `optim_wrapper=dict(type='hordet.amp.CpuAmpOptimWrapper', ...)`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of `model` in bfloat16 where torch thinks it safe."""
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
