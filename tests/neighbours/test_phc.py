"""Hypercomplex convolution beside explicit Kronecker products and quaternions."""

import numpy as np
import pytest
import torch
from naive_maps import assert_equals, conv, count, draw_images, randomize

from hordet.neighbours.phc import PHCFusion


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


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_equations(n):
    fusion = randomize(PHCFusion(12, n))
    assert_equals(fusion, lambda x, s: naive_phc(x, s, n), draw_images(12, 4, 3))


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


def test_parameters_are_those_of_the_paper():
    """n^3 + C^2 k^2 / n, and the bias."""
    for channels, n in ((64, 2), (63, 3), (64, 4)):
        assert count(PHCFusion(channels, n)) == n**3 + channels**2 * 9 // n + channels


@torch.no_grad()
@pytest.mark.parametrize("n", [2, 3, 4])
def test_phc_starts_as_a_convolution_that_keeps_the_standard_deviation(n):
    torch.manual_seed(0)
    fusion = PHCFusion(48, n)
    assert fusion.compute_kernel().std().item() == pytest.approx((48 * 9) ** -0.5, rel=0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(n=3), "n must divide"),
        (dict(kernel_size=2), "kernel_size=2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        PHCFusion(**dict(channels=8) | options)
