"""The gates of a gnConv on a GPU: a product is multiplied where it is computed, by Triton kernels.

Between the layers of a gnConv lie maps that are written to memory to be read once (HorNet section
3.1, equations 3.3 and 3.4). Here the depthwise convolution, its bias and the first gate are one
kernel, and each later gate is the epilogue of the 1x1 convolution before it. Maps lie
channels-last; sums are in float32; the results have the dtype of the map.

Off unless `hordet.engine.modes.use_triton_gates` switches it on, which alone imports this module:
it needs the package `triton`. The kernels pass their tests in Triton's interpreter on a CPU
(TRITON_INTERPRET=1); no GPU has run them.
"""

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PIXELS, CHANNELS = 16, 64  # of a program of the depthwise kernels
ROWS = 8  # of the map, whose part of the weight gradient a program sums
TILE = (64, 64, 32)  # rows, columns and depth of a program of the product
# Triton's interpreter multiplies the bits of 16-bit numbers (3.8); in float32 it is right.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def _convolve(  # type: ignore[no-untyped-def]
    source, weight, bias, factor, first, second, height, width, channels, gated,
    size: tl.constexpr, pixels: tl.constexpr, block: tl.constexpr, biased: tl.constexpr,
):  # fmt: skip
    """Depthwise convolution of a stretch of a row; channels below `gated` times `factor`."""
    index = tl.program_id(0).to(tl.int64)
    stretches = tl.cdiv(width, pixels)
    row, left = index // stretches, (index % stretches) * pixels
    image, y = row // height, row % height
    x = left + tl.arange(0, pixels)
    c = tl.program_id(1) * block + tl.arange(0, block)
    inside = c < channels
    total = tl.zeros((pixels, block), dtype=tl.float32)
    for i in tl.static_range(size):
        for j in tl.static_range(size):
            # A row for each pixel: Triton's interpreter (3.9) broadcasts a scalar's truth wrongly.
            yy, xx = tl.full((pixels,), y + i - size // 2, tl.int64), x + j - size // 2
            valid = (yy >= 0) & (yy < height) & (xx >= 0) & (xx < width)
            place = ((image * height + yy) * width + xx)[:, None] * channels + c[None, :]
            read = tl.load(source + place, mask=valid[:, None] & inside[None, :], other=0.0)
            tap = tl.load(weight + (i * size + j) * channels + c, mask=inside, other=0.0)
            total += read.to(tl.float32) * tap.to(tl.float32)[None, :]
    if biased:
        total += tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)[None, :]
    pixel = (row * width + x)[:, None]
    gate = (x < width)[:, None] & (c < gated)[None, :]
    rest = (x < width)[:, None] & (inside & (c >= gated))[None, :]
    place = pixel * gated + c[None, :]
    product = total * tl.load(factor + place, mask=gate, other=0.0).to(tl.float32)
    tl.store(first + place, product.to(first.dtype.element_ty), mask=gate)
    place = pixel * (channels - gated) + (c - gated)[None, :]
    tl.store(second + place, total.to(second.dtype.element_ty), mask=rest)


@triton.jit
def _sum_taps(  # type: ignore[no-untyped-def]
    source, grad, partial, rows, height, width, channels,
    size: tl.constexpr, pixels: tl.constexpr, block: tl.constexpr, some: tl.constexpr,
):  # fmt: skip
    """Weight gradient of one kernel row over a few rows of the map: (size, channels)."""
    start = tl.program_id(0).to(tl.int64) * some
    c = tl.program_id(1) * block + tl.arange(0, block)
    i = tl.program_id(2)
    inside = c < channels
    for j in tl.static_range(size):
        total = tl.zeros((block,), dtype=tl.float32)
        for step in range(some):
            row = start + step
            image, y = row // height, row % height
            yy = tl.full((pixels,), y + i - size // 2, tl.int64)
            there = (tl.full((pixels,), row, tl.int64) < rows) & (yy >= 0) & (yy < height)
            for left in range(0, width, pixels):
                x = left + tl.arange(0, pixels)
                xx = x + j - size // 2
                valid = there & (x < width) & (xx >= 0) & (xx < width)
                mask = valid[:, None] & inside[None, :]
                place = (row * width + x)[:, None] * channels + c[None, :]
                g = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
                place = ((image * height + yy) * width + xx)[:, None] * channels + c[None, :]
                s = tl.load(source + place, mask=mask, other=0.0).to(tl.float32)
                total += tl.sum(g * s, axis=0)
        at = (tl.program_id(0) * size + i) * size + j
        tl.store(partial + at.to(tl.int64) * channels + c, total, mask=inside)


@triton.jit
def _multiply_gated(  # type: ignore[no-untyped-def]
    source, weight, bias, gate, out, rows, depth, columns,
    rounded: tl.constexpr, widened: tl.constexpr,
    high: tl.constexpr, wide: tl.constexpr, deep: tl.constexpr,
):  # fmt: skip
    """A tile of (source @ weight.T + bias) * gate."""
    m = tl.program_id(0).to(tl.int64) * high + tl.arange(0, high)
    n = tl.program_id(1) * wide + tl.arange(0, wide)
    total = tl.zeros((high, wide), dtype=tl.float32)
    for first in range(0, depth, deep):
        k = first + tl.arange(0, deep)
        mask = (m < rows)[:, None] & (k < depth)[None, :]
        a = tl.load(source + m[:, None] * depth + k[None, :], mask=mask, other=0.0)
        mask = (k < depth)[:, None] & (n < columns)[None, :]
        b = tl.load(weight + n[None, :] * depth + k[:, None], mask=mask, other=0.0)
        if widened:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=rounded)
    total += tl.load(bias + n, mask=n < columns, other=0.0).to(tl.float32)[None, :]
    mask = (m < rows)[:, None] & (n < columns)[None, :]
    place = m[:, None] * columns + n[None, :]
    total *= tl.load(gate + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=mask)


def _run_depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, factor: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Convolve (N, C, H, W); the first channels, as many as `factor` has, are times `factor`."""
    batch, channels, height, width = x.shape
    size, gated = weight.shape[-1], 0 if factor is None else factor.shape[1]
    first, second = (
        torch.empty(
            (batch, each, height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        for each in (gated, channels - gated)
    )
    if not x.numel():
        return first, second
    taps = weight.view(channels, -1).t().contiguous()  # (k * k, C)
    grid = (batch * height * triton.cdiv(width, PIXELS), triton.cdiv(channels, CHANNELS))
    _convolve[grid](
        x, taps, taps if bias is None else bias, x if factor is None else factor, first, second,
        height, width, channels, gated, size, PIXELS, CHANNELS, bias is not None,
    )  # fmt: skip
    return first, second


class _DepthwiseGate(torch.autograd.Function):
    """Depthwise convolution, bias, and the product of its first channels with a map.

    With f = conv(q) + bias: returns p * f[:d] and f[d:], where d is the number of channels of p.
    """

    @staticmethod
    def forward(ctx, q: Tensor, p: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        """(N, C, H, W), (N, d, H, W), (C, 1, k, k), (C,) -> (N, d, H, W), (N, C - d, H, W)."""
        q, p = _to_pixels(q), _to_pixels(p)
        ctx.save_for_backward(q, p, weight, bias)
        return _run_depthwise(q, weight, bias, p)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, grad_rest: Tensor) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        """Differentiate: dL/df = (grad * p, grad_rest); dL/dp = grad * f[:d], f computed again."""
        q, p, weight, bias = ctx.saved_tensors
        gated, grad = p.shape[1], _to_pixels(grad)
        grad_f = _to_pixels(torch.cat([grad * p, grad_rest], dim=1))
        grad_p, _ = _run_depthwise(_to_pixels(q[:, :gated]), weight[:gated], bias[:gated], grad)
        _, grad_q = _run_depthwise(grad_f, weight.flip(2, 3), None, None)
        grad_bias = grad_f.sum((0, 2, 3), dtype=torch.float32).to(bias.dtype)
        return grad_q, grad_p, _differentiate_taps(q, grad_f, weight), grad_bias


def _differentiate_taps(q: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """Return dL/dw[c, i, j] = sum_nyx g[n, c, y, x] q[n, c, y + i - k // 2, x + j - k // 2]."""
    batch, channels, height, width = q.shape
    size, rows = weight.shape[-1], batch * height
    if not q.numel():
        return torch.zeros_like(weight)
    parts = triton.cdiv(rows, ROWS)  # each is summed by one program; their sum has a fixed order
    partial = q.new_empty((parts, size, size, channels), dtype=torch.float32)
    grid = (parts, triton.cdiv(channels, CHANNELS), size)
    _sum_taps[grid](q, grad, partial, rows, height, width, channels, size, PIXELS, CHANNELS, ROWS)
    return partial.sum(0).permute(2, 0, 1)[:, None].to(weight.dtype)


class _ProjectGate(torch.autograd.Function):
    """1x1 convolution whose output is multiplied by a map: (W p + b) * gate."""

    @staticmethod
    def forward(ctx, p: Tensor, weight: Tensor, bias: Tensor, gate: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """(N, K, H, W), (C, K), (C,), (N, C, H, W) -> (N, C, H, W)."""
        p, gate, weight = _to_pixels(p), _to_pixels(gate), weight.contiguous()
        ctx.save_for_backward(p, weight, bias, gate)
        out = torch.empty_like(gate)
        columns, depth = weight.shape
        rows = p.numel() // depth
        if rows:
            high, wide, deep = TILE
            exact = p.dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
            grid = (triton.cdiv(rows, high), triton.cdiv(columns, wide))
            _multiply_gated[grid](
                p, weight, bias, gate, out, rows, depth, columns,
                "ieee" if exact else "tf32", INTERPRETED, high, wide, deep,
            )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        """Differentiate; W p + b is computed again in place of being kept."""
        p, weight, bias, gate = ctx.saved_tensors
        (grad, flat_gate, flat_p) = (_flatten(_to_pixels(each)) for each in (grad, gate, p))
        grad_product = grad * flat_gate
        grad_gate = grad * torch.addmm(bias, flat_p, weight.t())
        grad_weight = grad_product.t() @ flat_p
        grad_bias = grad_product.sum(0, dtype=torch.float32).to(bias.dtype)
        shapes = (grad_product @ weight, p), (grad_gate, gate)
        grad_p, grad_gate = (_unflatten(each, like) for each, like in shapes)
        return grad_p, grad_weight, grad_bias, grad_gate


def _to_pixels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _flatten(x: Tensor) -> Tensor:
    """(N, C, H, W), channels-last -> (N * H * W, C), the same memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _unflatten(x: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return x.view(batch, height, width, channels).permute(0, 3, 1, 2)


def compute_gates(p: Tensor, q: Tensor, mixer: Any, pws: nn.ModuleList, scale: float) -> Tensor:
    """Return what a gnConv hands to its last projection (HorNet equations 3.3 and 3.4).

    Args:
        p: (N, d_0, H, W).
        q: (N, d_0 + ... + d_(n-1), H, W).
        mixer: The depthwise convolution f, with `weight` and `bias`.
        pws: The n - 1 convolutions between the gates.
        scale: Factor on f(q).

    Returns:
        (N, d_(n-1), H, W), channels-last, in the dtype of `p`. Can be differentiated once.
    """
    weight, bias = (each.to(p.dtype) for each in (mixer.weight * scale, mixer.bias * scale))
    p, rest = _DepthwiseGate.apply(q.to(p.dtype), p, weight, bias)
    gates = rest.split([pw.out_channels for pw in pws], dim=1)
    pw: Any
    for pw, gate in zip(pws, gates, strict=True):
        weight = pw.weight.flatten(1).to(p.dtype)
        p = _ProjectGate.apply(p, weight, pw.bias.to(p.dtype), gate)
    return p
