"""The C-Ghost module beside loops."""

import numpy as np
import pytest
from naive_maps import assert_equals, conv, count, draw_images, randomize

from hordet.neighbours.c_ghost import CGhostFusion


def naive_c_ghost(x, s, ratio):
    y = conv(x, s["primary_conv.weight"])
    maps = list(y)
    for i in range(ratio - 1):
        kernels = s[f"cheap_operations.{i}.weight"]
        maps += [conv(channel[None], kernels[c : c + 1])[0] for c, channel in enumerate(y)]
    return np.stack(maps[: len(x)])


@pytest.mark.parametrize(("channels", "ratio"), [(6, 2), (7, 2), (6, 3)])
def test_the_equations(channels, ratio):
    fusion = randomize(CGhostFusion(channels, ratio))
    assert_equals(fusion, lambda x, s: naive_c_ghost(x, s, ratio), draw_images(channels))


def test_parameters_are_those_of_the_paper():
    """C^2 k^2 / s + (s - 1) d^2 C / s, which is "about s" times less than a convolution."""
    for ratio in (2, 4):
        assert count(CGhostFusion(64, ratio)) == 64**2 * 9 // ratio + (ratio - 1) * 9 * 64 // ratio
        assert 0.9 * ratio < 64**2 * 9 / count(CGhostFusion(64, ratio)) < ratio


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(ratio=1), "ratio=1"),
        (dict(cheap_size=2), "kernel_size=2"),
        (dict(kernel_size=2), "kernel_size=2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        CGhostFusion(**dict(channels=8) | options)
