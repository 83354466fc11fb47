"""SCL: masks by hand, the straight-through gradient, what the cost of a connection does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hordet.layers import DepthwiseConv2d
from hordet.neighbours.scl import Scl, SparseConnectivity, count_connections


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def close_some(part):
    with torch.no_grad():
        part.mask.copy_(torch.randn_like(part.mask))
    return part


def test_equals_a_loop_over_connections():
    model = close_some(Scl(3).double().sparse)
    x = torch.randn(1, 3, 4, 5).double()
    got = model(x)
    padded = F.pad(x, (1, 1, 1, 1))
    for o in range(3):
        want = torch.full((4, 5), model.conv.bias[o].item()).double()
        for c in range(3):
            for a in range(3):
                for b in range(3):
                    if model.mask[o, c, a, b] > 0:
                        want += model.conv.weight[o, c, a, b] * padded[0, c, a : a + 4, b : b + 5]
        torch.testing.assert_close(got[0, o], want)


def test_fresh_it_is_the_convolution():
    model, x = Scl(8), torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(model(x), model.sparse.conv(x), rtol=0, atol=0)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {
        "sparse.mask": (8, 8, 3, 3),
        "sparse.conv.weight": (8, 8, 3, 3),
        "sparse.conv.bias": (8,),
    }


def test_straight_through_gradient():
    """dL/dm = dL/d(w H(m)) w, also where m is closed; dL/dw is zero there."""
    model = close_some(SparseConnectivity(nn.Conv2d(3, 4, 3), balance=False))
    x, back = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 3, 3)
    model(x).backward(back)
    g = torch.nn.grad.conv2d_weight(x, (4, 3, 3, 3), back)
    torch.testing.assert_close(model.mask.grad, g * model.conv.weight.detach())
    torch.testing.assert_close(model.conv.weight.grad, g * (model.mask > 0))
    assert (model.mask < 0).any()


def test_balanced_features_have_mask_gradients_of_one_size():
    plain = SparseConnectivity(nn.Conv2d(3, 4, 3), balance=False)
    balanced = SparseConnectivity(plain.conv)
    x, back = (
        torch.randn(2, 3, 5, 5),
        torch.randn(2, 4, 3, 3) * torch.tensor([1e-3, 1, 30, 0]).view(4, 1, 1),
    )
    plain(x).backward(back)
    balanced(x).backward(back)
    size = plain.mask.grad.flatten(1).square().mean(1).sqrt()
    got = balanced.mask.grad
    for feature in range(3):
        want = plain.mask.grad[feature] / size[feature] * sum(size) / 4
        torch.testing.assert_close(got[feature], want)
    assert not got[3].any()


@pytest.mark.parametrize(
    "conv, shape",
    [
        (nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9)),
        (nn.Conv2d(4, 6, (1, 3), groups=2, dilation=2), (2, 4, 9, 8)),
        (nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 3)),
        (nn.Linear(4, 6), (2, 4)),
        (DepthwiseConv2d(4, 7), (2, 4, 9, 8)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_wraps_any_convolution(conv, shape):
    model = close_some(SparseConnectivity(conv))
    x = torch.randn(shape)
    out = model(x)
    out.square().sum().backward()
    assert model.mask.grad.any() and conv.weight.grad.any()
    folded = model.fold()
    assert type(folded) is type(conv) and (folded.weight == 0).sum() == (model.mask <= 0).sum()
    torch.testing.assert_close(folded(x), out, rtol=1e-6, atol=1e-6)
    assert conv.weight.all()  # what is left out keeps its value


def test_shows_the_attributes_of_its_convolution():
    model = SparseConnectivity(nn.Conv2d(4, 6, 3, stride=2))
    assert (model.stride, model.out_channels) == ((2, 2), 6) and model.weight is model.conv.weight
    with pytest.raises(AttributeError, match="'Conv2d' object has no attribute 'nothing'"):
        _ = model.nothing


def test_counts_the_connections_of_a_model():
    model = nn.Sequential(
        Scl(2), nn.Conv2d(2, 2, 1), close_some(SparseConnectivity(nn.Linear(2, 3)))
    )
    kept, of = count_connections(model)
    assert of == 36 + 6 and kept == 36 + (model[2].mask > 0).sum() and kept < of
    (0.5 * kept).backward()
    assert (model[0].sparse.mask.grad == 0.5).all() and (model[2].mask.grad == 0.5).all()
    with pytest.raises(ValueError, match="no sparse connections; take fusion='scl'"):
        count_connections(nn.Conv2d(2, 2, 1))


def test_training_leaves_out_what_is_of_no_use_and_keeps_the_rest():
    """Of eight inputs two matter: theirs are the connections that remain."""
    model = SparseConnectivity(nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept_without = []
    for _ in range(150):
        x = torch.randn(64, 8)
        loss = (model(x) - x[:, :2]).square().mean() + 1e-3 * count_connections(model)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kept_without.append(count_connections(model)[0].item())
    assert kept_without[0] > 8
    assert (model.mask > 0).tolist() == torch.eye(2, 8, dtype=torch.bool).tolist()
    x = torch.randn(64, 8)
    assert (model(x) - x[:, :2]).square().mean() < 1e-2


def test_a_connection_comes_back():
    model = SparseConnectivity(nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model.mask.fill_(-1e-3)
        model.conv.weight.fill_(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.ones(4, 1)
    assert not model(x).any()
    (model(x) - 1).square().mean().backward()
    optimizer.step()
    assert (model(x) > 0).all()


def test_refuses():
    with pytest.raises(ValueError, match="got a ReLU, which has no parameter 'weight'"):
        SparseConnectivity(nn.ReLU())
