"""SE, ECA, GC, Non-local and SDA beside loops over channels, pixels and depths."""

import numpy as np
import pytest
import torch
from naive_maps import (
    assert_equals,
    batch_norm,
    conv,
    draw_images,
    layer_norm,
    max_pool,
    randomize,
    relu,
    sigmoid,
    softmax,
)

from hordet.neighbours.eca import ECAFusion
from hordet.neighbours.gc import GCFusion
from hordet.neighbours.non_local import NonLocalFusion
from hordet.neighbours.sda import SDAFusion
from hordet.neighbours.se import SEFusion


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def in_front(x, s):
    """The convolution in front, where there is one."""
    return conv(x, s["conv.weight"]) if "conv.weight" in s else x


def naive_se(x, s):
    u = in_front(x, s)
    z = u.mean((1, 2))
    hidden = relu(s["fc1.weight"][:, :, 0, 0] @ z)
    factors = sigmoid(s["fc2.weight"][:, :, 0, 0] @ hidden)
    return np.stack([factor * channel for factor, channel in zip(factors, u, strict=True)])


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


def naive_non_local(x, s, mode, subsample):
    u = in_front(x, s)

    def embed(name):
        return conv(u, s[f"{name}.weight"], s[f"{name}.bias"])

    theta, phi = (u, u) if mode == "gaussian" else (embed("theta"), embed("phi"))
    g = embed("g")
    if subsample:
        phi, g = max_pool(phi, 2), max_pool(g, 2)
    keys, values = phi.reshape(len(phi), -1).T, g.reshape(len(g), -1).T
    y = np.empty((len(g), *u.shape[1:]))
    for i in range(u.shape[1]):
        for j in range(u.shape[2]):
            scores = np.array([theta[:, i, j] @ key for key in keys])
            weights = scores / len(keys) if mode == "dot_product" else softmax(scores)
            y[:, i, j] = sum(w * value for w, value in zip(weights, values, strict=True))
    return u + conv(y, s["conv_out.weight"], s["conv_out.bias"])


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


@pytest.mark.parametrize("kernel_size", [3, None])
@pytest.mark.parametrize(
    ("kind", "naive", "options"),
    [
        (SEFusion, naive_se, dict(reduction=4)),
        (ECAFusion, naive_eca, dict()),
        (GCFusion, naive_gc, dict(reduction=2)),
    ],
    ids=["se", "eca", "gc"],
)
def test_attention_over_channels(kind, naive, options, kernel_size):
    fusion = randomize(kind(8, **options, kernel_size=kernel_size))
    assert_equals(fusion, naive, draw_images(8))


@pytest.mark.parametrize("subsample", [False, True])
@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product"])
def test_non_local(mode, subsample):
    fusion = randomize(NonLocalFusion(4, mode, subsample=subsample, kernel_size=None))
    assert_equals(fusion, lambda x, s: naive_non_local(x, s, mode, subsample), draw_images(4))


def test_sda():
    fusion = randomize(SDAFusion(16, depth=3, reduction=2, min_width=6))
    assert_equals(fusion, lambda x, s: naive_sda(x, s, 3, groups=4), draw_images(16, 4, 3))


def test_parameters_are_those_of_the_papers():
    """2 C^2 / r (SE, equation 5), k (ECA), and SDA's layers of d = max(C / r, L)."""
    assert count(SEFusion(256, kernel_size=None)) == 2 * 256**2 // 16
    assert [count(ECAFusion(c, kernel_size=None)) for c in (64, 256, 512, 2048)] == [3, 5, 5, 7]
    mask, first, norm, last = 256 + 1, 256 * 16 + 16, 2 * 16, 16 * 256 + 256
    assert count(GCFusion(256, kernel_size=None)) == mask + first + norm + last
    assert count(NonLocalFusion(64, kernel_size=None)) == 4 * 64 * 32 + 3 * 32 + 64
    sda = SDAFusion(256, depth=5)
    block = 256 * 64 + 64 * 8 * 9 + 64 * 256 + 2 * (64 + 64 + 256)
    assert count(sda.blocks) == 5 * block
    assert count(sda.fc) + count(sda.fcs) == 256 * 64 + 2 * 64 + 5 * (64 * 256 + 256)


def test_se_resnet_50_adds_what_its_paper_says():
    """2.5 million: stages of 3, 4, 6 and 3 blocks of 256 to 2048 channels."""
    blocks = {256: 3, 512: 4, 1024: 6, 2048: 3}
    added = sum(n * count(SEFusion(c, kernel_size=None)) for c, n in blocks.items())
    assert round(added / 1e6, 1) == 2.5


@torch.no_grad()
@pytest.mark.parametrize("kind", [GCFusion, NonLocalFusion])
def test_a_fresh_one_is_the_plain_convolution(kind):
    fusion = kind(8)
    x = torch.randn(1, 8, 6, 5)
    torch.testing.assert_close(fusion(x), fusion.conv(x))


@torch.no_grad()
def test_they_equal_the_plugins_of_mmcv():
    """The same names, too, so that weights fit."""
    from mmcv.cnn.bricks import ContextBlock, NonLocal2d

    x = draw_images(8)
    for ours, theirs in [
        (GCFusion(8, 2, kernel_size=None), ContextBlock(8, 1 / 2)),
        (NonLocalFusion(8, kernel_size=None), NonLocal2d(8, 2, use_scale=False)),
        (NonLocalFusion(8, "dot_product", kernel_size=None), NonLocal2d(8, 2, mode="dot_product")),
    ]:
        randomize(ours)
        names = {name: value for name, value in ours.state_dict().items()}
        theirs.double().load_state_dict(
            {
                name.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias"): value
                for name, value in names.items()
            }
            if isinstance(theirs, NonLocal2d)
            else names
        )
        torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
def test_sda_with_one_depth_left_is_that_depth():
    """A share of 1 for one block, 0 for the others."""
    fusion = randomize(SDAFusion(8, depth=2))
    fusion.fcs[0].bias.fill_(1e4)
    x = draw_images(8)
    torch.testing.assert_close(fusion(x), x + fusion.blocks[0](x))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SEFusion(8, reduction=0), "reduction=0"),
        (lambda: ECAFusion(8, kernel_size=2), "kernel_size=2"),
        (lambda: GCFusion(8, kernel_size=4), "kernel_size=4"),
        (lambda: NonLocalFusion(8, mode="dot"), "'dot_product'"),
        (lambda: NonLocalFusion(8, reduction=0), "reduction=0"),
        (lambda: SDAFusion(10), "got 10 channels"),
        (lambda: SDAFusion(8, depth=0), "depth=0"),
    ],
)
def test_bad_arguments(build, words):
    with pytest.raises(ValueError, match=words):
        build()
