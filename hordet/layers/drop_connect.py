"""DropConnect: dropout on weights (Wan et al., ICML 2013)."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hordet.layers.wrapped_conv import WrappedConv


class DropConnect(WrappedConv):
    """A convolution, or a linear layer, that leaves out connections at random in training.

    y = (m * w) x with m drawn for each forward, 0 with probability p and 1 / (1 - p) otherwise, so
    that the mean of y is the output of the whole layer, which evaluation gives.

    What differs from the paper: one mask is drawn for a batch, not one for each of its images,
    which a convolution cannot take; and the mean layer stands for the paper's sampling at test
    time. EfficientNet's "drop connect" is another thing, stochastic depth.

    Args:
        conv: The convolution.
        p: Probability that a connection is left out, from 0 to below 1.

    Shape:
        As the convolution's.

    Raises:
        ValueError: `p` is outside of its range.
    """

    def __init__(self, conv: nn.Module, p: float = 0.5) -> None:
        """Keep the convolution."""
        super().__init__(conv)
        if not 0 <= p < 1:
            raise ValueError(f"got p={p}; allowed is 0 to below 1.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the connections that are drawn."""
        if not self.training or self.p == 0:
            return self.conv(x)
        return functional_call(self.conv, {"weight": F.dropout(self.conv.weight, self.p)}, (x,))

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"p={self.p}"
