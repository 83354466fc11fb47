"""A convolution in a wrapper that changes its weights or its output, and shows its attributes."""

from typing import Any

from torch import Tensor, nn


class WrappedConv(nn.Module):
    """A module around a convolution that is seen as that convolution.

    What the wrapper itself lacks, such as `weight`, `stride` or `out_channels`, is the
    convolution's, so that a `ConvModule` of mmcv and an initialization take it for one.

    Args:
        conv: The convolution, or any other module with a parameter `weight`.
    """

    conv: Any  # a module, whose attributes are its own

    def __init__(self, conv: nn.Module) -> None:
        """Keep the convolution as `conv`."""
        super().__init__()
        self.conv = conv

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the convolution where the wrapper has none of that name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "conv":  # not built yet
                raise
            return getattr(super().__getattr__("conv"), name)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (N, C_in, H, W) -> (N, C_out, H', W')."""
        raise NotImplementedError

    def fold(self) -> nn.Module:
        """Return the plain convolution that computes what the wrapper does in evaluation."""
        return self.conv
