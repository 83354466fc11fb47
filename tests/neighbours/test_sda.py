"""Selective depth attention beside loops over depths and channels."""

import numpy as np
import pytest
import torch
from naive_maps import (
    assert_equals,
    batch_norm,
    conv,
    count,
    draw_images,
    layer_norm,
    randomize,
    relu,
    softmax,
)

from hordet.neighbours.sda import SDAFusion


def naive_sda(x, s, depth, groups):
    outs = []
    for i in range(depth):
        b = f"blocks.{i}"
        y = relu(batch_norm(conv(x, s[f"{b}.0.weight"]), s, f"{b}.1"))
        y = relu(batch_norm(conv(y, s[f"{b}.3.weight"], groups=groups), s, f"{b}.4"))
        outs.append(x + batch_norm(conv(y, s[f"{b}.6.weight"]), s, f"{b}.7"))
        x = relu(outs[-1])
    v = s["fc.0.weight"][:, :, 0, 0] @ sum(outs).mean((1, 2))
    v = relu(layer_norm(v, s, "fc.1"))
    scores = [s[f"fcs.{i}.weight"][:, :, 0, 0] @ v + s[f"fcs.{i}.bias"] for i in range(depth)]
    mixed = np.zeros_like(x)
    for c in range(len(x)):
        shares = softmax(np.array([score[c] for score in scores]))
        for share, out in zip(shares, outs, strict=True):
            mixed[c] += share * out[c]
    return mixed


def test_the_equations():
    fusion = randomize(SDAFusion(16, depth=3, reduction=2, min_width=6))
    assert_equals(fusion, lambda x, s: naive_sda(x, s, 3, groups=4), draw_images(16, 4, 3))


@torch.no_grad()
def test_sda_with_one_depth_left_is_that_depth():
    """A share of 1 for one block, 0 for the others."""
    fusion = randomize(SDAFusion(8, depth=2))
    fusion.fcs[0].bias.fill_(1e4)
    x = draw_images(8)
    torch.testing.assert_close(fusion(x), x + fusion.blocks[0](x))


def test_parameters_are_those_of_the_paper():
    """A stage of SDA-ResNet-50 without its 1x1 shortcut: d = max(C / r, 64)."""
    fusion = SDAFusion(256, depth=5)
    block = 256 * 64 + 64 * 8 * 9 + 64 * 256 + 2 * (64 + 64 + 256)
    assert count(fusion.blocks) == 5 * block
    assert count(fusion.fc) + count(fusion.fcs) == 256 * 64 + 2 * 64 + 5 * (64 * 256 + 256)
    assert fusion.blocks[0][3].groups == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(channels=10), "got 10 channels"),
        (dict(depth=0), "depth=0"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        SDAFusion(**dict(channels=8) | options)
