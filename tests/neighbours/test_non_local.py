"""The non-local block beside loops over pairs of pixels, and beside mmcv's."""

import numpy as np
import pytest
import torch
from naive_maps import (
    assert_equals,
    conv,
    count,
    draw_images,
    in_front,
    max_pool,
    randomize,
    softmax,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from hordet.neighbours.non_local import NonLocalFusion


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


@pytest.mark.parametrize("subsample", [False, True])
@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product"])
def test_the_equations(mode, subsample):
    fusion = randomize(NonLocalFusion(4, mode, subsample=subsample, kernel_size=None))
    assert_equals(fusion, lambda x, s: naive_non_local(x, s, mode, subsample), draw_images(4))


def test_the_convolution_in_front():
    fusion = randomize(NonLocalFusion(4))

    def naive(x, s):
        return naive_non_local(x, s, "embedded_gaussian", False)

    assert_equals(fusion, naive, draw_images(4))


@pytest.mark.parametrize("subsample", [False, True])
@pytest.mark.parametrize("mode", ["embedded_gaussian", "dot_product"])
@torch.no_grad()
def test_it_equals_the_plugin_of_mmcv(mode, subsample):
    from mmcv.cnn.bricks import NonLocal2d

    x = draw_images(8)
    ours = randomize(NonLocalFusion(8, mode, subsample=subsample, kernel_size=None))
    theirs = NonLocal2d(8, subsample, use_scale=False, mode=mode).double()
    state = {}
    for key, value in ours.state_dict().items():
        name, kind = key.split(".")  # mmcv has a ConvModule, and the pooling in a row with it
        pooled = subsample and name in ("g", "phi")
        state[f"{name}.0.conv.{kind}" if pooled else f"{name}.conv.{kind}"] = value
    theirs.load_state_dict(state)
    torch.testing.assert_close(ours(x), theirs(x))


def test_no_matrix_of_all_pairs_is_stored():
    """Neither by the fused kernel, which alone is allowed here, nor by the other mode."""
    x = draw_images(8, 5, 6).float().requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        NonLocalFusion(8)(x).sum().backward()
    linear = NonLocalFusion(8, "dot_product")
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()), lambda _: 0):
        linear(x)
    assert max(sizes) < (5 * 6) ** 2


@torch.no_grad()
def test_a_fresh_one_is_the_plain_convolution():
    fusion = NonLocalFusion(8)
    x = torch.randn(1, 8, 6, 5)
    torch.testing.assert_close(fusion(x), fusion.conv(x))


def test_parameters():
    """Three embeddings to C / 2 and W_z, each with biases."""
    assert count(NonLocalFusion(64, kernel_size=None)) == 4 * 64 * 32 + 3 * 32 + 64
    assert count(NonLocalFusion(64, "gaussian", kernel_size=None)) == 2 * 64 * 32 + 32 + 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(mode="dot"), "'dot_product'"),
        (dict(reduction=0), "reduction=0"),
        (dict(kernel_size=2), "kernel_size=2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        NonLocalFusion(**dict(channels=8) | options)


@torch.no_grad()
def test_float16_of_a_large_map():
    """The sum of phi(u)^T g(u) over 64 x 64 pixels is beyond float16, its mean is not."""
    fusion = NonLocalFusion(4, "dot_product", kernel_size=None)
    fusion.conv_out.weight.fill_(0.01)
    for layer in (fusion.phi, fusion.g):
        layer.bias.fill_(8.0)
    x = torch.rand(1, 4, 64, 64) + 1
    with torch.autocast("cpu", torch.float16):
        got = fusion(x)
    assert (fusion(x) - x).abs().max() > 1e-3
    torch.testing.assert_close(got, fusion(x), rtol=1e-2, atol=1e-2)
