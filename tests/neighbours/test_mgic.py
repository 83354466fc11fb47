"""MGIC beside loops over levels and groups."""

import pytest
import torch
from naive_maps import assert_equals, batch_norm, conv, count, draw_images, randomize, relu

from hordet.neighbours.mgic import MGICFusion


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


def test_the_equations():
    fusion = randomize(MGICFusion(16, group_size=4, coarsest=4))
    assert_equals(fusion, lambda x, s: naive_mgic(x, s, 2, 4), draw_images(16, 4, 3))


def test_mgic_couples_every_channel_with_every_other():
    """Though no convolution but the coarsest sees more than four channels at once."""
    fusion = MGICFusion(32, group_size=4, coarsest=4).double().eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.copy_(torch.rand(parameter.shape) + 0.1)  # so that no ReLU is closed
    x = torch.rand(1, 32, 1, 1, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: fusion(x).flatten(), x)
    assert (jacobian.abs() > 0).all()


def test_weights_of_mgic_grow_with_the_channels_not_with_their_square():
    counts = [count(MGICFusion(c)) for c in (64, 128, 256, 512)]
    ratios = [wide / narrow for narrow, wide in zip(counts, counts[1:], strict=False)]
    assert all(ratio < 2.5 for ratio in ratios) and ratios == sorted(ratios, reverse=True)
    grouped = {c: 2 * (c * 16 * 9) + 4 * c + c // 2 * 16 + c * 8 + 2 * c for c in (64, 32)}
    assert counts[0] == grouped[64] + grouped[32] + 2 * 16 * 16 * 9 + 4 * 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(channels=36, group_size=4, coarsest=4), "which is odd"),
        (dict(group_size=1), "group_size=1"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        MGICFusion(**dict(channels=8) | options)


@torch.no_grad()
def test_the_start_keeps_rank_and_size_down_to_the_coarsest_level():
    """Equal rows would leave as many different channels as there are groups."""
    torch.manual_seed(0)
    fusion = MGICFusion(128)
    matrix = torch.eye(128)[..., None, None]
    x = torch.randn(2000, 128, 1, 1)
    for restriction in fusion.restrictions:
        matrix, x = restriction(matrix), restriction(x)
        assert torch.linalg.matrix_rank(matrix.flatten(1)) == matrix.shape[1]
    assert matrix.shape[1] == 16
    assert 0.5 < x.std() < 2
