"""GnFusion: its start as context, skip, norm in front, and what checkpoints say of them."""

import copy
import warnings

import pytest
import torch

from hordet.checkpoints.coverage import fill_model
from hordet.layers import GnConv, GnFusion
from hordet.layers.gate_start import compute_transfer
from hordet.layers.global_filter import GlobalLocalFilter

SPATIALS = ("dw7x7", "gf")


def context(channels=64, order=2, input_std=1.0, **options):
    torch.manual_seed(0)
    layer = GnConv(channels, channels, order, **options)
    layer.init_context(input_std)
    return layer


def jacobian_of_the_middle(layer, channels=64, size=9):
    """Gradient of the middle pixel's outputs: (C, C, H, W), at a random input."""
    x = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(1))
    middle = size // 2
    return torch.autograd.functional.jacobian(lambda z: layer(z)[0, :, middle, middle], x)[:, 0]


def compute_effective_rank(matrix):
    """exp of the entropy of the normalized singular values (Roy and Vetterli, 2007)."""
    values = torch.linalg.svdvals(matrix)
    shares = values / values.sum()
    return torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()).item()


@pytest.mark.parametrize("spatial", SPATIALS)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("input_std", [0.5, 1.0, 2.0])
def test_context_keeps_the_standard_deviation(spatial, order, input_std):
    layer = context(order=order, spatial=spatial, input_std=input_std, scale=0.5)
    x = input_std * torch.randn(2, 64, 24, 40)
    assert layer(x).std().item() == pytest.approx(input_std, rel=0.2)


@pytest.mark.parametrize("spatial", SPATIALS)
@pytest.mark.parametrize("input_std", [0.5, 2.0])
def test_what_is_1_at_the_context_start_has_a_small_response(spatial, input_std):
    """The gates before the last, and what the last is multiplied by: 1 ± 0.25 or so."""
    layer = context(order=3, spatial=spatial, input_std=input_std, scale=0.5)
    q, gates, last = [], [], []
    layer.dwconv.register_forward_pre_hook(lambda module, inputs: q.append(inputs[0]))
    layer.pws[-1].register_forward_hook(lambda module, inputs, out: last.append(out))
    with torch.no_grad():
        layer(input_std * torch.randn(4, 64, 24, 40))
        gates = layer.dwconv(q[0], layer.scale)[:, : -layer.dims[-1]]
    for response in (gates, last[0]):
        assert response.mean().item() == pytest.approx(1, abs=0.05)
        spread = (response - response.mean((0, 2, 3), keepdim=True)).std().item()
        assert spread == pytest.approx(0.25, rel=0.15)


@pytest.mark.parametrize("spatial", SPATIALS)
def test_context_sees_its_neighbors_with_full_rank(spatial):
    """The 3x3 convolution that it replaces has a rank of 58, all gates near 1 30 to 40."""
    layer = context(spatial=spatial)
    jacobian = jacobian_of_the_middle(layer)
    whole = jacobian.square().sum()
    inner = jacobian[:, :, 3:6, 3:6]
    middle = jacobian[:, :, 4, 4].square().sum()
    assert inner.square().sum() / whole > 0.8
    assert (inner.square().sum() - middle) / whole > 0.6
    layer.init_near_linear()
    near_linear = jacobian_of_the_middle(layer)
    assert near_linear[:, :, 4, 4].square().sum() / near_linear.square().sum() > 0.8
    ranks = [compute_effective_rank(j.flatten(1)) for j in (jacobian, near_linear)]
    assert ranks[0] > 45 > 42 > ranks[1]


@pytest.mark.parametrize("spatial", SPATIALS)
def test_every_parameter_learns_from_the_context_start(spatial):
    layer = context(order=3, spatial=spatial)
    layer(torch.randn(2, 64, 16, 16)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (15, 21)])
def test_transfer_functions_are_those_of_the_kernels(size):
    """The filter, resized to a map, convolves as the kernels do, away from the border."""
    torch.manual_seed(0)
    kernels = torch.randn(4, 3, 3)
    mixer = GlobalLocalFilter(8, gf_size=(64, 65))
    with torch.no_grad():
        mixer.complex_weight.copy_(compute_transfer(kernels, (64, 65)))
        x = torch.randn(2, 4, *size)
        got = mixer._filter(x)
    wrapped = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    want = torch.nn.functional.conv2d(wrapped, kernels[:, None], groups=4)
    assert (got - want).std() / want.std() < 0.25  # a filter of 64 rows spans one frequency more
    assert torch.corrcoef(torch.stack([got.flatten(), want.flatten()]))[0, 1] > 0.97


def test_skip_of_concatenated_levels_is_their_mean():
    torch.manual_seed(0)
    layer = GnFusion(24, 8, skip=True)
    plain = copy.deepcopy(layer)
    plain.skip = False
    x = torch.randn(2, 24, 7, 9)
    mean = (x[:, :8] + x[:, 8:16] + x[:, 16:]) / 3
    torch.testing.assert_close(layer(x), plain(x) + mean)


def test_skip_is_in_front_of_the_activation():
    layer = GnFusion(8, 8, act=torch.nn.ReLU(), skip=True)
    assert (layer(torch.randn(2, 8, 7, 9)) >= 0).all()


def test_skip_needs_a_multiple_of_the_width():
    with pytest.raises(ValueError, match="12 channels in and 8 out.*skip=False"):
        GnFusion(12, 8, skip=True)


FORMS = [(skip, pre_norm) for pre_norm in (False, True) for skip in (False, True)]


@pytest.mark.parametrize("trained", FORMS)
@pytest.mark.parametrize("configured", FORMS)
def test_a_checkpoint_says_how_it_was_trained(trained, configured, tmp_path):
    """Old checkpoints and the authors' have version 1: their numbers stay as they were."""
    torch.manual_seed(0)
    names = ("skip", "pre_norm")
    source, layer = (
        GnFusion(8, 8, **dict(zip(names, f, strict=True))) for f in (trained, configured)
    )
    torch.save(source.state_dict(), tmp_path / "fusion.pth")
    state = torch.load(tmp_path / "fusion.pth", weights_only=True)
    version = 1 + FORMS.index(trained)
    assert state._metadata[""]["version"] == version
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer.load_state_dict(state)
    differing = [
        f"{name}={was} in the config says the same"
        for name, was, config in zip(names, trained, configured, strict=True)
        if was != config
    ]
    said = [str(w.message) for w in caught]
    assert len(said) == len(differing)
    assert all(words in message for words, message in zip(differing, said, strict=True))
    x = torch.randn(2, 8, 7, 9)
    torch.testing.assert_close(layer(x), source(x), rtol=0, atol=0)
    # What it learns further is saved for what it is.
    assert layer.state_dict()._metadata[""]["version"] == version


@pytest.mark.parametrize("version", [0, 5, -1, "2", None.__class__])
def test_an_unknown_form_is_refused(version):
    layer = GnFusion(8, 8)
    state = layer.state_dict()
    state._metadata[""]["version"] = version
    with pytest.raises(ValueError, match="forms 1 to 4. Update hordet"):
        layer.load_state_dict(state)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone."])
def test_the_form_is_read_behind_a_prefix(prefix):
    """That of parallel training, and that of a backbone in a model's file."""
    source = torch.nn.ModuleDict({"neck": GnFusion(8, 8, pre_norm=True)})
    for name in reversed(prefix.rstrip(".").split(".")):
        source = torch.nn.ModuleDict({name: source})
    target = torch.nn.ModuleDict({"neck": GnFusion(8, 8, skip=True)})
    coverage = fill_model(target, {"state_dict": source.state_dict()})
    assert coverage.matched == coverage.total
    assert (target["neck"].skip, target["neck"].pre_norm) == (False, True)


def test_a_form_that_the_width_does_not_allow_is_refused():
    layer = GnFusion(12, 8)
    state = layer.state_dict()
    state._metadata[""]["version"] = 2
    with pytest.raises(ValueError, match="12 channels in and 8 out"):
        layer.load_state_dict(state)


def test_the_norm_in_front_hands_the_gnconv_each_pixel_normalized():
    torch.manual_seed(0)
    layer = GnFusion(8, 8, pre_norm=True)
    x = 30 * torch.randn(2, 8, 7, 9) + 5
    mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True, unbiased=False)
    want = GnConv.forward(layer, (x - mean) / std)
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)


def test_weights_without_metadata_leave_the_skip_to_the_config():
    layer = GnFusion(8, 8, skip=True)
    layer.load_state_dict(dict(GnFusion(8, 8).state_dict()))
    assert layer.skip
