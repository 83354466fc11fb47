"""Frequency dropout: kernels by their formulas, which frequencies they leave, and when."""

import math

import pytest
import torch
from torch import nn

from hordet.layers.frequency_dropout import FrequencyDropout, compute_kernels


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def kernel(kind, sigma=1.0, angle=0.0, wavelength=3.0):
    values = (torch.tensor([value]) for value in (sigma, angle, wavelength))
    return compute_kernels(torch.tensor([kind]), *values)[0]


def test_kernels_are_their_formulas():
    sigma, angle, wavelength = 0.8, 0.4, 2.5
    for kind in range(3):
        got = kernel(kind, sigma, angle, wavelength)
        want = []
        for y in (-1, 0, 1):
            for x in (-1, 0, 1):
                square = (x * x + y * y) / (2 * sigma**2)
                along = x * math.cos(angle) + y * math.sin(angle)
                factor = (1, 1 - square, math.cos(2 * math.pi * along / wavelength))[kind]
                want.append(factor * math.exp(-square))
        total = sum(map(abs, want))
        torch.testing.assert_close(got.flatten(), torch.tensor(want) / total)


def test_a_gaussian_keeps_low_frequencies_and_a_gabor_filter_its_band():
    def pass_wave(k, wavelength):  # the response to cos(2 pi x / wavelength) at x = 0
        x = torch.arange(-1.0, 2.0)
        return (k * (2 * math.pi * x / wavelength).cos()).sum().item()

    gaussian, gabor = kernel(0), kernel(2, wavelength=2.0)
    assert pass_wave(gaussian, 1e6) == pytest.approx(1)
    assert abs(pass_wave(gaussian, 2.0)) < 0.15
    assert pass_wave(gabor, 2.0) == pytest.approx(1, abs=1e-5)
    assert abs(pass_wave(gabor, 1e6)) < 0.15


def test_in_training_channels_are_filtered_by_chance():
    layer = FrequencyDropout(nn.Conv2d(3, 400, 1), p=0.25)
    x = torch.randn(2, 3, 7, 9)
    with torch.no_grad():
        plain, out = layer.conv(x), layer(x)
        same = ((out - plain).abs().amax((0, 2, 3)) < 1e-6).float().mean().item()
        assert abs(same - 0.75) < 0.08
        assert (out.abs().amax() <= plain.abs().amax() + 1e-5).all()
        torch.testing.assert_close(layer.eval()(x), plain, rtol=0, atol=0)
    assert layer.fold() is layer.conv


def test_every_channel_at_1_none_at_0_and_the_gradient_passes():
    conv, x = nn.Conv2d(3, 16, 3, padding=1), torch.randn(1, 3, 5, 6)
    assert ((FrequencyDropout(conv, 1.0)(x) - conv(x)).abs().amax((0, 2, 3)) > 1e-4).all()
    torch.testing.assert_close(FrequencyDropout(conv, 0.0)(x), conv(x), rtol=0, atol=0)
    FrequencyDropout(conv, 1.0)(x).square().sum().backward()
    assert conv.weight.grad.any() and torch.isfinite(conv.weight.grad).all()


def test_a_map_of_one_pixel():
    layer = FrequencyDropout(nn.Conv2d(3, 16, 1), 1.0)
    assert torch.isfinite(layer(torch.randn(1, 3, 1, 1))).all()


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_refuses(p):
    with pytest.raises(ValueError, match=f"got p={p}; allowed is 0 to 1"):
        FrequencyDropout(nn.Conv2d(3, 3, 1), p)
