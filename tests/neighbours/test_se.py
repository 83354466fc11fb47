"""Squeeze-and-excitation beside loops over channels."""

import numpy as np
import pytest
from naive_maps import assert_equals, count, draw_images, in_front, randomize, relu, sigmoid

from hordet.neighbours.se import SEFusion


def naive_se(x, s):
    u = in_front(x, s)
    z = u.mean((1, 2))
    hidden = relu(s["fc1.weight"][:, :, 0, 0] @ z)
    factors = sigmoid(s["fc2.weight"][:, :, 0, 0] @ hidden)
    return np.stack([factor * channel for factor, channel in zip(factors, u, strict=True)])


@pytest.mark.parametrize("kernel_size", [3, None])
def test_the_equations(kernel_size):
    fusion = randomize(SEFusion(8, reduction=4, kernel_size=kernel_size))
    assert_equals(fusion, naive_se, draw_images(8))


def test_parameters_are_those_of_the_paper():
    """2 C^2 / r by its equation 5; 2.5 million in SE-ResNet-50."""
    assert count(SEFusion(256, kernel_size=None)) == 2 * 256**2 // 16
    assert count(SEFusion(64)) == 64 * 64 * 9 + 2 * 64 * 4
    blocks = {256: 3, 512: 4, 1024: 6, 2048: 3}
    added = sum(n * count(SEFusion(c, kernel_size=None)) for c, n in blocks.items())
    assert round(added / 1e6, 1) == 2.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(reduction=0), "reduction=0"),
        (dict(kernel_size=2), "kernel_size=2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        SEFusion(**dict(channels=8) | options)
