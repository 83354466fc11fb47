"""Harmonic convolution: against sums over pixels, and what happens to it when the image turns."""

import cmath
import math

import pytest
import torch
import torch.nn.functional as F

from hordet.neighbours.harmonic import Harmonic, HarmonicConv2d, sample_basis


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def basis_by_hand(kernel_size, order):
    """Rings of 104 angles, spread by a Gaussian of 0.5 that sums to 1 over the pixels."""
    count = max(kernel_size // 2, 2)
    first = 0.0 if order == 0 else 1.0
    radii = [first + j * (count - 0.5 - first) / (count - 1) for j in range(count)]
    half = kernel_size // 2
    pixels = [(x, y) for y in range(-half, half + 1) for x in range(-half, half + 1)]
    rings = []
    for radius in radii:
        ring = dict.fromkeys(pixels, 0j)
        for k in range(104):
            angle = 2 * math.pi * k / 104
            at = (radius * math.cos(angle), radius * math.sin(angle))
            near = {p: math.exp(-2 * ((p[0] - at[0]) ** 2 + (p[1] - at[1]) ** 2)) for p in pixels}
            total = sum(near.values())
            for p in pixels:
                ring[p] += near[p] / total * cmath.exp(1j * order * angle) / 104
        rings.append(ring)
    return rings


@pytest.mark.parametrize("order", [0, 1, 2])
def test_basis(order):
    basis = torch.complex(*sample_basis(5, order))
    for j, ring in enumerate(basis_by_hand(5, order)):
        for (x, y), value in ring.items():
            assert abs(basis[j, y + 2, x + 2].item() - value) < 1e-12


def convolve_by_hand(layer, streams):
    """The layer as a sum over filters, pixels and orders; complex streams (orders, C, H, W)."""
    height, width = streams.shape[-2:]
    half = layer.kernel_size // 2
    outs = []
    for to in range(layer.max_order + 1):
        total = 0
        for source in range(len(streams)):
            m = to - source
            basis = basis_by_hand(layer.kernel_size, abs(m))
            radial, phase = layer.radial[abs(m)].double(), layer.phase[abs(m)].double()
            for dy in range(-half, half + 1):
                for dx in range(-half, half + 1):
                    rings = torch.tensor([ring[dx, dy] for ring in basis])
                    filters = torch.exp(1j * phase) * (radial * rings).sum(-1)
                    filters = filters.conj() if m < 0 else filters
                    padded = F.pad(streams[source], (half,) * 4)
                    seen = padded[:, half + dy :, half + dx :][:, :height, :width]
                    total = total + torch.einsum("oi,ihw->ohw", filters, seen)
        outs.append(total)
    return torch.stack(outs)


@pytest.mark.parametrize("max_order", [0, 1, 2])
def test_equals_the_sum_over_pixels(max_order):
    model = Harmonic(6, max_order=max_order).double()
    torch.nn.init.normal_(model.bias)
    x = torch.randn(1, 6, 5, 7, dtype=torch.float64)
    z = convolve_by_hand(model.lift, x.to(torch.complex128))
    z = z / z.abs() * (z.abs() + model.bias).clamp(min=0)
    want = convolve_by_hand(model.cross, z).abs().flatten(0, 1)[:6]
    torch.testing.assert_close(model(x)[0], want, rtol=1e-5, atol=1e-6)  # the basis is float32


def test_shapes_of_the_parameters():
    shapes = {name: tuple(p.shape) for name, p in Harmonic(64).named_parameters()}
    assert shapes == {
        "bias": (2, 32, 1, 1),
        "lift.radial.0": (32, 64, 2),
        "lift.radial.1": (32, 64, 2),
        "lift.phase.0": (32, 64),
        "lift.phase.1": (32, 64),
        "cross.radial.0": (32, 32, 2),
        "cross.radial.1": (32, 32, 2),
        "cross.phase.0": (32, 32),
        "cross.phase.1": (32, 32),
    }


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_a_turn_by_90_degrees_turns_the_output(size):
    model = Harmonic(8, max_order=2).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    for turns in (1, 2, 3):
        got = model(torch.rot90(x, turns, (2, 3)))
        want = torch.rot90(model(x), turns, (2, 3))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    conv = torch.nn.Conv2d(8, 8, 5, padding=2).double()
    assert (conv(torch.rot90(x, 1, (2, 3))) - torch.rot90(conv(x), 1, (2, 3))).std() > 0.1


def test_the_phase_counts_the_turn():
    """A response of order m is multiplied by exp(i m theta)."""
    layer = HarmonicConv2d(3, 4, 2, 5, lift=True).double()
    x = torch.randn(1, 1, 3, 11, 11, dtype=torch.float64)

    def respond(image):
        return torch.view_as_complex(layer(image).unflatten(1, (3, 2)).movedim(2, -1).contiguous())

    turned, plain = respond(torch.rot90(x, 1, (3, 4))), torch.rot90(respond(x), 1, (3, 4))
    for m in range(3):
        phase = cmath.exp(-1j * m * math.pi / 2)  # rot90 turns rows to columns
        torch.testing.assert_close(turned[:, m], plain[:, m] * phase, rtol=1e-5, atol=1e-6)


def turn(x, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.tensor([[[c, -s, 0.0], [s, c, 0.0]]], dtype=x.dtype).expand(len(x), -1, -1)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", align_corners=False)


def test_a_turn_by_15_degrees_is_near():
    """Measured inside the disc that stays in the image, beside the magnitude of a plain 5x5."""
    size = 65
    noise = torch.randn(2, 8, size, size, generator=torch.Generator().manual_seed(3))
    line = torch.arange(-8, 9.0)
    blur = torch.exp(-line.square() / (2 * 2.0**2))
    x = F.conv2d(noise, (blur[:, None] * blur / blur.sum() ** 2).expand(8, 1, 17, 17), groups=8)
    x = F.pad(x / x.std(), (8,) * 4)
    line = torch.linspace(-1, 1, size)
    disc = (line.square() + line[:, None].square()).sqrt() < 0.5

    def measure(model):
        want, got = turn(model(x), 15), model(turn(x, 15))
        centered = (want - want[..., disc].mean(-1)[..., None, None])[..., disc]
        return ((got - want)[..., disc].norm() / centered.norm()).item()

    first, second = (torch.nn.Conv2d(8, 8, 5, padding=2) for _ in range(2))
    with torch.no_grad():
        harmonic = measure(Harmonic(8))
        plain = measure(lambda image: second(first(image).relu()).abs())
    assert harmonic < 0.1
    assert plain > 3 * harmonic, (plain, harmonic)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (33, 47)])
def test_odd_sizes_and_channels_that_do_not_divide(size):
    out = Harmonic(7, max_order=1)(torch.randn(2, 7, *size))
    assert out.shape == (2, 7, *size) and torch.isfinite(out).all() and out.min() >= 0


def test_every_parameter_gets_a_gradient():
    model = Harmonic(8, max_order=2)
    (model(torch.randn(2, 8, 9, 9)) * torch.randn(2, 8, 9, 9)).sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_gradient_at_zero_is_finite():
    model = Harmonic(4)
    model(torch.zeros(1, 4, 5, 5)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_float16_of_a_zero_or_constant_map(value):
    """The gain of a magnitude of 0 is the bias / 1e-6, which float16 has not."""
    model = Harmonic(8)
    model.bias.fill_(0.2)
    x = torch.full((1, 8, 9, 9), value)
    with torch.autocast("cpu", torch.float16):
        got = model(x)
    torch.testing.assert_close(got, model(x), rtol=2e-2, atol=2e-2)


def test_start_keeps_the_size_of_a_map():
    out = Harmonic(64)(torch.randn(1, 64, 32, 32))
    assert 0.3 < out.square().mean().sqrt() < 3


@pytest.mark.parametrize("options", [dict(kernel_size=4), dict(kernel_size=1), dict(max_order=-1)])
def test_refuses(options):
    with pytest.raises(ValueError, match=f"got {next(iter(options))}="):
        Harmonic(8, **options)
