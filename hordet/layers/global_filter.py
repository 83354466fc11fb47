"""The global filter of HorNet-GF: half of the channels see the whole image through an FFT."""

from collections import OrderedDict
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.depthwise import DepthwiseConv2d
from hordet.layers.dft import dft_filter
from hordet.layers.layout import exporting, to_nchw, to_nhwc
from hordet.layers.norm import LayerNorm2d, layer_norm_2d

# A resized filter of a large map takes tens of MB: a few sizes are enough for a test set whose
# images repeat theirs, and a bound keeps one that never does from eating the memory.
MAX_CACHED_SIZES = 4
# Values of a map that go through the FFT at once on a CPU: 4 MB of float32 and their spectrum stay
# in the cache, where those of a whole large map are written to memory and read again four times.
CHUNK = 2**20

_ALL = slice(None)


class _SpectralProduct(torch.autograd.Function):
    """y = irfft2(rfft2(x) K), without factors of the transforms; gives the spectrum of x as well.

    torch differentiates rfft2 by a complex transform of the whole plane. The adjoint of a circular
    convolution is that with conj(K): grad x = irfft2(rfft2(grad y) conj(K)), two real transforms.
    grad K = sum_n c conj(rfft2(x)) rfft2(grad y), where c is 2 for a column of the half spectrum
    that stands for two of the whole, and otherwise 1. The spectrum is an output, so that a second
    derivative goes through it.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        """Filter: (N, C, H, W) and (C, H, W // 2 + 1) -> (N, C, H, W) and the spectrum."""
        ctx.size = x.shape[-2:]
        ctx.set_materialize_grads(False)
        spectrum = torch.fft.rfft2(x)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(spectrum, weight)
            product = spectrum * weight
        else:
            product = spectrum.mul_(weight)  # in place, for nobody asks for the spectrum
        return torch.fft.irfft2(product, s=ctx.size, norm="forward"), spectrum

    @staticmethod
    def backward(  # type: ignore[no-untyped-def]
        ctx, grad: Tensor | None, grad_spectrum: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Differentiate; made of differentiable operators, so that it works twice."""
        spectrum, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if grad is not None:
            # torch 2.6 cannot transform an expanded tensor, as a sum's gradient is, by MKL.
            turned = torch.fft.rfft2(grad.contiguous() if 0 in grad.stride() else grad)
            if ctx.needs_input_grad[0]:
                back = turned * weight.conj()
                grad_x = torch.fft.irfft2(back, s=ctx.size, norm="forward")
            if ctx.needs_input_grad[1]:
                counts = _count_columns(ctx.size[1], grad)
                grad_weight = (spectrum.conj() * turned).sum(0) * counts
        if grad_spectrum is not None and ctx.needs_input_grad[0]:
            half = grad_spectrum / _count_columns(ctx.size[1], grad_spectrum.real)
            further = torch.fft.irfft2(half, s=ctx.size, norm="forward")
            grad_x = further if grad_x is None else grad_x + further
        return grad_x, grad_weight


def _count_columns(width: int, like: Tensor) -> Tensor:
    """Return how many columns of a whole spectrum each of the half one stands for."""
    counts = like.new_full((width // 2 + 1,), 2.0)
    counts[0] = 1.0
    if width % 2 == 0:
        counts[-1] = 1.0
    return counts


def _multiply(weight: Tensor, factor: float) -> Tensor:
    return weight if factor == 1 else weight * factor


class GlobalLocalFilter(nn.Module):
    """Global filter and local 3x3 convolution side by side (HorNet section 3.2; GFNet).

    Channel LayerNorm, then the first half of the channels goes through a depthwise 3x3 convolution
    and the second half through a learned filter in the frequency domain; the halves are
    interleaved channel by channel and normalized again.

    The spectrum is computed in float32 (float64 for float64 input) whatever autocast says or the
    parameters' dtype is; the result has the caller's dtype. In eval mode under `no_grad` the
    filter is resized once for each size of the input, not at every forward.

    Args:
        channels: C of the input; even.
        gf_size: (h, w) of the learned filter: h rows of the wrap-around frequency axis, w
            columns of the half axis of a real FFT. Resized to the spectrum of any input.
        transform: 'fft', or 'dft' for the same numbers by real matrix products, for runtimes
            without complex numbers; may be changed at any time.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `channels` is odd.
    """

    def __init__(
        self,
        channels: int,
        gf_size: tuple[int, int] = (14, 8),
        transform: Literal["fft", "dft"] = "fft",
    ) -> None:
        """Create both halves; the filter starts as a truncated normal of std 0.02."""
        super().__init__()
        if channels % 2:
            raise ValueError(
                f"GlobalLocalFilter splits its channels in two halves: got channels={channels}; "
                f"use an even number such as {channels + 1}."
            )
        self.gf_size = tuple(gf_size)
        self.transform = transform
        self.dw = DepthwiseConv2d(channels // 2, 3, bias=False)
        self.complex_weight = nn.Parameter(torch.empty(channels // 2, *self.gf_size, 2))
        nn.init.trunc_normal_(self.complex_weight, std=0.02)
        self.pre_norm = LayerNorm2d(channels)
        self.post_norm = LayerNorm2d(channels)
        self._cache: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Filter a feature map, times a factor: (N, C, H, W) -> (N, C, H, W)."""
        local, distant = self.pre_norm(x).chunk(2, dim=1)
        local = to_nhwc(self.dw(local))
        # Interleaved: output channel 2k is local channel k, 2k + 1 is global channel k.
        if self._in_chunks(distant):
            halves = local.new_empty(*local.shape, 2)
            halves[..., 0] = local
            self._filter_into(halves[..., 1], distant)
        else:
            halves = torch.stack((local, to_nhwc(self._filter(distant)).to(local.dtype)), dim=-1)
        mixed = halves.flatten(-2).permute(0, 3, 1, 2)
        norm = self.post_norm
        return layer_norm_2d(mixed, norm.weight * scale, norm.bias * scale, norm.eps).to(x.dtype)

    def _in_chunks(self, x: Tensor) -> bool:
        """Whether the filter of (N, C / 2, H, W) works through a few channels at a time."""
        whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or exporting()
        return x.device.type == "cpu" and x.numel() > CHUNK and not whole

    def _filter_into(self, out: Tensor, x: Tensor) -> None:
        """Filter (N, C / 2, H, W) a few channels at a time, into (N, H, W, C / 2)."""
        channels = max(1, CHUNK // (x.numel() // x.shape[1]))
        for first in range(0, x.shape[1], channels):
            part = slice(first, first + channels)
            out[..., part] = to_nhwc(self._filter(x[:, part], part))

    def _filter(self, x: Tensor, part: slice = _ALL) -> Tensor:
        """Multiply the spectrum of the channels `part` by theirs of the filter.

        (N, C', H, W) -> the same, in float32 or float64.
        """
        precision = torch.float64 if x.dtype == torch.float64 else torch.float32
        # A device without autocast, such as 'meta', has none to switch off.
        device = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"
        with torch.autocast(device, enabled=False):
            x = to_nchw(x.to(precision))
            if x.numel() == 0:  # FFT libraries refuse an empty batch
                return x
            height, width = x.shape[-2:]
            plain = torch.compiler.is_compiling() or exporting()  # neither sees into a Function
            # The factors 1 / sqrt(H W) of both transforms go into the small filter.
            factor = 1.0 if plain or self.transform == "dft" else 1 / (height * width)
            weight = self._resized_weight(height, width // 2 + 1, precision, factor)[part]
            if self.transform == "dft":
                return dft_filter(x, weight)
            weight = torch.view_as_complex(weight)
            if plain:
                spectrum = torch.fft.rfft2(x, norm="ortho") * weight
                return torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
            filtered, _ = _SpectralProduct.apply(x, weight)
            return filtered

    def _resized_weight(
        self, height: int, width: int, precision: torch.dtype, factor: float
    ) -> Tensor:
        """The filter times a factor, (C / 2, height, width, 2), from the cache where it is safe."""
        weight = self.complex_weight
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._resize(_multiply(weight.to(precision), factor), height, width)
        # An in-place change of the weight (optimizer, load_state_dict) raises its version.
        key = (height, width, precision, factor, weight.device, weight.data_ptr(), weight._version)
        if key not in self._cache:
            scaled = _multiply(weight.to(precision), factor)
            self._cache[key] = self._resize(scaled, height, width)
            if len(self._cache) > MAX_CACHED_SIZES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    @staticmethod
    def _resize(weight: Tensor, height: int, width: int) -> Tensor:
        """Resize (C, h, w, 2) bilinearly with aligned corners to (C, height, width, 2).

        The first axis is a wrap-around frequency axis that the interpolation treats as a plain
        one; the published weights were trained so.
        """
        # An export does not know the size; to the same one, the interpolation changes nothing.
        if exporting() or weight.shape[1:3] != (height, width):
            weight = F.interpolate(
                weight.permute(3, 0, 1, 2), (height, width), mode="bilinear", align_corners=True
            ).permute(1, 2, 3, 0)
        return weight.contiguous()

    def train(self, mode: bool = True) -> "GlobalLocalFilter":
        """Switch the mode and forget resized filters: averaging hooks edit weights unseen."""
        self._cache.clear()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles carry no resized filters."""
        return {**super().__getstate__(), "_cache": OrderedDict()}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Load the weights; a filter of another size is resized as `forward` would do it.

        Classification checkpoints store filters of (14, 8) and (7, 4); the published segmentation
        models were fine-tuned from those at (24, 13) and (12, 7).
        """
        key = f"{prefix}complex_weight"
        weight = state_dict.get(key)
        if weight is not None and weight.ndim == 4 and weight.shape[1:3] != self.gf_size:
            state_dict[key] = self._resize(weight.float(), *self.gf_size).to(weight.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
