r"""Pi-net block of degree N: a polynomial of the map, by products of convolutions.

Papers: G. Chrysos et al., "Deep Polynomial Neural Networks" (TPAMI 2021, "Pi-nets");
"Augmenting Deep Classifiers with Polynomial Neural Networks" (ECCV 2022, "PDC"), whose
classifiers stack such blocks. A polynomial of degree N of all pixels has a tensor of coefficients
for each degree; a coupled decomposition of these tensors makes it N products:

- form 'ncp', nested:  y_1 = (A_1 z) * b_1,  y_n = (A_n z) * (S_n y_{n-1} + b_n),  out = C y_N + c
- form 'ccp', coupled: y_1 = A_1 z,  y_n = (A_n z) * y_{n-1} + y_{n-1},  out = C y_N + c

with z the map, * the product of elements, A_n convolutions, S_n and C 1x1 convolutions, b_n one
number a channel (the papers' B_n b_n, which is a vector whatever its factors are).

**Relation to gnConv.** gnConv of order n is 'ncp' with p_0 in the place of b_1:
p_1 = f(q_0) * p_0 and p_{k+1} = f(q_k) * g_k(p_k), where q_k and p_0 are 1x1 convolutions of z,
f is a depthwise convolution (so A_k is a 1x1 convolution and f in a row) and g_k = S_k. It has
degree n + 1, and its widths grow from C / 2^(n-1) to C, where they are equal here. Its biases give
it the lower degrees, which b_n gives 'ncp' and the sum gives 'ccp'.

**What differs from the papers.** The blocks of PDC put norms on A_n z and a leaky ReLU behind; here
is the polynomial alone, since the neck adds norm and activation. The degree is that of the papers
(2 in most of their blocks); the size 3 of A_n is that of PDC's code.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Form = Literal["ncp", "ccp"]


class PiFusion(nn.Module):
    """Polynomial of degree N of a map; see the module for the equations.

    Args:
        channels: C of input and output.
        degree: N, the degree of the polynomial; there are N convolutions.
        form: 'ncp' or 'ccp'.
        rank: R, the width of the products; None is C.
        kernel_size: Odd size of the convolutions A_n.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `degree` or `rank` is below 1, the kernel is even, or `form` is unknown.
    """

    def __init__(
        self,
        channels: int,
        degree: int = 2,
        form: Form = "ncp",
        rank: int | None = None,
        kernel_size: int = 3,
    ) -> None:
        """Create A_n, S_n with b_n, and C; see `reset_parameters` for the start."""
        super().__init__()
        rank = channels if rank is None else rank
        if degree < 1 or rank < 1:
            raise ValueError(f"got degree={degree} and rank={rank}; both are at least 1.")
        if kernel_size % 2 == 0:
            raise ValueError(f"got kernel_size={kernel_size}; an even kernel would shift the map.")
        if form not in ("ncp", "ccp"):
            raise ValueError(f"got form={form!r}; allowed are 'ncp' and 'ccp'.")
        self.form = form
        self.factors: Any = nn.ModuleList(
            nn.Conv2d(channels, rank, kernel_size, padding=kernel_size // 2, bias=False)
            for _ in range(degree)
        )
        self.mixers: Any = nn.ModuleList()
        if form == "ncp":
            self.constant = nn.Parameter(torch.empty(rank, 1, 1))  # b_1
            self.mixers.extend(nn.Conv2d(rank, rank, 1) for _ in range(degree - 1))  # S_n, b_n
        self.proj_out = nn.Conv2d(rank, channels, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with all degrees, and the standard deviation of the input kept.

        Convolutions keep the variance; every b_n is 1, the constant that passes the lower degrees
        on. For an input of variance 1, y_n then has n with 'ncp' and 2^(n-1) with 'ccp', taken as
        independent, and C divides by its root. The papers do not state a start.
        """
        for conv in [*self.factors, *self.mixers, self.proj_out]:
            nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)
        degree = len(self.factors)
        variance = degree
        if self.form == "ncp":
            for constant in [self.constant, *(conv.bias for conv in self.mixers)]:
                nn.init.ones_(constant)
        else:
            variance = 2 ** (degree - 1)
        self.proj_out.weight.mul_(variance**-0.5)
        assert self.proj_out.bias is not None
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the polynomial: (N, C, H, W) -> (N, C, H, W)."""
        y = self.factors[0](x)
        if self.form == "ncp":
            y = y * self.constant
            for factor, mixer in zip(self.factors[1:], self.mixers, strict=True):
                y = factor(x) * mixer(y)
        else:
            for factor in self.factors[1:]:
                y = factor(x) * y + y
        return self.proj_out(y)
