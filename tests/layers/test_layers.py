"""The layers against naive loops, in every dtype and size, and their errors."""

import copy
import pickle

import naive_gnconv
import numpy as np
import pytest
import torch
from torch import nn

from hordet.layers import GlobalLocalFilter, GnConv, GnFusion, LayerNorm2d, global_filter
from hordet.layers.global_filter import MAX_CACHED_SIZES


def randomised(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((noise * 0.5).to(parameter.dtype))
    return module


def numpy_state(module):
    return {k: v.double().numpy() for k, v in module.state_dict().items()}


def test_layer_norm_against_loop():
    layer = randomised(LayerNorm2d(6)).double()
    x = torch.randn(1, 6, 4, 5, dtype=torch.float64)
    want = naive_gnconv.layer_norm(x[0].numpy(), *(p.detach().numpy() for p in layer.parameters()))
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), want, atol=1e-12)


def test_layer_norm_of_large_half_values():
    """The hand-written norm of the authors squares in float16 and overflows above 255."""
    x = torch.tensor([[-1000.0, 1000.0]]).half().view(1, 2, 1, 1)
    out = LayerNorm2d(2).half()(x)
    torch.testing.assert_close(out.flatten(), torch.tensor([-1.0, 1.0]).half())


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (5, 4), (7, 1), (6, 6)])
def test_global_filter_against_loop(size):
    layer = randomised(GlobalLocalFilter(4, gf_size=(5, 3))).double().eval()
    x = torch.randn(1, 4, *size, dtype=torch.float64)
    want = naive_gnconv.global_local_filter(x[0].numpy(), numpy_state(layer))
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), want, atol=1e-9)


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("proj_out", [True, False])
def test_gnconv_against_loop(spatial, order, proj_out):
    layer = GnConv(
        3, 8, order, spatial=spatial, kernel_size=5, gf_size=(4, 3), scale=0.7, proj_out=proj_out
    )
    layer = randomised(layer).double()
    x = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    want = naive_gnconv.gnconv(x[0].numpy(), numpy_state(layer), order, 0.7, spatial)
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), want, atol=1e-9)


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_gnconv_gradcheck(spatial):
    layer = randomised(GnConv(2, 4, 2, spatial=spatial, kernel_size=3, gf_size=(4, 3))).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    parameters = dict(layer.named_parameters())

    def run(x, *values):
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(layer, state, (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters.values()))


@pytest.mark.parametrize(
    ("channels", "order", "spatial", "words"),
    [
        (20, 4, "dw7x7", "16 or 24"),
        (6, 2, "gf", "4 or 8"),
        (8, 4, "gf", "nearest 16"),
        (16, 5, "gf", "nearest 32"),
        (8, 0, "dw7x7", "at least one gate"),
    ],
)
def test_width_that_cannot_be_split(channels, order, spatial, words):
    with pytest.raises(ValueError, match=words):
        GnConv(8, channels, order, spatial=spatial)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="'dw7x7' and 'gf'"):
        GnConv(8, 8, 2, spatial="fft")
    with pytest.raises(ValueError, match="5 or 7"):
        GnConv(8, 8, 2, kernel_size=6)
    with pytest.raises(ValueError, match="channels=7"):
        GlobalLocalFilter(7)


@pytest.mark.parametrize(
    ("layer", "parameters", "macs"),
    [
        (lambda: nn.Conv2d(256, 256, 3, padding=1), 590_080, 589_824),
        (lambda: GnFusion(256, 256), 249_600, 248_192),
        (lambda: GnFusion(256, 256, spatial="gf", gf_size=(32, 17)), 442_560, 231_104),
    ],
    ids=["conv3x3", "7x7", "gf"],
)
def test_constants_of_one_level(layer, parameters, macs):
    """The cost of one 256 -> 256 level, the numbers HorFPN is sold by (FFT not counted)."""
    layer = layer()
    assert sum(p.numel() for p in layer.parameters()) == parameters
    convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) == macs


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(spatial, dtype):
    torch.manual_seed(0)
    layer = GnConv(16, 16, 2, spatial=spatial, scale=1 / 3).eval()
    layer.init_near_linear()
    x = torch.randn(2, 16, 9, 11)
    with torch.no_grad():
        want = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = layer(x)
        low = copy.deepcopy(layer).to(dtype)(x.to(dtype))
    assert low.dtype == dtype
    error = (low.float() - want).norm() / want.norm()
    assert error < 0.03
    assert (mixed.float() - want).norm() / want.norm() < 0.03


@pytest.mark.parametrize("batch, values", [(1, 1), (1, 3 * 9 * 7), (2, 4 * 9 * 7)])
def test_global_filter_in_chunks_of_channels(monkeypatch, batch, values):
    layer = randomised(GlobalLocalFilter(20, gf_size=(5, 3))).double().eval()
    x = torch.randn(batch, 20, 9, 7, dtype=torch.double).to(memory_format=torch.channels_last)
    whole, spectra, rfft2 = layer(x), [], torch.fft.rfft2

    def counted(x, **options):
        spectra.append(x.shape[1])
        return rfft2(x, **options)

    monkeypatch.setattr(global_filter, "CHUNK", values)
    monkeypatch.setattr(torch.fft, "rfft2", counted)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole)
    step = max(1, values // (batch * 9 * 7))
    assert sum(spectra) == 10 and spectra[0] == step and len(spectra) == -(-10 // step)
    spectra.clear()
    layer(x)  # for a gradient, which keeps the whole spectrum anyway
    assert spectra == [10]


def test_global_filter_keeps_the_callers_dtype_and_filters_in_float32(monkeypatch):
    seen = []
    rfft2 = torch.fft.rfft2
    monkeypatch.setattr(torch.fft, "rfft2", lambda x, **k: seen.append(x.dtype) or rfft2(x, **k))
    layer = GlobalLocalFilter(4)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert copy.deepcopy(layer).to(dtype)(torch.randn(1, 4, 6, 7, dtype=dtype)).dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(1, 4, 6, 7)).dtype == torch.float32
    assert seen == [torch.float32] * 3 + [torch.float64, torch.float32]


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_empty_batch(spatial):
    layer = GnConv(4, 4, 2, spatial=spatial)
    x = torch.randn(0, 4, 5, 6, requires_grad=True)
    out = layer(x)
    assert out.shape == (0, 4, 5, 6)
    out.sum().backward()
    assert x.grad.shape == x.shape


class TestFilterCache:
    """The resized filter is computed once per size in eval, and never stale."""

    @pytest.fixture
    def layer(self, monkeypatch):
        self.resizes = 0
        original = GlobalLocalFilter._resize

        def counted(weight, height, width):
            self.resizes += 1
            return original(weight, height, width)

        monkeypatch.setattr(GlobalLocalFilter, "_resize", staticmethod(counted))
        return GlobalLocalFilter(4).eval()

    @torch.no_grad()
    def test_once_per_size(self, layer):
        for _ in range(3):
            for size in ((6, 7), (9, 9)):
                layer(torch.randn(1, 4, *size))
        assert self.resizes == 2

    @torch.no_grad()
    def test_bounded(self, layer):
        for side in range(4, 14):
            layer(torch.randn(1, 4, side, side))
        assert len(layer._cache) == MAX_CACHED_SIZES

    @torch.no_grad()
    def test_follows_the_weights(self, layer):
        x = torch.randn(1, 4, 6, 7)
        before = layer(x)
        layer.complex_weight.mul_(-1)
        assert not torch.allclose(layer(x), before)
        layer.load_state_dict(
            {k: -v if k == "complex_weight" else v for k, v in layer.state_dict().items()}
        )
        torch.testing.assert_close(layer(x), before)

    @torch.no_grad()
    def test_follows_an_averaging_hook(self, layer):
        """mmengine's EMA hook swaps `parameter.data` before it calls `eval`."""
        x = torch.randn(1, 4, 6, 7)
        before = layer(x)
        layer.complex_weight.data.copy_(-layer.complex_weight.data)
        layer.eval()
        assert not torch.allclose(layer(x), before)

    def test_gradients_do_not_use_it(self, layer):
        x = torch.randn(1, 4, 6, 7)
        with torch.no_grad():
            layer(x)
        layer(x).sum().backward()
        assert layer.complex_weight.grad is not None

    @torch.no_grad()
    def test_is_not_copied(self, layer):
        layer(torch.randn(1, 4, 6, 7))
        assert not copy.deepcopy(layer)._cache
        assert not pickle.loads(pickle.dumps(layer))._cache
        assert set(layer.state_dict()) == set(GlobalLocalFilter(4).state_dict())


def test_filter_of_another_size_is_resized_on_load():
    """Official classification weights (14, 8) start the segmentation models of (24, 13)."""
    small = GlobalLocalFilter(4, gf_size=(14, 8)).eval()
    large = GlobalLocalFilter(4, gf_size=(24, 13))
    state = small.state_dict()
    large.load_state_dict(state)
    assert state["complex_weight"].shape == (2, 14, 8, 2), "the caller's dict stays as it was"
    # At its own size the resized filter is what `forward` makes of the small one.
    x = torch.randn(1, 4, 24, 24)
    torch.testing.assert_close(large(x), small(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_near_linear_initialization(spatial):
    torch.manual_seed(0)
    layer = GnConv(64, 64, 2, spatial=spatial, scale=0.5)
    layer.init_near_linear()
    x = torch.randn(2, 64, 24, 24)
    assert 0.7 < layer(x).std() < 1.4
    smaller = layer(0.1 * x).std() / layer(x).std()
    assert 0.08 < smaller < 0.13  # a product of three signals would give 0.001


SIZES = [(4, 5), (5, 4), (6, 6), (1, 7), (3, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_the_spectral_product_is_that_of_two_ortho_transforms(size):
    """Value and both gradients, in float64, against torch's own derivative of the FFTs."""
    torch.manual_seed(0)
    height, width = size
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, height, width // 2 + 1, dtype=torch.complex128, requires_grad=True)
    spectrum = torch.fft.rfft2(x, norm="ortho") * weight
    plain = torch.fft.irfft2(spectrum, s=size, norm="ortho")
    ours, _ = global_filter._SpectralProduct.apply(x, weight / (height * width))
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(plain)
    want = torch.autograd.grad(plain, (x, weight), cotangent)
    for one, other in zip(torch.autograd.grad(ours, (x, weight), cotangent), want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_spectral_product_has_first_and_second_derivatives(size):
    torch.manual_seed(0)
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, size[0], size[1] // 2 + 1, 2, dtype=torch.float64, requires_grad=True)

    def product(x, weight):
        return global_filter._SpectralProduct.apply(x, torch.view_as_complex(weight))[0]

    assert torch.autograd.gradcheck(product, (x, weight))
    assert torch.autograd.gradgradcheck(product, (x, weight))


def test_the_filter_is_differentiated_by_real_transforms(monkeypatch):
    """torch's derivative of rfft2 is a complex transform of the whole plane; ours has none."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    layer = GlobalLocalFilter(4, (6, 4))
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    with Count() as backward:
        torch.autograd.grad(layer._filter(x).sum(), (x, layer.complex_weight))
    transforms = [name for name in backward.names if name.startswith("_fft")]
    assert transforms == ["_fft_r2c", "_fft_c2r", "_fft_r2c", "_fft_c2r"]
