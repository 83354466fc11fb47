"""Weights that lie channels-last: the same numbers, and maps of that layout from then on."""

import copy

import pytest
import torch
from torch import nn

from hordet.layers import GnFusion
from hordet.layers.layout import use_channels_last


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_the_same_model_with_maps_of_another_layout(spatial):
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 24, 3, 2, 1), nn.Conv2d(24, 24, 3, padding=1, groups=24)]
    fusion = GnFusion(24, 16, spatial=spatial, gf_size=(8, 5))
    plain = nn.Sequential(*convs, fusion, nn.Conv2d(16, 4, 1))
    turned = copy.deepcopy(plain)
    use_channels_last(turned)
    x = torch.randn(2, 3, 19, 26)
    want, got = plain(x), turned(x)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert turned[:2](x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(want)
    want.backward(upstream)
    got.backward(upstream)
    for (name, p), q in zip(plain.named_parameters(), turned.parameters(), strict=True):
        assert torch.equal(p, q), name
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-4 * p.grad.abs().max().item())
