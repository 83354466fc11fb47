"""What backbones over the models of another library share: outputs, modes and weights."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hordet.checkpoints import fill_model, load_checkpoint, require_coverage
from hordet.errors import did_you_mean
from hordet.layers import LayerNorm2d

STRIDES = (4, 8, 16, 32)


def require_arch(arch: str, allowed: Collection[str]) -> None:
    """Check the name of an architecture.

    Raises:
        ValueError: It is none of those that are allowed.
    """
    if arch not in allowed:
        hint = did_you_mean(arch, allowed) or "."
        names = (" and " if len(allowed) == 2 else ", ").join(allowed)
        raise ValueError(f"got arch={arch!r}{hint} Allowed are {names}.")


def init_convs(model: nn.Module) -> None:
    """Start all convolutions as ResNet does (He et al., ICCV 2015, eq. 14), with biases of 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class WrappedBackbone(BaseModule):
    """A backbone around `self.model`, whose parameters keep the names of their library.

    Args:
        model_name: The library's name of the model.
        norm_eval: Keep every BatchNorm in eval mode.
        init_cfg: None, or dict(type='Pretrained', checkpoint=...).
    """

    model: Any  # a module, whose methods are its library's
    _is_init: bool  # of BaseModule
    out_channels: tuple[int, ...]

    def __init__(self, model_name: str, norm_eval: bool, init_cfg: dict[str, Any] | None) -> None:
        """Keep the settings; the subclass builds `self.model` and calls `_choose_outputs`."""
        super().__init__(init_cfg=init_cfg)
        self.model_name = model_name
        self.norm_eval = norm_eval

    @classmethod
    def declare_channels(cls, **options: Any) -> tuple[int, ...]:
        """Return the channels of each output of a backbone of these options.

        The library knows them of a model; here its parameters have shapes and no values.

        Args:
            options: As of the class.

        Raises:
            ValueError: As the class does.
        """
        options = {**options, "init_cfg": None}
        try:
            with torch.device("meta"):
                return cls(**options).out_channels
        except (RuntimeError, ValueError):
            # A model that computes with values while it is built, or options that are wrong.
            return cls(**options).out_channels

    def _choose_outputs(
        self,
        strides: Sequence[int],
        channels: Sequence[int],
        out_indices: Sequence[int] | None,
        out_norm: bool,
    ) -> None:
        """Set the outputs, by default the last feature of each of the strides 4, 8, 16, 32.

        Args:
            strides: Stride of each feature of the model.
            channels: Channels of each feature.
            out_indices: Ascending indices into both, or None.
            out_norm: Build a LayerNorm for each output.

        Raises:
            ValueError: The features form no pyramid, or an index is outside of them.
        """
        strides = list(strides)
        if len({*strides} & {*STRIDES}) < 2:
            given = ", ".join(str(stride) for stride in sorted({*strides}))
            raise ValueError(
                f"got model_name={self.model_name!r}, which gives "
                + (f"features of stride {given} only" if given else "no features")
                + ": no pyramid for a neck. Take a model with stages, such as 'resnet50' or, of "
                "timm, 'convnext_tiny'."
            )
        if out_indices is None:
            last = {stride: index for index, stride in enumerate(strides)}
            out_indices = [last[stride] for stride in STRIDES if stride in last]
        if not out_indices or list(out_indices) != sorted({*out_indices} & {*range(len(strides))}):
            listed = ", ".join(f"{i} (stride {s})" for i, s in enumerate(strides))
            raise ValueError(
                f"got out_indices={tuple(out_indices)}; allowed are ascending features of "
                f"{self.model_name}: {listed}."
            )
        self.out_indices = tuple(out_indices)
        self.out_channels = tuple(channels[i] for i in out_indices)
        self.out_strides = tuple(strides[i] for i in out_indices)
        self.norms = nn.ModuleList(LayerNorm2d(c) for c in self.out_channels if out_norm)

    def _run_stages(
        self, x: Tensor, stages: Iterable[Callable[[Tensor], Tensor]]
    ) -> tuple[Tensor, ...]:
        """Run stages one after the other, and return the outputs of those in `out_indices`."""
        outs = []
        for index, stage in enumerate(stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _normed(self, outs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Apply the output norms, if there are any."""
        if not self.norms:
            return tuple(outs)
        return tuple(norm(out) for norm, out in zip(self.norms, outs, strict=True))

    def init_weights(self) -> None:
        """Load `init_cfg`'s weights and log their coverage; without any, keep the library's start.

        Raises:
            ValueError: `init_cfg` is of a type other than 'Pretrained'.
            hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
        """
        if not self.init_cfg or self._is_init:
            return
        if self.init_cfg.get("type") != "Pretrained":
            raise ValueError(
                f"got init_cfg={self.init_cfg}; allowed is dict(type='Pretrained', "
                "checkpoint=PATH), or None for the library's initialization."
            )
        source = str(self.init_cfg["checkpoint"])
        checkpoint = self._read(source)
        coverage = fill_model(self, checkpoint)
        require_coverage(coverage, 0.5, source)
        self.loaded = f"{source}: {coverage}"  # for the console's summary of the run
        print_log(self.loaded, logger="current")
        self._is_init = True

    def _read(self, source: str) -> dict[str, Any]:
        """Open the checkpoint that `init_cfg` names."""
        return load_checkpoint(source)

    def train(self, mode: bool = True) -> "WrappedBackbone":
        """Switch the mode; with `norm_eval`, every BatchNorm stays in eval mode."""
        super().train(mode)
        for module in self.modules():
            if self.norm_eval and isinstance(module, _BatchNorm):
                module.eval()
        return self
