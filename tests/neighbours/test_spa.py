"""The SP&A block beside loops."""

import numpy as np
import pytest
from naive_maps import (
    assert_equals,
    batch_norm,
    conv,
    draw_images,
    layer_norm,
    randomize,
    relu,
    softmax,
)

from hordet.neighbours.c_ghost import CGhostFusion
from hordet.neighbours.spa import SPAFusion


def proliferate(x, s, name, width, ratio):
    y = conv(x, s[f"{name}.conv.weight"])
    maps = list(y)
    for i in range(ratio - 1):
        kernels = s[f"{name}.cheap.{i}.weight"]
        maps += [conv(channel[None], kernels[c : c + 1])[0] for c, channel in enumerate(y)]
    return np.stack(maps[:width])


def naive_spa(x, s, ratio, wide):
    short = conv(x, s["shortcut.0.weight"], groups=len(x))
    short = conv(batch_norm(short, s, "shortcut.1"), s["shortcut.2.weight"])
    y = relu(batch_norm(proliferate(x, s, "expand.0", wide, ratio), s, "expand.1"))
    pixels = y.reshape(wide, -1).T
    shares = softmax(np.array([s["conv_mask.weight"].ravel() @ pixel for pixel in pixels]))
    context = sum(share * pixel for share, pixel in zip(shares, pixels, strict=True))
    hidden = relu(layer_norm(s["excite.0.weight"][:, :, 0, 0] @ context, s, "excite.1"))
    factors = np.clip(0.2 * (s["excite.3.weight"][:, :, 0, 0] @ hidden) + 0.5, 0, 1)
    z = factors[:, None, None] * y
    out = batch_norm(proliferate(z, s, "reduce.0", len(x), ratio), s, "reduce.1")
    return out + batch_norm(short, s, "shortcut.3")


@pytest.mark.parametrize(("ratio", "expansion"), [(2, 2), (3, 1)])
def test_the_equations(ratio, expansion):
    fusion = randomize(SPAFusion(6, ratio, expansion))
    assert_equals(fusion, lambda x, s: naive_spa(x, s, ratio, 6 * expansion), draw_images(6, 4, 3))


def test_parameters():
    """P_1, P_2, W_k, W_1 with its norm, W_2, D, W, and four batch norms."""
    copies = 64 * 64 + 64 * 9 + 128 * 32 + 32 * 9
    attention = 128 + 128 * 64 + 2 * 64 + 64 * 128
    shortcut = 64 * 9 + 64 * 64
    norms = 2 * (64 + 64 + 128 + 64)
    count = sum(parameter.numel() for parameter in SPAFusion(64).parameters())
    assert count == copies + attention + shortcut + norms


def test_self_proliferation_is_a_ghost_module_of_1x1():
    ghost = CGhostFusion(8, kernel_size=1)
    assert [p.shape for p in SPAFusion(8, expansion=1).expand[0].parameters()] == [
        p.shape for p in ghost.parameters()
    ]


def test_bad_arguments():
    with pytest.raises(ValueError, match="ratio=1 and expansion=2"):
        SPAFusion(8, ratio=1)
    with pytest.raises(ValueError, match="kernel_size=2"):
        SPAFusion(8, kernel_size=2)
