"""The filter by matrix products says what the FFT says, to rounding."""

import pytest
import torch

from hordet.layers import GlobalLocalFilter
from hordet.layers.dft import dft_filter

SIZES = [(1, 1), (1, 2), (2, 1), (7, 5), (8, 8), (9, 12), (33, 47), (64, 96), (127, 160)]


@pytest.mark.parametrize("size", SIZES)
def test_filter_of_planes(size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, size[0], size[1] // 2 + 1, 2, generator=generator).double()
    spectrum = torch.fft.rfft2(x) * torch.view_as_complex(weight)
    want = torch.fft.irfft2(spectrum, s=size)
    assert (dft_filter(x, weight) - want).norm() <= 1e-14 * want.norm()
    got = dft_filter(x.float(), weight.float())
    assert got.dtype == torch.float32
    assert (got - want).norm() <= 1e-6 * want.norm()


@pytest.mark.parametrize("size", [(9, 12), (10, 7)])
def test_the_layer_with_its_resized_filter(size):
    torch.manual_seed(0)
    layer = GlobalLocalFilter(8, gf_size=(5, 4)).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64, requires_grad=True)
    want = layer(x)
    want.square().sum().backward()
    gradients = [x.grad.clone(), layer.complex_weight.grad.clone()]
    x.grad = layer.complex_weight.grad = None
    layer.transform = "dft"
    got = layer(x)
    got.square().sum().backward()
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    for found, wanted in zip([x.grad, layer.complex_weight.grad], gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
    # Without a gradient each keeps a resized filter; the FFT's holds the transforms' factors.
    with torch.no_grad():
        layer.eval()
        by_dft = layer(x)
        layer.transform = "fft"
        torch.testing.assert_close(layer(x), by_dft, rtol=1e-10, atol=1e-12)
        assert len(layer._cache) == 2
