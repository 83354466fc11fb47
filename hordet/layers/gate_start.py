"""How the parameters of a gnConv start: nearly linear, so that gates neither shrink nor blow up."""

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from hordet.layers.global_filter import GlobalLocalFilter

if TYPE_CHECKING:
    from hordet.layers.gnconv import GnConv

# How the gnConvs of a neck or head start; see HorFPN.
Start = Literal["default", "near_linear", "official"]
# The part of a kernel that is not zero at the context start: as wide as what a gnConv replaces.
CENTER = 3


def require_start(init: str) -> None:
    """Check the name of a start.

    Raises:
        ValueError: There is no such start.
    """
    if init not in get_args(Start):
        allowed = ", ".join(map(repr, get_args(Start)))
        raise ValueError(f"got init={init!r}; allowed are {allowed}.")


@torch.no_grad()
def init_near_linear(gnconv: "GnConv", gate_std: float) -> None:
    """Start every gate as 1 plus a small response of the mixer; see `GnConv.init_near_linear`.

    Args:
        gnconv: A `hordet.layers.GnConv`; changed in place.
        gate_std: Standard deviation of a gate around 1 when the input has std 1.
    """
    _init_projections(gnconv)
    mixer: Any = gnconv.dwconv
    if isinstance(mixer, GlobalLocalFilter):
        # The norm at the filter's end fixes the standard deviation of the gates.
        nn.init.constant_(mixer.post_norm.weight, gate_std / gnconv.scale)
        nn.init.constant_(mixer.post_norm.bias, 1 / gnconv.scale)
        # Both halves enter that norm with the same standard deviation.
        nn.init.normal_(mixer.dw.weight, std=1 / 3)
        nn.init.normal_(mixer.complex_weight, std=0.5**0.5)
    else:
        taps = mixer.weight[0].numel()
        nn.init.normal_(mixer.weight, std=gate_std / gnconv.scale / taps**0.5)
        nn.init.constant_(mixer.bias, 1 / gnconv.scale)


@torch.no_grad()
def init_context(gnconv: "GnConv", input_std: float, gate_std: float) -> None:
    """Start as a separable 3x3 convolution of full rank, from which the gating grows.

    With all gates near 1 (`init_near_linear`), a gnConv is a chain of matrices through C / 2^(n-1)
    channels: its rank is low, and neighboring pixels enter through products alone. Here the last
    gate starts as plain context, and the rest as 1:

    - what the last gate is multiplied by is 1 plus a small response (bias 1 of the last 1x1
      convolution in front of it);
    - the last gate is a random 3x3 response of unit gain, without an offset. With the global
      filter the local half is that convolution, and the global half starts as the transfer
      functions of such kernels;
    - the gates before it are 1 plus a small response.

    Not in the paper; docs/concepts.md shows what it changes.

    Args:
        gnconv: A `hordet.layers.GnConv`; changed in place.
        input_std: Standard deviation of the input. The first projection divides by it and the last
            multiplies by it, so that the share of the products does not depend on it.
        gate_std: Standard deviation of what is 1 at the start but for small responses.
    """
    _init_projections(gnconv)
    gnconv.proj_in.weight.div_(input_std)
    if isinstance(gnconv.proj_out, nn.Conv2d):
        gnconv.proj_out.weight.mul_(input_std)
    # Of order 1 it is p itself, the first part of the first projection.
    before: Any = gnconv.pws[-1] if gnconv.pws else gnconv.proj_in
    width = gnconv.dims[-1]
    before.weight[:width].mul_(gate_std)
    before.bias[:width].fill_(1.0)

    mixer: Any = gnconv.dwconv
    if isinstance(mixer, GlobalLocalFilter):
        mixer.dw.weight.copy_(_draw_kernels(mixer.dw.weight))
        kernels = _draw_kernels(mixer.dw.weight)[:, 0]
        height, columns = mixer.gf_size
        mixer.complex_weight.copy_(compute_transfer(kernels, (height, columns)))
        affine: Any = mixer.post_norm
        affine.weight[:-width].fill_(gate_std / gnconv.scale)
        affine.weight[-width:].fill_(1 / gnconv.scale)
    else:
        affine = mixer
        taps = mixer.weight[0].numel()
        nn.init.normal_(mixer.weight[:-width], std=gate_std / gnconv.scale / taps**0.5)
        mixer.weight[-width:].copy_(_draw_kernels(mixer.weight[-width:]) / gnconv.scale)
    affine.bias[:-width].fill_(1 / gnconv.scale)
    affine.bias[-width:].fill_(0.0)


def compute_transfer(kernels: Tensor, gf_size: tuple[int, int]) -> Tensor:
    """Return the transfer functions of small kernels, as a filter of `GlobalLocalFilter`.

    The filter is resized to each spectrum with aligned corners: its h rows span all frequencies of
    the wrap-around axis, its w columns those of the half axis, both ends included.

    Args:
        kernels: (C, k, k), odd k; the middle tap is the pixel itself.
        gf_size: (h, w) of the filter.

    Returns:
        (C, h, w, 2), real and imaginary parts.
    """
    size = kernels.shape[-1]
    offsets = torch.arange(size, device=kernels.device, dtype=kernels.dtype) - size // 2
    height, width = gf_size
    rows = torch.linspace(0, 1, height, device=kernels.device, dtype=kernels.dtype)
    columns = torch.linspace(0, 0.5, width, device=kernels.device, dtype=kernels.dtype)
    # A convolution layer correlates: the tap at +1 brings the next pixel, a phase of +.
    phase = rows[:, None, None, None] * offsets[:, None] + columns[:, None, None] * offsets
    phase = 2 * math.pi * phase.expand(height, width, size, size)
    parts = [torch.einsum("cij,hwij->chw", kernels, wave) for wave in (phase.cos(), phase.sin())]
    return torch.stack(parts, dim=-1)


def _init_projections(gnconv: nn.Module) -> None:
    """Let every 1x1 convolution keep the standard deviation of its input."""
    for module in gnconv.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _draw_kernels(weight: Tensor) -> Tensor:
    """Return depthwise kernels (C, 1, k, k): random of norm 1 in the middle, zero around it."""
    kernels = torch.zeros_like(weight)
    first = max(0, (weight.shape[-1] - CENTER) // 2)
    middle = slice(first, weight.shape[-1] - first)
    drawn = torch.randn_like(kernels[:, :, middle, middle])
    kernels[:, :, middle, middle] = drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return kernels
