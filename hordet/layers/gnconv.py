"""Recursive gated convolution, the operation that HorNet is named after."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from hordet.layers.depthwise import DepthwiseConv2d
from hordet.layers.gate_start import init_context, init_near_linear
from hordet.layers.global_filter import GlobalLocalFilter
from hordet.layers.pointwise import PointwiseConv2d, SplitPointwiseConv2d
from hordet.layers.recomputed import multiply

Spatial = Literal["dw7x7", "gf"]
# Another way to compute the gates: as `hordet.layers.triton_gates.compute_gates`.
Gates = Callable[[Tensor, Tensor, nn.Module, nn.ModuleList, float], Tensor]


class GnConv(nn.Module):
    """Recursive gated convolution of order n (HorNet section 3.1, equations 3.1 to 3.5).

    A 1x1 projection gives p_0 and q_0..q_{n-1}; one spatial mixer f works on all q at once; then p
    is multiplied by each f(q_k) in turn, projected by a 1x1 convolution in between, so that pixels
    interact up to order n. The widths double from C / 2^(n-1) to C.

    Args:
        in_channels: Channels of the input.
        out_channels: C, the channels of the output; a multiple of 2^(n-1), for 'gf' of 2^n.
        order: n, the number of gates.
        spatial: The mixer f: 'dw7x7' is a depthwise convolution, 'gf' a `GlobalLocalFilter`.
        kernel_size: Odd size of the depthwise kernel ('dw7x7' only).
        gf_size: (h, w) of the learned filter ('gf' only).
        scale: Factor on f(q); 1/3 in HorNet, 1 in HorFPN.
        proj_out: End with a 1x1 projection.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H, W).

    Raises:
        ValueError: The width cannot be split into the order, the kernel is even, or `spatial`
            is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int,
        spatial: Spatial = "dw7x7",
        kernel_size: int = 7,
        gf_size: tuple[int, int] = (14, 8),
        scale: float = 1.0,
        proj_out: bool = True,
    ) -> None:
        """Create the projections, the mixer and the n - 1 convolutions between the gates."""
        super().__init__()
        if spatial not in ("dw7x7", "gf"):
            raise ValueError(f"got spatial={spatial!r}; allowed are 'dw7x7' and 'gf'.")
        require_width(out_channels, order, spatial)
        self.order = order
        self.scale = scale
        self.gates: Gates | None = None
        self.dims = [out_channels >> (order - 1 - k) for k in range(order)]
        mixed = sum(self.dims)

        self.proj_in = SplitPointwiseConv2d(in_channels, (self.dims[0], mixed))
        self.dwconv: nn.Module
        if spatial == "gf":
            self.dwconv = GlobalLocalFilter(mixed, gf_size)
        else:
            self.dwconv = DepthwiseConv2d(mixed, kernel_size)
        self.pws = nn.ModuleList(
            PointwiseConv2d(narrow, wide)
            for narrow, wide in zip(self.dims[:-1], self.dims[1:], strict=True)
        )
        self.proj_out = PointwiseConv2d(out_channels, out_channels) if proj_out else nn.Identity()

    def forward(self, x: Tensor, layer_scale: Tensor | None = None) -> Tensor:
        """Gate n times: (N, in_channels, H, W) -> (N, out_channels, H, W).

        Args:
            x: The map.
            layer_scale: (out_channels,), on the output; needs `proj_out`, into which it goes.
        """
        p, q = self.proj_in(x)  # equation 3.3
        if self.gates is not None:
            p = self.gates(p, q, self.dwconv, self.pws, self.scale)
            return self.proj_out(p) if layer_scale is None else self.proj_out(p, layer_scale)
        gates = self.dwconv(q, self.scale).split(self.dims, dim=1)  # f, times s
        p = multiply(p, gates[0])
        for pw, gate in zip(self.pws, gates[1:], strict=True):  # equation 3.4
            p = multiply(pw(p), gate)
        return self.proj_out(p) if layer_scale is None else self.proj_out(p, layer_scale)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the factor on f(q) into the last parameters of f; for inference, not undone."""
        mixer = self.dwconv
        last = mixer.post_norm if isinstance(mixer, GlobalLocalFilter) else mixer
        for parameter in last.parameters(recurse=False):
            parameter.mul_(self.scale)
        self.scale = 1.0

    def init_near_linear(self, gate_std: float = 0.25) -> None:
        """Start as a nearly linear layer that keeps the standard deviation of its input.

        Gates multiply, so an initialization made for plain convolutions shrinks (or blows up) the
        signal at every gate. Here each gate starts as 1 plus a small response of its mixer, and
        each 1x1 convolution keeps the variance. Not in the paper.

        Args:
            gate_std: Standard deviation of a gate around 1 when the input has std 1.
        """
        init_near_linear(self, gate_std)

    def init_context(self, input_std: float = 1.0, gate_std: float = 0.25) -> None:
        """Start as a nearly linear layer of full rank that sees the eight pixels around each.

        See `hordet.layers.gate_start.init_context`. Not in the paper.

        Args:
            input_std: Standard deviation of the input, which the layer keeps.
            gate_std: Standard deviation of what is 1 at the start but for small responses.
        """
        init_context(self, input_std, gate_std)


def require_width(channels: int, order: int, spatial: Spatial) -> None:
    """Check that a width can be halved for each gate.

    Args:
        channels: C, the width of the last gate.
        order: n, the number of gates.
        spatial: 'gf' halves the sum of the widths once more.

    Raises:
        ValueError: It cannot; the message says which widths and orders can.
    """
    if order < 1:
        raise ValueError(f"got order={order}; a gnConv needs at least one gate.")
    step = 2 ** (order if spatial == "gf" else order - 1)
    if channels < step or channels % step:
        below, above = channels // step * step, (channels // step + 1) * step
        allowed = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"{channels} channels cannot be split for a gnConv of order {order} "
            f"(spatial={spatial!r}): multiples of {step} can, the nearest {allowed}. "
            "Or choose a lower order."
        )
