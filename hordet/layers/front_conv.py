"""The convolution in front of attention that weighs a map."""

from torch import nn


def build_front_conv(channels: int, reduction: int, kernel_size: int | None) -> nn.Module:
    """Build the convolution whose output an attention weighs, without a bias.

    Args:
        channels: C of input and output.
        reduction: What divides the width of the attention; checked for it.
        kernel_size: Odd size of the convolution; None for none.

    Raises:
        ValueError: The kernel is even, or `reduction` is below 1.
    """
    if reduction < 1 or (kernel_size is not None and kernel_size % 2 == 0):
        raise ValueError(
            f"got reduction={reduction} and kernel_size={kernel_size}; allowed are a "
            "reduction of at least 1 and an odd kernel or None."
        )
    if kernel_size is None:
        return nn.Identity()
    return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
