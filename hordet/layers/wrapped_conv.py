"""A convolution in a wrapper that changes its weights or its output, and shows its attributes."""

from typing import Any

from torch import Tensor, nn


class WrappedConv(nn.Module):
    """A module around a convolution that is seen as that convolution.

    What the wrapper itself lacks, such as `weight`, `stride` or `out_channels`, is the
    convolution's, so that a `ConvModule` of mmcv and an initialization take it for one. The plain
    model's state dict loads, too: `conv1.weight` there is `conv1.conv.weight` here.

    Args:
        conv: The convolution, or any other module with a parameter `weight`.

    Raises:
        ValueError: `conv` is wrapped already.
    """

    conv: Any  # a module, whose attributes are its own

    def __init__(self, conv: nn.Module) -> None:
        """Keep the convolution as `conv`."""
        super().__init__()
        if isinstance(conv, WrappedConv):
            raise ValueError(
                f"got a {type(conv).__name__} inside a {type(self).__name__}; allowed is a "
                "convolution that is not wrapped yet: take one of the two."
            )
        self.conv = conv

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the convolution where the wrapper has none of that name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "conv":  # not built yet
                raise
            return getattr(super().__getattr__("conv"), name)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        """Give the keys of a plain convolution the names that they have in the wrapper."""
        for name in self.conv.state_dict():
            plain, wrapped = prefix + name, f"{prefix}conv.{name}"
            if plain in state_dict and wrapped not in state_dict:
                state_dict[wrapped] = state_dict.pop(plain)
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (N, C_in, H, W) -> (N, C_out, H', W')."""
        raise NotImplementedError

    def fold(self) -> nn.Module:
        """Return the plain convolution that computes what the wrapper does in evaluation."""
        return self.conv
