"""CEMNet beside explicit Fourier matrices."""

import numpy as np
import pytest
import torch
from naive_maps import assert_equals, batch_norm, draw_images, randomize

from hordet.neighbours.cemnet import CEMFusion


def naive_cemnet(x, s, k, size):
    """Spectra of maps and kernels by matrices of roots of unity, all C^2 products of spectra."""
    (height, width), channels = x.shape[1:], len(x)

    def matrix(n):
        return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    rows, columns = matrix(height), matrix(width)
    if size is None:
        kernels = s["weight"]
    else:  # half of a spectrum; the other half is its mirror image, conjugate
        half = s["weight_real"] + 1j * s["weight_imag"]
        kernels = np.fft.irfft2(half, s=size)[:, :, :k, :k]
    spectra = [rows @ channel @ columns for channel in x]
    parts = np.zeros((2, channels, height, width))
    for d in range(channels):
        total = np.zeros((height, width), complex)
        for c in range(channels):
            padded = np.zeros((height, width))
            padded[:k, :k] = kernels[d, c]
            total += spectra[c] * np.conj(rows @ padded @ columns)
        parts[0, d], parts[1, d] = total.real, total.imag
    parts /= (height * width) ** 0.5
    branches = []
    for part, name in zip(parts, ("norm_real", "norm_imag"), strict=True):
        normed = batch_norm(part, s, name)
        branches.append(np.where(normed > 0, normed, 0.2 * normed))
    out = np.empty_like(x)
    for d in range(channels):
        spectrum = branches[0][d] + 1j * branches[1][d]
        back = (np.conj(rows) @ spectrum @ np.conj(columns)).real
        out[d] = back / (height * width) ** 0.5
    return np.roll(out, (k // 2, k // 2), (1, 2))


@pytest.mark.parametrize(("kernel_size", "size"), [(3, None), (5, None), (3, (6, 5)), (3, (4, 8))])
def test_the_equations(kernel_size, size):
    fusion = randomize(CEMFusion(3, kernel_size, size))
    naive = lambda x, s: naive_cemnet(x, s, kernel_size, size)  # noqa: E731
    assert_equals(fusion, naive, draw_images(3, 6, 7))


@torch.no_grad()
def test_cemnet_without_its_norms_and_slope_is_a_circular_convolution():
    fusion = randomize(CEMFusion(3, negative_slope=1.0))
    for norm in (fusion.norm_real, fusion.norm_imag):
        norm.reset_parameters()
        norm.eps = 0.0
    x = draw_images(3)
    want = torch.zeros_like(x)
    for i in range(3):
        for j in range(3):
            moved = x.roll((1 - i, 1 - j), (2, 3))
            want += torch.einsum("dc,nchw->ndhw", fusion.weight[:, :, i, j], moved)
    torch.testing.assert_close(fusion(x), want)


@torch.no_grad()
def test_weight_fixation_keeps_the_first_values_of_the_kernel_alone():
    """A step of the spectrum to anywhere leaves a k x k kernel, of which the map sees no more."""
    torch.manual_seed(0)
    fusion = CEMFusion(2, 3, size=(8, 8)).eval()
    plain = CEMFusion(2, 3).eval()
    plain.weight.copy_(fusion.compute_kernel())
    torch.testing.assert_close(fusion(torch.ones(1, 2, 9, 5)), plain(torch.ones(1, 2, 9, 5)))
    x = torch.randn(1, 2, 9, 5)
    before = fusion(x)
    elsewhere = torch.zeros(2, 2, 8, 8)
    elsewhere[:, :, 5:, 4:] = 3.0
    spectrum = torch.fft.rfft2(elsewhere)
    fusion.weight_real += spectrum.real
    fusion.weight_imag += spectrum.imag
    torch.testing.assert_close(fusion(x), before, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_cemnets_dropout_works_while_training_alone():
    torch.manual_seed(0)
    fusion = CEMFusion(4, drop_rate=0.5)
    x = torch.randn(2, 4, 8, 8)
    assert (fusion(x) != fusion(x)).any()
    fusion.eval()
    assert torch.equal(fusion(x), fusion(x))
    parts = torch.ones(1, 1, 100, 100)
    factors = fusion.train()._activate(parts)
    assert factors.mean().item() == pytest.approx(1, abs=0.02)
    assert factors.std().item() == pytest.approx(0.25, abs=0.01)


def test_parameters():
    """The paper's spectrum of each of the C^2 kernels, of which half is kept."""
    norms = 2 * 2 * 8
    assert sum(p.numel() for p in CEMFusion(8).parameters()) == 8 * 8 * 9 + norms
    trained = sum(p.numel() for p in CEMFusion(8, size=(32, 32)).parameters())
    assert trained == 2 * 8 * 8 * 32 * 17 + norms


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(kernel_size=4), "kernel_size=4"),
        (dict(size=(2, 8)), "size=\\(2, 8\\)"),
        (dict(drop_rate=-1.0), "drop_rate"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        CEMFusion(**dict(channels=8) | options)
