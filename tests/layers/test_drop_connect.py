"""DropConnect: which connections a forward leaves out, and the mean over many."""

import pytest
import torch
from torch import nn

from hordet.layers.drop_connect import DropConnect


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_forward_leaves_out_connections_and_scales_the_rest():
    """On one-hot inputs, a linear layer shows its weights."""
    layer = DropConnect(nn.Linear(200, 50, bias=False), p=0.3)
    seen = layer(torch.eye(200)).t()
    kept = seen != 0
    torch.testing.assert_close(seen[kept], layer.conv.weight[kept] / 0.7)
    assert abs(1 - kept.float().mean().item() - 0.3) < 0.02
    assert ((layer(torch.eye(200)).t() != 0) != kept).any()  # drawn anew


def test_the_mean_is_the_whole_layer_and_so_is_evaluation():
    conv = nn.Conv2d(4, 6, 3, padding=1)
    layer, x = DropConnect(conv, p=0.5), torch.randn(1, 4, 5, 6)
    with torch.no_grad():
        mean = torch.stack([layer(x) for _ in range(2000)]).mean(0)
        torch.testing.assert_close(mean, conv(x), rtol=0, atol=0.1)
        torch.testing.assert_close(layer.eval()(x), conv(x), rtol=0, atol=0)
    assert layer.fold() is conv


def test_gradient_reaches_what_is_kept_alone():
    layer = DropConnect(nn.Linear(30, 20, bias=False), p=0.5)
    layer(torch.ones(1, 30)).sum().backward()
    grad = layer.conv.weight.grad
    assert {*grad.flatten().tolist()} == {0.0, 2.0}


def test_no_probability_is_the_plain_layer():
    layer, x = DropConnect(nn.Linear(3, 3), p=0), torch.randn(2, 3)
    torch.testing.assert_close(layer(x), layer.conv(x), rtol=0, atol=0)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_refuses(p):
    with pytest.raises(ValueError, match=f"got p={p}; allowed is 0 to below 1"):
        DropConnect(nn.Linear(3, 3), p)
