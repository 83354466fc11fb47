"""C-Ghost, G-Ghost, MGIC, PHC and Walsh-Hadamard beside loops and explicit matrices."""

import numpy as np
import pytest
import torch
from naive_maps import (
    assert_equals,
    batch_norm,
    conv,
    draw_images,
    layer_norm,
    randomize,
    relu,
)

from hordet.neighbours.c_ghost import CGhostFusion
from hordet.neighbours.g_ghost import GGhostFusion
from hordet.neighbours.mgic import MGICFusion
from hordet.neighbours.phc import PHCFusion
from hordet.neighbours.wht import WHTFusion


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def naive_c_ghost(x, s, ratio):
    y = conv(x, s["primary_conv.weight"])
    maps = list(y)
    for i in range(ratio - 1):
        kernels = s[f"cheap_operations.{i}.weight"]
        maps += [conv(channel[None], kernels[c : c + 1])[0] for c, channel in enumerate(y)]
    return np.stack(maps[: len(x)])


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


def naive_mgic(x, s, levels, size):
    def relax(x, j, groups):
        b = f"blocks.{j}"
        y = relu(batch_norm(conv(x, s[f"{b}.0.weight"], groups=groups), s, f"{b}.1"))
        return x + batch_norm(conv(y, s[f"{b}.3.weight"], groups=groups), s, f"{b}.4")

    def solve(x, j):
        if j == levels:
            return relax(x, j, 1)
        groups = len(x) // size
        coarse = conv(x, s[f"restrictions.{j}.weight"], groups=groups)
        change = relu(solve(coarse, j + 1)) - coarse
        p = f"prolongations.{j}"
        change = batch_norm(conv(change, s[f"{p}.0.weight"], groups=groups), s, f"{p}.1")
        return relax(x + change, j, groups)

    return solve(x, 0)


def naive_phc(x, s, n):
    """One Kronecker product of matrices after the other, for each place of the kernel."""
    filters = s["filters"].reshape(n, -1, *s["filters"].shape[1:])
    k = filters.shape[-1]
    kernel = np.zeros((len(x), len(x), k, k))
    for i in range(k):
        for j in range(k):
            for product in range(n):
                kernel[:, :, i, j] += np.kron(s["rules"][product], filters[product, :, :, i, j])
    return conv(x, kernel, s["bias"])


def hadamard(size):
    """Entry (i, j) is -1 to the number of ones that i and j share in binary, over the root."""
    ones = [[bin(i & j).count("1") for j in range(size)] for i in range(size)]
    return (-1.0) ** np.array(ones) / size**0.5


def shrink(x, thresholds, kind):
    rest = relu(np.abs(x) - relu(thresholds))
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


@pytest.mark.parametrize(("channels", "ratio"), [(6, 2), (7, 2), (6, 3)])
def test_c_ghost(channels, ratio):
    fusion = randomize(CGhostFusion(channels, ratio))
    assert_equals(fusion, lambda x, s: naive_c_ghost(x, s, ratio), draw_images(channels))


def test_g_ghost():
    fusion = randomize(GGhostFusion(8, depth=4, cheap_ratio=0.5, group_width=2))
    assert_equals(fusion, lambda x, s: naive_g_ghost(x, s, 4, 4, 2), draw_images(8, 4, 3))


def test_mgic():
    fusion = randomize(MGICFusion(16, group_size=4, coarsest=4))
    assert_equals(fusion, lambda x, s: naive_mgic(x, s, 2, 4), draw_images(16, 4, 3))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_phc(n):
    fusion = randomize(PHCFusion(12, n))
    assert_equals(fusion, lambda x, s: naive_phc(x, s, n), draw_images(12, 4, 3))


@pytest.mark.parametrize("kind", ["smooth", "soft"])
@pytest.mark.parametrize(("form", "b"), [("1d", 4), ("2d", 4), ("2d", 1), ("2d+1d", 2)])
def test_wht(form, b, kind):
    fusion = randomize(WHTFusion(6, form, b, kind))
    assert_equals(fusion, lambda x, s: naive_wht(x, s, form, b, kind), draw_images(6))


@torch.no_grad()
def test_phc_of_hamiltons_rules_is_a_quaternion_convolution():
    """Four maps r + x i + y j + z k, times the quaternion kernel from the left."""
    fusion = randomize(PHCFusion(4, 4))
    fusion.bias.zero_()
    signs = {  # (row, column) of the product's matrix -> (part of the kernel, sign)
        **{(i, i): (0, 1) for i in range(4)},
        (0, 1): (1, -1), (0, 2): (2, -1), (0, 3): (3, -1),
        (1, 0): (1, 1), (1, 2): (3, -1), (1, 3): (2, 1),
        (2, 0): (2, 1), (2, 1): (3, 1), (2, 3): (1, -1),
        (3, 0): (3, 1), (3, 1): (2, -1), (3, 2): (1, 1),
    }  # fmt: skip
    fusion.rules.zero_()
    for (row, column), (part, sign) in signs.items():
        fusion.rules[part, row, column] = sign
    x = draw_images(4, batch=1)
    part = [fusion.filters[i : i + 1].numpy() for i in range(4)]

    def times(i, j):
        """Part i of the kernel on map j."""
        return conv(x[0, j : j + 1].numpy(), part[i])[0]

    # (a + b i + c j + d k) (r + x i + y j + z k)
    want = [
        times(0, 0) - times(1, 1) - times(2, 2) - times(3, 3),
        times(0, 1) + times(1, 0) + times(2, 3) - times(3, 2),
        times(0, 2) - times(1, 3) + times(2, 0) + times(3, 1),
        times(0, 3) + times(1, 2) - times(2, 1) + times(3, 0),
    ]
    np.testing.assert_allclose(fusion(x)[0].numpy(), np.stack(want))


def test_mgic_couples_every_channel_with_every_other():
    """Though no convolution but the coarsest sees more than four channels at once."""
    fusion = MGICFusion(32, group_size=4, coarsest=4).double().eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.copy_(torch.rand(parameter.shape) + 0.1)  # so that no ReLU is closed
    x = torch.rand(1, 32, 1, 1, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: fusion(x).flatten(), x)
    assert (jacobian.abs() > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("form", ["1d", "2d", "2d+1d"])
def test_wht_without_thresholds_is_the_identity_of_soft_thresholding(form):
    fusion = WHTFusion(6, form, threshold="soft").double()
    for name, parameter in fusion.named_parameters():
        if "thresholds" in name:
            parameter.fill_(-1)  # counts as 0
    x = draw_images(6)
    torch.testing.assert_close(fusion(x), x)


def test_parameters_are_those_of_the_papers():
    """C-Ghost: C^2 k^2 / s + (s - 1) d^2 C / s. PHC: n^3 + C^2 k^2 / n + C. WHT: a channel each."""
    assert count(CGhostFusion(64, 2)) == 64**2 * 9 // 2 + 9 * 32
    assert 1.9 < 64**2 * 9 / count(CGhostFusion(64, 2)) < 2  # the paper's "about s"
    for n in (2, 4):
        assert count(PHCFusion(64, n)) == n**3 + 64**2 * 9 // n + 64
    assert count(PHCFusion(63, 3)) == 27 + 63**2 * 9 // 3 + 63
    assert count(WHTFusion(1024, "1d")) == 1024
    assert count(WHTFusion(64, "2d", 16)) == 2 * 16**2
    stage = GGhostFusion(64, depth=4, group_width=8)
    block = {c: 2 * c * c + c * 8 * 9 + 6 * c for c in (64, 32)}
    merge = (64 + 2 * 32) * 32 + 32 * 32 + 4 * 32
    assert count(stage) == 2 * block[64] + 2 * block[32] + merge + 32 * 32 + 2 * 32


def test_weights_of_mgic_grow_with_the_channels_not_with_their_square():
    counts = [count(MGICFusion(c)) for c in (64, 128, 256, 512)]
    ratios = [wide / narrow for narrow, wide in zip(counts, counts[1:], strict=False)]
    assert all(ratio < 2.5 for ratio in ratios) and ratios == sorted(ratios, reverse=True)
    grouped = {c: 2 * (c * 16 * 9) + 4 * c + c // 2 * 16 + c * 8 + 2 * c for c in (64, 32)}
    assert counts[0] == grouped[64] + grouped[32] + 2 * 16 * 16 * 9 + 4 * 16


@torch.no_grad()
@pytest.mark.parametrize("n", [2, 3, 4])
def test_phc_starts_as_a_convolution_that_keeps_the_standard_deviation(n):
    torch.manual_seed(0)
    fusion = PHCFusion(48, n)
    assert fusion.compute_kernel().std().item() == pytest.approx((48 * 9) ** -0.5, rel=0.3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: CGhostFusion(8, ratio=1), "ratio=1"),
        (lambda: CGhostFusion(8, cheap_size=2), "kernel_size=2"),
        (lambda: GGhostFusion(8, depth=2), "depth=2"),
        (lambda: GGhostFusion(8, cheap_ratio=1.0), "leaves a channel to both"),
        (lambda: MGICFusion(36, group_size=4, coarsest=4), "a level of 18 channels have 2|odd"),
        (lambda: MGICFusion(8, group_size=1), "group_size=1"),
        (lambda: PHCFusion(8, n=3), "n must divide"),
        (lambda: WHTFusion(8, block_size=6), "1, 2, 4, 8"),
        (lambda: WHTFusion(8, form="3d"), "'2d\\+1d'"),
    ],
)
def test_bad_arguments(build, words):
    with pytest.raises(ValueError, match=words):
        build()
