"""FPLUS and PFPLUS: activations of first powers with sign (Duan et al., Electronics 11, 2022)."""

import torch
from torch import Tensor, nn


class FPLUS(nn.Module):
    """First power linear unit with sign: x where x >= 0, (1 - x)^-1 - 1 = x / (1 - x) elsewhere.

    It is the function (|x| + 1)^sgn(x) - 1 (arXiv 2111.14349): continuous with its slope, convex,
    and bounded by -1 from below, as ELU is, without an exponential.

    Shape:
        Any, kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each value."""
        return torch.where(x >= 0, x, x / (1 + x.abs()))


class PFPLUS(nn.Module):
    """FPLUS with two learned parameters: lambda x where x >= 0, lambda x / (1 - omega x) elsewhere.

    lambda is the amplitude and omega how fast the negative side bends toward -lambda / omega. At
    lambda = omega = 1 it is FPLUS, and so it starts, as the author's code does. Added here is
    |omega| in the place of omega, so that the denominator never vanishes. One pair serves a layer,
    as PReLU has one slope. Let no weight decay act on either.

    Args:
        trainable: Learn both; otherwise they stay at their start.
        amplitude: Start of lambda.
        bend: Start of omega, above 0; also 0 if it is not learned, where |omega| has no slope.

    Shape:
        Any, kept.

    Raises:
        ValueError: `bend` is out of its range.
    """

    amplitude: Tensor
    bend: Tensor

    def __init__(self, trainable: bool = True, amplitude: float = 1.0, bend: float = 1.0) -> None:
        """Create both as parameters, or as buffers if they are not learned."""
        super().__init__()
        if bend < 0 or (trainable and bend == 0):
            raise ValueError(
                f"got bend={bend}; allowed is more than 0, and 0 with trainable=False: at 0 it "
                "would never learn."
            )
        for name, value in (("amplitude", amplitude), ("bend", bend)):
            if trainable:
                self.register_parameter(name, nn.Parameter(torch.tensor(value)))
            else:
                self.register_buffer(name, torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each value."""
        amplitude, bend = self.amplitude.to(x.dtype), self.bend.abs().to(x.dtype)
        return amplitude * torch.where(x >= 0, x, x / (1 + bend * x.abs()))
