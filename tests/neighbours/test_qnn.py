"""QNN's layer: levels by hand, the convolution by loops, gradients within the range alone."""

import pytest
import torch

from hordet.neighbours.qnn import Qnn


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def level(value, bits):
    steps = 2 ** (bits - 1) - 1
    grid = [k / steps for k in range(-steps, steps + 1)]
    return min(grid, key=lambda g: abs(g - value))


@pytest.mark.parametrize("bits", [(2, 2), (4, 3), (8, 8)])
def test_equals_loops_over_levels(bits):
    torch.manual_seed(0)
    model, x = Qnn(3, weight_bits=bits[0], activation_bits=bits[1]).double(), draw(1, 3, 4, 5)
    normed = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    got = model(x)
    for o in range(3):
        scale = max(abs(w) for w in model.weight[o].flatten().tolist())
        for i in range(4):
            for j in range(5):
                total = 0.0
                for c in range(3):
                    for a in range(3):
                        for b in range(3):
                            y, z = i + a - 1, j + b - 1
                            if 0 <= y < 4 and 0 <= z < 5:
                                w = level(model.weight[o, c, a, b].item() / scale, bits[0])
                                total += w * level(normed[0, c, y, z].item(), bits[1])
                assert abs(got[0, o, i, j].item() - scale * total) < 1e-12


def test_two_bits_have_three_levels_and_eight_nearly_the_real_numbers():
    torch.manual_seed(0)
    seen = []
    for bits in (2, 8):
        model = Qnn(4, weight_bits=bits, activation_bits=bits).double()
        probe = torch.zeros(1, 4, 3, 3).double()
        probe[0, :, 1, 1] = torch.tensor([9.0, 0, 0, -9.0])  # far from the mean: levels 1 and -1
        seen.append(model(probe)[0, 0] / model.weight[0].abs().max())
        assert torch.isfinite(seen[-1]).all()
    assert {*(seen[0] * 1).round(decimals=9).flatten().tolist()} <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert len({*seen[1].round(decimals=9).flatten().tolist()}) > 5


def test_gradients_pass_straight_through_within_the_range():
    torch.manual_seed(0)
    model, x = Qnn(3).double(), draw(2, 3, 6, 5)
    normed = []

    def note(module, inputs, out):
        out.retain_grad()
        normed.append(out)

    model.norm.register_forward_hook(note)
    model(x).backward(seed := draw(2, 3, 6, 5, seed=1))
    steps = 7
    inputs = (normed[0].clamp(-1, 1) * steps).round() / steps
    want = torch.nn.grad.conv2d_weight(inputs, (3, 3, 3, 3), seed, padding=1)
    torch.testing.assert_close(model.weight.grad, want)
    outside = normed[0].abs() > 1
    assert outside.any() and not normed[0].grad[outside].any()
    assert (normed[0].grad[~outside] != 0).all()


def test_shapes_of_the_parameters():
    shapes = {name: tuple(p.shape) for name, p in Qnn(64).named_parameters()}
    assert shapes == {"weight": (64, 64, 3, 3), "norm.weight": (64,), "norm.bias": (64,)}


@pytest.mark.parametrize("option", ["weight_bits", "activation_bits"])
@pytest.mark.parametrize("bits", [1, 9])
def test_refuses(option, bits):
    with pytest.raises(ValueError, match=f"got {option}={bits}; allowed are 2 to 8"):
        Qnn(8, **{option: bits})
