"""FDA-BNN: the sine series by its sum, the noise by its formula, the schedule by its ends."""

import math

import pytest
import torch
import torch.nn.functional as F

from hordet.neighbours.fda_bnn import FdaBnn, Noise, _SineSign


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("n", [9, 18])
def test_gradient_is_that_of_the_sine_series(n):
    x = torch.tensor([-2.0, -1.0, -0.3, -1e-5, 0.0, 0.2, 0.999, 1.0001]).double().requires_grad_()
    out = _SineSign.apply(x, torch.tensor(float(n)))
    assert out.tolist() == [-1, -1, -1, -1, 1, 1, 1, 1]
    out.sum().backward()
    for value, grad in zip(x.tolist(), x.grad.tolist(), strict=True):
        terms = [math.cos((2 * i + 1) * 0.1 * value) for i in range(n + 1)]
        want = 4 * 0.1 / math.pi * sum(terms) if abs(value) <= 1 else 0
        assert abs(grad - want) < 1e-5


def test_series_comes_nearer_to_sign():
    """The primitive of the gradient, whose first terms are those of a square wave."""

    def integrate(n):
        t = torch.linspace(0, 1, 2001).double().requires_grad_()
        _SineSign.apply(t, torch.tensor(float(n))).sum().backward()
        return torch.cumulative_trapezoid(t.grad, dx=1 / 2000)

    # The plateau of the series at omega x = 0.1: Si(2 (n + 1) 0.1) * 2 / pi.
    assert abs(integrate(9)[-1].item() - 1.022) < 2e-3
    assert integrate(18)[900].item() > integrate(9)[900].item() > 0.5


def test_equals_the_formula():
    torch.manual_seed(0)
    model, x = FdaBnn(4).double().eval(), draw(2, 4, 5, 6)
    model.step.fill_(2500)  # a quarter of the way
    alpha = 0.05 * (1 + math.cos(math.pi / 4))

    def eta(noise, values):
        hidden = [sum(w * v for w, v in zip(row, values, strict=True)) for row in noise.down.weight]
        hidden = [max(h.item(), 0.0) for h in hidden]
        rows = noise.up.weight.tolist()
        sums = [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in rows]
        return torch.tensor([s + 0.1 * math.sin(v) for s, v in zip(sums, values, strict=True)])

    normed = F.group_norm(x, 1, model.norm.weight, model.norm.bias)
    inputs = torch.where(normed >= 0, 1.0, -1.0).double()
    for n in range(2):
        for i in range(5):
            for j in range(6):
                inputs[n, :, i, j] += alpha * eta(model.input_noise, normed[n, :, i, j].tolist())
    weight = torch.where(model.weight >= 0, 1.0, -1.0).double()
    for o in range(4):
        values = model.weight[o].flatten().tolist()
        weight[o] += alpha * eta(model.weight_noise, values).view(4, 3, 3)
        weight[o] *= sum(map(abs, values)) / 36
    # eta's list is float32
    torch.testing.assert_close(model(x), F.conv2d(inputs, weight, padding=1), rtol=1e-6, atol=1e-6)


def test_noise_fades_and_terms_rise_with_training_forwards():
    model = FdaBnn(4, steps=4)
    seen = []
    for _ in range(6):
        seen.append([value.item() for value in model.compute_schedule()])
        model.eval()(torch.randn(1, 4, 3, 3))  # does not count
        model.train()(torch.randn(1, 4, 3, 3))
    assert [n for n, _ in seen] == [9, 11, 13, 15, 18, 18]
    want = [0.1, 0.05 * (1 + 0.5**0.5), 0.05, 0.05 * (1 - 0.5**0.5), 0, 0]
    assert all(abs(alpha - w) < 1e-7 for (_, alpha), w in zip(seen, want, strict=True))
    assert model.state_dict()["step"] == 6
    # Without noise, it is a binary convolution.
    x = torch.randn(1, 4, 5, 5)
    bits = torch.where(model.eval().norm(x) >= 0, 1.0, -1.0)
    weight = model.weight.abs().mean((1, 2, 3), keepdim=True) * model.weight.sign()
    torch.testing.assert_close(model(x), F.conv2d(bits, weight, padding=1))


def test_shapes_of_the_parameters():
    shapes = {name: tuple(p.shape) for name, p in FdaBnn(64).named_parameters()}
    assert shapes == {
        "weight": (64, 64, 3, 3),
        "norm.weight": (64,),
        "norm.bias": (64,),
        "weight_noise.down.weight": (9, 576),
        "weight_noise.up.weight": (576, 9),
        "input_noise.down.weight": (1, 64),
        "input_noise.up.weight": (64, 1),
    }
    assert Noise(8).down.weight.shape == (1, 8)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = FdaBnn(8)
    (model(torch.randn(2, 8, 7, 5)) * torch.randn(2, 8, 7, 5)).sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_refuses():
    with pytest.raises(ValueError, match="got steps=0; allowed are 1 and more"):
        FdaBnn(8, steps=0)
