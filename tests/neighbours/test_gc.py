"""The global context block beside loops over pixels, and beside mmcv's."""

import numpy as np
import pytest
import torch
from naive_maps import (
    assert_equals,
    count,
    draw_images,
    in_front,
    layer_norm,
    randomize,
    relu,
    softmax,
)

from hordet.neighbours.gc import GCFusion


def naive_gc(x, s):
    u = in_front(x, s)
    pixels = u.reshape(len(u), -1).T
    shares = softmax(
        np.array([s["conv_mask.weight"].ravel() @ pixel for pixel in pixels]) + s["conv_mask.bias"]
    )
    context = sum(share * pixel for share, pixel in zip(shares, pixels, strict=True))
    t = "channel_add_conv"
    v = s[f"{t}.0.weight"][:, :, 0, 0] @ context + s[f"{t}.0.bias"]
    v = relu(layer_norm(v, s, f"{t}.1"))
    added = s[f"{t}.3.weight"][:, :, 0, 0] @ v + s[f"{t}.3.bias"]
    return u + added[:, None, None]


@pytest.mark.parametrize("kernel_size", [3, None])
def test_the_equations(kernel_size):
    fusion = randomize(GCFusion(8, reduction=2, kernel_size=kernel_size))
    assert_equals(fusion, naive_gc, draw_images(8))


@torch.no_grad()
def test_it_equals_the_plugin_of_mmcv():
    """With the same names, so that weights fit."""
    from mmcv.cnn.bricks import ContextBlock

    x = draw_images(8)
    ours, theirs = randomize(GCFusion(8, 2, kernel_size=None)), ContextBlock(8, 1 / 2).double()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
def test_a_fresh_one_is_the_plain_convolution():
    fusion = GCFusion(8)
    x = torch.randn(1, 8, 6, 5)
    torch.testing.assert_close(fusion(x), fusion.conv(x))


def test_parameters():
    """W_k, W_v1, the norm and W_v2; of C / r = 16 rows, and of 4 at least."""
    for channels, narrow in ((256, 16), (32, 4)):
        want = channels + 1 + 2 * channels * narrow + narrow + channels + 2 * narrow
        assert count(GCFusion(channels, kernel_size=None)) == want


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(reduction=0), "reduction=0"),
        (dict(kernel_size=4), "kernel_size=4"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        GCFusion(**dict(channels=8) | options)
