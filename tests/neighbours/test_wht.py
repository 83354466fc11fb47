"""Walsh-Hadamard layers beside explicit matrices."""

import numpy as np
import pytest
import torch
from naive_maps import assert_equals, count, draw_images, randomize, relu

from hordet.neighbours.wht import WHTFusion


def hadamard(size):
    """Entry (i, j) is -1 to the number of ones that i and j share in binary, over the root."""
    ones = [[bin(i & j).count("1") for j in range(size)] for i in range(size)]
    return (-1.0) ** np.array(ones) / size**0.5


def shrink(x, thresholds, kind):
    rest = relu(np.abs(x) - thresholds)
    return (np.tanh(x) if kind == "smooth" else np.sign(x)) * rest


def naive_wht(x, s, form, b, kind):
    channels, height, width = x.shape
    if form != "1d":
        padded = np.zeros((channels, height + -height % b, width + -width % b))
        padded[:, :height, :width] = x
        h = hadamard(b)
        for c in range(channels):
            for i in range(0, padded.shape[1], b):
                for j in range(0, padded.shape[2], b):
                    block = h @ padded[c, i : i + b, j : j + b] @ h
                    block = shrink(s["weight"] * block, s["thresholds_2d"], kind)
                    padded[c, i : i + b, j : j + b] = h @ block @ h
        x = padded[:, :height, :width]
    if form != "2d":
        h = hadamard(len(s["thresholds_1d"]))
        out = np.empty_like(x)
        for i in range(height):
            for j in range(width):
                v = np.zeros(len(h))
                v[:channels] = x[:, i, j]
                out[:, i, j] = (h @ shrink(h @ v, s["thresholds_1d"], kind))[:channels]
        x = out
    return x


@pytest.mark.parametrize("kind", ["smooth", "soft"])
@pytest.mark.parametrize(("form", "b"), [("1d", 4), ("2d", 4), ("2d", 1), ("2d+1d", 2)])
def test_the_equations(form, b, kind):
    fusion = randomize(WHTFusion(6, form, b, kind))
    assert_equals(fusion, lambda x, s: naive_wht(x, s, form, b, kind), draw_images(6))


@torch.no_grad()
@pytest.mark.parametrize("form", ["1d", "2d", "2d+1d"])
def test_wht_without_thresholds_is_the_identity_of_soft_thresholding(form):
    fusion = WHTFusion(6, form, threshold="soft").double()
    for name, parameter in fusion.named_parameters():
        if "thresholds" in name:
            parameter.zero_()
    x = draw_images(6)
    torch.testing.assert_close(fusion(x), x)


def test_thresholds_start_with_the_frequency_of_their_coefficients():
    """Rows of Hadamard's matrix of 8 have 0, 7, 3, 4, 1, 6, 2 and 5 changes of sign."""
    thresholds = WHTFusion(4).thresholds_2d
    want = torch.tensor([0, 7, 3, 4, 1, 6, 2, 5]) / 80
    torch.testing.assert_close(thresholds[0], want)
    torch.testing.assert_close(thresholds[:, 0], want)
    torch.testing.assert_close(thresholds[1, 1], 2 * want[1])


@pytest.mark.parametrize("kind", ["smooth", "soft"])
@pytest.mark.parametrize("start", [None, -0.1])
def test_every_threshold_learns(kind, start):
    """Also the first, which starts at 0, and those that fell below 0."""
    torch.manual_seed(0)
    fusion = WHTFusion(4, threshold=kind)
    if start is not None:
        torch.nn.init.constant_(fusion.thresholds_2d, start)
        torch.nn.init.constant_(fusion.thresholds_1d, start)
    out = fusion(torch.randn(2, 4, 16, 16))
    (out * torch.randn_like(out)).sum().backward()
    assert fusion.thresholds_2d.grad.all() and fusion.thresholds_1d.grad.all()
    assert fusion.weight.grad.all()


def test_parameters_are_those_of_the_papers():
    """1-D: a threshold a channel (filled to a power of 2); 2-D: two numbers a coefficient."""
    assert count(WHTFusion(1024, "1d")) == 1024
    assert count(WHTFusion(48, "1d")) == 64
    assert count(WHTFusion(64, "2d", 16)) == 2 * 16**2
    assert count(WHTFusion(64)) == 64 + 2 * 8**2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(block_size=6), "1, 2, 4, 8"),
        (dict(form="3d"), "'2d\\+1d'"),
        (dict(threshold="hard"), "'smooth', 'soft'"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        WHTFusion(**dict(channels=8) | options)
