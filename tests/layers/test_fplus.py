"""FPLUS and PFPLUS: their formulas, their slope at 0, their parameters."""

import pytest
import torch

from hordet.layers.fplus import FPLUS, PFPLUS

X = torch.tensor([-1e30, -3.0, -1.0, -0.25, 0.0, 0.5, 7.0])


def test_fplus_is_the_power_with_sign():
    for x, y in zip(X.tolist(), FPLUS()(X).tolist(), strict=True):
        sign = (x > 0) - (x < 0)
        assert y == pytest.approx((abs(x) + 1) ** sign - 1, abs=1e-6)
    assert FPLUS()(X).tolist() == pytest.approx([-1, -0.75, -0.5, -0.2, 0, 0.5, 7])


def test_slope_is_one_at_0_from_both_sides():
    x = torch.tensor([-1e-6, 0.0, 1e-6, -1.0], requires_grad=True)
    FPLUS()(x).sum().backward()
    assert x.grad.tolist() == pytest.approx([1, 1, 1, 0.25], abs=1e-4)


def test_pfplus_starts_as_fplus_and_bends():
    torch.testing.assert_close(PFPLUS()(X), FPLUS()(X))
    layer = PFPLUS(amplitude=2.0, bend=0.5)
    want = [2 * x if x >= 0 else 2 * x / (1 - 0.5 * x) for x in X.tolist()]
    assert layer(X).tolist() == pytest.approx(want)
    assert layer(X)[0].item() == pytest.approx(-4)  # -lambda / omega


def test_parameters_are_learned_or_fixed():
    layer = PFPLUS()
    layer(X[1:]).square().sum().backward()
    assert {name for name, p in layer.named_parameters() if p.grad.abs() > 0} == {
        "amplitude",
        "bend",
    }
    fixed = PFPLUS(trainable=False, amplitude=2.0)
    assert not list(fixed.parameters()) and fixed.state_dict().keys() == {"amplitude", "bend"}


def test_a_negative_bend_has_no_pole():
    layer = PFPLUS()
    with torch.no_grad():
        layer.bend.fill_(-1.0)
    assert torch.isfinite(layer(X)).all()
    with pytest.raises(ValueError, match="got bend=-1; allowed is more than 0"):
        PFPLUS(bend=-1)


def test_a_bend_of_0_is_refused_where_it_would_be_learned():
    with pytest.raises(ValueError, match="got bend=0; .* 0 with trainable=False"):
        PFPLUS(bend=0)
    torch.testing.assert_close(PFPLUS(False, amplitude=2.0, bend=0.0)(X), 2 * X)


def test_dtype_is_kept():
    assert PFPLUS()(X[1:].bfloat16()).dtype == torch.bfloat16
