"""Efficient channel attention beside loops over channels."""

import numpy as np
import pytest
from naive_maps import assert_equals, count, draw_images, in_front, randomize, sigmoid

from hordet.neighbours.eca import ECAFusion


def naive_eca(x, s):
    u = in_front(x, s)
    z, kernel = u.mean((1, 2)), s["conv1d.weight"].ravel()
    out = np.empty_like(u)
    for c in range(len(u)):
        total = 0.0
        for i, weight in enumerate(kernel):
            other = c + i - len(kernel) // 2
            total += weight * z[other] if 0 <= other < len(u) else 0
        out[c] = u[c] * sigmoid(total)
    return out


@pytest.mark.parametrize("kernel_size", [3, None])
def test_the_equations(kernel_size):
    fusion = randomize(ECAFusion(8, kernel_size=kernel_size))
    assert_equals(fusion, naive_eca, draw_images(8))


def test_the_kernel_grows_with_the_channels_as_in_the_paper():
    sizes = [count(ECAFusion(c, kernel_size=None)) for c in (64, 256, 512, 2048)]
    assert sizes == [3, 5, 5, 7]
    assert count(ECAFusion(64)) == 64 * 64 * 9 + 3
    assert count(ECAFusion(64, gamma=1, kernel_size=None)) == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(kernel_size=2), "kernel_size=2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        ECAFusion(**dict(channels=8) | options)
