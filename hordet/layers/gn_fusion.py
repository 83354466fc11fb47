"""gnConv in the place of a 3x3 ConvModule, as the necks and heads use it."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hordet.layers.gnconv import GnConv


class GnFusion(GnConv):
    """gnConv, then an optional norm and activation (HorNet section 3.3, HorFPN).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        order: Number of gates; 2 in HorFPN.
        norm: (name, module) as mmcv's `build_norm_layer` returns it, or None.
        act: The activation, or None.
        kwargs: The other parameters of `GnConv`.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H, W).

    Raises:
        ValueError: As `GnConv` does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 2,
        norm: tuple[str, nn.Module] | None = None,
        act: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the gnConv; the norm keeps its name so that checkpoints fit."""
        super().__init__(in_channels, out_channels, order, **kwargs)
        self.norm_name = None
        if norm is not None:
            self.norm_name, module = norm
            self.add_module(self.norm_name, module)
        self.activate = act

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Fuse, normalize, activate: (N, in_channels, H, W) -> (N, out_channels, H, W)."""
        x = super().forward(x)
        if self.norm_name is not None:
            x = getattr(self, self.norm_name)(x)
        return x if self.activate is None else self.activate(x)

    def switch_to_deploy(self) -> None:
        """Fold the factor on f(q) and a batch norm; for inference, not undone."""
        super().switch_to_deploy()
        norm = None if self.norm_name is None else getattr(self, self.norm_name)
        if isinstance(norm, _BatchNorm) and isinstance(self.proj_out, nn.Conv2d):
            self.proj_out = fuse_conv_bn_eval(self.proj_out, norm)
            del self._modules[str(self.norm_name)]
            self.norm_name = None
