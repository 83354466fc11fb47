"""RepBNN's layer: against loops over copies and bits; as many weights as a plain convolution."""

import pytest
import torch

from hordet.neighbours.rep_bnn import RepBnn


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def bit(value):
    return 1.0 if value >= 0 else -1.0


@pytest.mark.parametrize("beta, skip", [(1, True), (2, True), (4, False)])
def test_equals_loops_over_copies_and_bits(beta, skip):
    torch.manual_seed(0)
    model, x = RepBnn(4, beta=beta, skip=skip).double(), draw(1, 4, 3, 5)
    torch.nn.init.normal_(model.bias)
    torch.nn.init.normal_(model.size)
    got = model(x)
    bias, size = model.bias.flatten().tolist(), model.size.flatten().tolist()
    for o in range(4):
        filters = model.weight[o % (4 // beta)]
        alpha = sum(map(abs, filters.flatten().tolist())) / filters.numel()
        for i in range(3):
            for j in range(5):
                count = 0.0
                for c in range(4 * beta):
                    for a in range(3):
                        for b in range(3):
                            y, z = i + a - 1, j + b - 1
                            if 0 <= y < 3 and 0 <= z < 5:
                                seen = bit(x[0, c % 4, y, z].item() + bias[c])
                                count += bit(filters[c, a, b].item()) * seen
                want = size[o] * alpha * count + skip * x[0, o, i, j].item()
                assert abs(got[0, o, i, j].item() - want) < 1e-12


def test_gradients_of_both_signs():
    """Inputs: 2 - 2 |x| within 1; weights: 1 within 1. Alpha is a constant."""
    torch.manual_seed(0)
    model, x = RepBnn(4, skip=False).double(), draw(1, 4, 6, 5).requires_grad_()
    with torch.no_grad():
        model.weight[0, 0] *= 30
    model(x).backward(seed := draw(1, 4, 6, 5, seed=1))
    folded = seed[:, :2] + seed[:, 2:]  # both copies of an output
    bits = torch.where(x.repeat(1, 2, 1, 1) >= 0, 1.0, -1.0).double()
    w = model.weight.detach()
    alpha = w.abs().mean((1, 2, 3), keepdim=True)
    want = torch.nn.grad.conv2d_weight(bits, w.shape, folded, padding=1) * alpha * (w.abs() <= 1)
    torch.testing.assert_close(model.weight.grad, want)
    binary = alpha * torch.where(w >= 0, 1.0, -1.0)
    back = torch.nn.grad.conv2d_input((1, 8, 6, 5), binary, folded, padding=1)
    slope = (2 - 2 * x.abs()).clamp(min=0)
    torch.testing.assert_close(x.grad, (back[:, :4] + back[:, 4:]) * slope)


def test_copies_have_thresholds_of_their_own():
    """With thresholds 0 and 0.5 one value is seen in two bits, so the layer has three levels."""
    model = RepBnn(2, skip=False)
    with torch.no_grad():
        model.bias[2:] = 0.5
        model.weight.fill_(1.0)
    x = torch.full((1, 2, 3, 3), -1.0)
    seen = []
    for value in (-1.0, -0.25, 0.25):
        x[0, 0, 1, 1] = value
        seen.append(model(x)[0, 0, 1, 1].item())
    assert seen == [-36, -34, -32]


def test_as_many_weights_as_a_convolution():
    for beta in (1, 2, 4):
        model = RepBnn(64, beta=beta)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        assert shapes["weight"] == (64 // beta, 64 * beta, 3, 3)
        assert model.weight.numel() == 9 * 64**2
        assert shapes["bias"] == (64 * beta, 1, 1) and shapes["size"] == (64, 1, 1)
        assert len(shapes) == 3


@pytest.mark.parametrize("channels, beta", [(6, 4), (8, 0)])
def test_refuses(channels, beta):
    with pytest.raises(ValueError, match=f"got channels={channels} and beta={beta}; allowed"):
        RepBnn(channels, beta=beta)
