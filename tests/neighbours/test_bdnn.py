"""BDNN's layer: against loops over bits, and its gradients against their formulas."""

import pytest
import torch
import torch.nn.functional as F

from hordet.layers.straight_through import sign
from hordet.neighbours.bdnn import Bdnn


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def bit(value):
    return 1.0 if value >= 0 else -1.0


def build(channels=3):
    torch.manual_seed(0)
    model = Bdnn(channels).double()
    torch.nn.init.normal_(model.norm.weight)
    torch.nn.init.normal_(model.norm.bias)
    return model


def test_equals_loops_over_bits():
    model, x = build(), draw(1, 3, 4, 5)
    normed = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    normed = normed * model.norm.weight.view(3, 1, 1) + model.norm.bias.view(3, 1, 1)
    got = model(x)
    for o in range(3):
        alpha = sum(abs(w) for w in model.weight[o].flatten().tolist()) / 27
        for i in range(4):
            for j in range(5):
                count = 0.0
                for c in range(3):
                    for a in range(3):
                        for b in range(3):
                            y, z = i + a - 1, j + b - 1
                            if 0 <= y < 4 and 0 <= z < 5:
                                w = bit(model.weight[o, c, a, b].item())
                                count += w * bit(normed[0, c, y, z].item())
                assert abs(got[0, o, i, j].item() - alpha * count) < 1e-12


def test_gradient_of_the_weight():
    """g sign'(w) alpha + sign(w) mean(g sign(w)), with g that of the binary weight."""
    model, x = build(), draw(2, 3, 6, 5)
    with torch.no_grad():
        model.weight[0, 0] *= 20  # beyond 1, where the sign has no gradient
    model(x).backward(seed := draw(2, 3, 6, 5, seed=1))
    bits = torch.where(model.norm(x) >= 0, 1.0, -1.0).double()
    g = torch.nn.grad.conv2d_weight(bits, (3, 3, 3, 3), seed, padding=1)
    w = model.weight.detach()
    signs = torch.where(w >= 0, 1.0, -1.0).double()
    alpha = w.abs().mean((1, 2, 3), keepdim=True)
    want = alpha * g * (w.abs() <= 1) + signs * (g * signs).mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(model.weight.grad, want)
    assert (w.abs() > 1).any()


def test_gradient_of_the_input_stops_beyond_1():
    model, x = build(), draw(1, 3, 6, 5)
    normed = []

    def note(module, inputs, out):
        out.retain_grad()
        normed.append(out)

    model.norm.register_forward_hook(note)
    model(x).backward(seed := draw(1, 3, 6, 5, seed=1))
    w = model.weight.detach()
    binary = w.abs().mean((1, 2, 3), keepdim=True) * torch.where(w >= 0, 1.0, -1.0)
    want = F.conv_transpose2d(seed, binary.double(), padding=1) * (normed[0].abs() <= 1)
    torch.testing.assert_close(normed[0].grad, want)
    assert (normed[0].abs() > 1).any()


def test_shapes_of_the_parameters():
    shapes = {name: tuple(p.shape) for name, p in Bdnn(64).named_parameters()}
    assert shapes == {"weight": (64, 64, 3, 3), "norm.weight": (64,), "norm.bias": (64,)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_sign_of_nan_is_nan(dtype):
    """A training that breaks shall be seen to break."""
    got = sign(torch.tensor([-2.0, -0.0, 0.0, 3.0, float("nan")], dtype=dtype))
    want = torch.tensor([-1.0, 1.0, 1.0, 1.0, float("nan")], dtype=dtype)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
