"""The G-Ghost stage beside loops."""

import numpy as np
import pytest
from naive_maps import (
    assert_equals,
    batch_norm,
    conv,
    count,
    draw_images,
    layer_norm,
    randomize,
    relu,
)

from hordet.neighbours.g_ghost import GGhostFusion


def naive_regnet_block(x, s, prefix, width):
    b = f"{prefix}.branch"
    y = relu(batch_norm(conv(x, s[f"{b}.0.weight"]), s, f"{b}.1"))
    y = conv(y, s[f"{b}.3.weight"], groups=len(x) // width)
    y = relu(batch_norm(y, s, f"{b}.4"))
    return x + batch_norm(conv(y, s[f"{b}.6.weight"]), s, f"{b}.7")


def naive_g_ghost(x, s, deep, depth, width):
    first = relu(naive_regnet_block(x, s, "base", width))
    y, means = first[:deep], [first.mean((1, 2))]
    for i in range(depth - 2):
        y = relu(naive_regnet_block(y, s, f"layers.{i}", width))
        means.append(y.mean((1, 2)))
    m = s["merge.0.weight"][:, :, 0, 0] @ np.concatenate(means)
    m = s["merge.3.weight"][:, :, 0, 0] @ relu(layer_norm(m, s, "merge.1"))
    m = layer_norm(m, s, "merge.4")
    c = batch_norm(conv(first[deep:], s["cheap.0.weight"]), s, "cheap.1")
    joined = np.concatenate([y, relu(c + m[:, None, None])])
    return naive_regnet_block(joined, s, "end", width)


def test_the_equations():
    fusion = randomize(GGhostFusion(8, depth=4, cheap_ratio=0.5, group_width=2))
    assert_equals(fusion, lambda x, s: naive_g_ghost(x, s, 4, 4, 2), draw_images(8, 4, 3))


def test_parameters():
    """Blocks on C and on C / 2 channels, the mix and the cheap operation, as the authors'."""
    block = {c: 2 * c * c + c * 8 * 9 + 6 * c for c in (64, 32)}
    merge = (64 + 2 * 32) * 32 + 32 * 32 + 4 * 32
    want = 2 * block[64] + 2 * block[32] + merge + 32 * 32 + 2 * 32
    assert count(GGhostFusion(64, depth=4, group_width=8)) == want


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(depth=2), "depth=2"),
        (dict(cheap_ratio=1.0), "leaves a channel to both"),
        (dict(group_width=0), "group_width=0"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        GGhostFusion(**dict(channels=8) | options)


@pytest.mark.parametrize(("channels", "ratio", "deep"), [(10, 0.9, 1), (20, 0.9, 2), (15, 0.5, 7)])
def test_the_share_of_channels_is_not_cut_by_rounding(channels, ratio, deep):
    assert GGhostFusion(channels, cheap_ratio=ratio).deep == deep
