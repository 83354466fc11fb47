"""The Pi-net block beside loops, as a polynomial, and as a gnConv."""

import numpy as np
import pytest
import torch
from naive_maps import assert_equals, conv, draw_images, randomize
from torch import nn

from hordet.layers import GnConv
from hordet.neighbours.pi_net import PiFusion


def naive_pi(x, s, form, degree):
    """The equations of the module, on one image."""
    a = [conv(x, s[f"factors.{n}.weight"]) for n in range(degree)]
    if form == "ncp":
        y = a[0] * s["constant"]
        for n in range(1, degree):
            inner = np.einsum("rs,shw->rhw", s[f"mixers.{n - 1}.weight"][:, :, 0, 0], y)
            y = a[n] * (inner + s[f"mixers.{n - 1}.bias"][:, None, None])
    else:
        y = a[0]
        for n in range(1, degree):
            y = a[n] * y + y
    out = np.einsum("cr,rhw->chw", s["proj_out.weight"][:, :, 0, 0], y)
    return out + s["proj_out.bias"][:, None, None]


@pytest.mark.parametrize("form", ["ncp", "ccp"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_equations(form, degree):
    fusion = randomize(PiFusion(4, degree, form, rank=3, kernel_size=5))
    assert_equals(fusion, lambda x, state: naive_pi(x, state, form, degree), draw_images(4))


@pytest.mark.parametrize("form", ["ncp", "ccp"])
@pytest.mark.parametrize("degree", [1, 2, 4])
@torch.no_grad()
def test_the_output_is_a_polynomial_of_its_degree(form, degree):
    """Of t in fusion(t x): differences of order N + 1 vanish, those of order N do not."""
    fusion = randomize(PiFusion(4, degree, form))
    x = torch.randn(1, 4, 3, 3, dtype=torch.double)
    values = torch.stack([fusion(t * x) for t in range(degree + 2)])
    assert values.diff(degree + 1, dim=0).abs().max() < 1e-7 * values.abs().max()
    assert values.diff(degree, dim=0).abs().max() > 1e-3 * values.abs().max()


@torch.no_grad()
def test_gnconv_is_the_nested_form_of_a_degree_more():
    """Order 1, f(q) * p projected: 'ncp' of degree 2 whose factor of space is a depthwise one."""
    torch.manual_seed(0)
    gnconv = GnConv(4, 4, order=1, kernel_size=3).double()
    p, q = gnconv.proj_in.weight[:4], gnconv.proj_in.weight[4:]
    gnconv.proj_in.bias.zero_()
    gnconv.dwconv.bias.zero_()
    pi = PiFusion(4, degree=2).double()
    nn.init.zeros_(pi.factors[0].weight)
    pi.factors[0].weight[:, :, 1, 1] = p[:, :, 0, 0]
    pi.factors[1].weight.copy_(gnconv.dwconv.weight * q)
    pi.mixers[0].weight.copy_(torch.eye(4)[:, :, None, None])
    pi.mixers[0].bias.zero_()
    pi.proj_out.load_state_dict(gnconv.proj_out.state_dict())
    x = torch.randn(2, 4, 6, 5, dtype=torch.double)
    torch.testing.assert_close(pi(x), gnconv(x))


def test_parameters():
    """By the equations: N R C k^2, b_1, N - 1 of S_n with b_n, and C with c."""
    count = sum(p.numel() for p in PiFusion(64, degree=3, rank=32).parameters())
    assert count == 3 * 32 * 64 * 9 + 32 + 2 * (32 * 32 + 32) + 64 * 32 + 64


@torch.no_grad()
@pytest.mark.parametrize("form", ["ncp", "ccp"])
@pytest.mark.parametrize("degree", [1, 2, 4])
def test_the_start_keeps_the_standard_deviation(form, degree):
    torch.manual_seed(0)
    out = PiFusion(64, degree, form)(torch.randn(4, 64, 16, 16))[..., 2:-2, 2:-2]
    assert out.std().item() == pytest.approx(1, abs=0.15)


def test_bad_arguments():
    with pytest.raises(ValueError, match="degree=0 and rank=8"):
        PiFusion(8, degree=0)
    with pytest.raises(ValueError, match="kernel_size=4"):
        PiFusion(8, kernel_size=4)
    with pytest.raises(ValueError, match="'ncp' and 'ccp'"):
        PiFusion(8, form="cp")
