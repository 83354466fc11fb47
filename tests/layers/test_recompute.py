"""What training keeps: less than the plain equations, with the same gradients."""

import pytest
import torch
from naive_hornet import naive
from torch.autograd.graph import saved_tensors_hooks

from hordet.hornet import Block
from hordet.layers.layout import to_nchw, to_nhwc
from hordet.layers.recompute import recompute


def block(spatial="dw7x7"):
    torch.manual_seed(0)
    layer = Block(32, 3, spatial=spatial, layer_scale_init_value=0.5)
    layer.gnconv.init_near_linear()
    return layer


def gradients(layer, x):
    x = x.detach().requires_grad_()
    out = layer(x)
    out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
    return {"x": x.grad, **{name: p.grad for name, p in layer.named_parameters()}}


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_gradients_are_those_of_the_plain_equations(spatial):
    layer = block(spatial)
    x = torch.randn(2, 32, 9, 12)
    plain = gradients(naive(layer), x)
    for name, got in gradients(layer, x).items():
        want = plain[name]
        torch.testing.assert_close(got, want, rtol=2e-4, atol=2e-5 * want.abs().max().item())


def kept(layer, x):
    """Bytes of activations that are alive between forward and backward."""
    storages = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(x.detach().requires_grad_())
    return sum(sizes.values()), out


def test_training_keeps_half_of_what_the_plain_equations_keep():
    x = torch.randn(1, 32, 40, 40).contiguous(memory_format=torch.channels_last)
    layer = block()
    plain, keep_alive = kept(naive(layer), x)
    # The hooks of `recompute` stand before these, so what it drops is not seen: as in training.
    ours, also = kept(layer, x)
    assert ours < 0.65 * plain
    del keep_alive, also


def test_parameters_of_the_forward_pass_count():
    """A functional call's parameters are used for what is computed again, not the module's."""
    layer = block()
    x = torch.randn(1, 32, 6, 7)
    other = {name: (p * 1.5).detach().requires_grad_() for name, p in layer.named_parameters()}
    torch.func.functional_call(layer, other, (x,)).square().sum().backward()
    layer.load_state_dict(other)
    layer(x).square().sum().backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(other[name].grad, p.grad)


def test_nothing_else_is_recomputed():
    calls = []
    a, b = (torch.randn(3, 4, requires_grad=True) for _ in "ab")
    product = a * b

    def again():
        calls.append(1)
        return a.detach() * b.detach()

    with recompute(product, again):
        out = (product @ b.t()).exp()
    out.sum().backward()
    assert len(calls) == 1


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_layouts(batch):
    x = torch.randn(batch, 6, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    for map_ in (x, last, last[:, 2:], x[:, 2:]):
        got, turned = to_nchw(map_), to_nhwc(map_)
        assert got.is_contiguous() and turned.is_contiguous()
        assert torch.equal(got, map_) and torch.equal(turned, map_.permute(0, 2, 3, 1))
