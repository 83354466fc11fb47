"""Global Laplacians beside loops over pairs of pixels."""

import math

import numpy as np
import pytest
import torch
from naive_maps import (
    assert_equals,
    batch_norm,
    conv,
    count,
    draw_images,
    max_pool,
    randomize,
    relu,
    softmax,
)

from hordet.neighbours.laplacian import LaplacianFusion


def naive_laplacian(x, s, operator, affinity, power, pool_size):
    u = conv(x, s["conv.weight"]) if "conv.weight" in s else x
    theta = conv(u, s["theta.weight"], s["theta.bias"])
    phi = max_pool(conv(u, s["phi.weight"], s["phi.bias"]), pool_size)
    keys = phi.reshape(len(phi), -1).T
    lam, h = 0.1, 0.05
    out = u
    for stage in range(2):
        sources = max_pool(out, pool_size).reshape(len(out), -1).T
        change = np.zeros_like(out)
        for i in range(u.shape[1]):
            for j in range(u.shape[2]):
                query, here = theta[:, i, j], out[:, i, j]
                if affinity == "gaussian":
                    weights = softmax(np.array([lam * (query @ key) for key in keys]))
                else:
                    weights = [lam / len(keys) * omega(query, key, operator, power) for key in keys]
                for weight, source in zip(weights, sources, strict=True):
                    if operator == "diffusion":
                        change[:, i, j] += weight * (source - here)
                    elif operator == "fractional":
                        change[:, i, j] += weight * (here - source)
                    else:
                        change[:, i, j] += weight * source
        k = f"stages.{stage}"
        y = conv(change, s[f"{k}.0.weight"], s[f"{k}.0.bias"])
        out = u + h * relu(batch_norm(y, s, f"{k}.1"))
    return out


def omega(query, key, operator, s):
    """The constants are those of the singular integral in two dimensions."""
    if operator == "diffusion":
        return query @ key
    distance = np.linalg.norm(query - key)
    if operator == "fractional":
        constant = 4**s * math.gamma(1 + s) / (math.pi * abs(math.gamma(-s)))
        return constant / distance ** (2 + 2 * s)
    return math.gamma(1 - s) / (4**s * math.pi * math.gamma(s)) / distance ** (2 - 2 * s)


@pytest.mark.parametrize(
    ("operator", "affinity", "s", "pool_size", "kernel_size"),
    [
        ("diffusion", "dot", 0.5, 1, None),
        ("diffusion", "dot", 0.5, 2, 3),
        ("diffusion", "gaussian", 0.5, 2, None),
        ("fractional", "dot", 0.3, 1, None),
        ("fractional", "dot", 0.5, 2, None),
        ("inverse", "dot", 0.7, 1, 3),
    ],
)
def test_the_equations(operator, affinity, s, pool_size, kernel_size):
    fusion = LaplacianFusion(
        4, operator, affinity, s=s, pool_size=pool_size, kernel_size=kernel_size
    )

    def naive(x, state):
        return naive_laplacian(x, state, operator, affinity, s, pool_size)

    assert_equals(randomize(fusion), naive, draw_images(4))


@torch.no_grad()
@pytest.mark.parametrize(
    ("operator", "affinity"),
    [("diffusion", "dot"), ("diffusion", "gaussian"), ("fractional", "dot")],
)
def test_a_constant_map_does_not_diffuse(operator, affinity):
    """Nor is there a change by the stages, whose norms have no shift at the start."""
    fusion = LaplacianFusion(4, operator, affinity, kernel_size=None).double().eval()
    x = torch.randn(1, 4, 1, 1, dtype=torch.double).expand(1, 4, 5, 6)
    torch.testing.assert_close(fusion(x), x)


EVERY = [("diffusion", "dot"), ("diffusion", "gaussian"), ("fractional", "dot"), ("inverse", "dot")]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("operator", "affinity"), EVERY)
def test_the_operator_is_in_float32_under_autocast(operator, affinity, dtype):
    """Of the same maps it makes the same change, to the last digit of float32."""
    torch.manual_seed(0)
    fusion = LaplacianFusion(8, operator, affinity, kernel_size=None).eval()
    changes = []
    for stage in fusion.stages:
        stage.register_forward_pre_hook(lambda module, inputs: changes.append(inputs[0]))
    x = 10 + torch.randn(1, 8, 9, 10)
    with torch.autocast("cpu", dtype):
        theta, phi = fusion.theta(x).float(), fusion.phi(x).float()
        got = fusion(x)
    low = changes[0]
    fusion.theta, fusion.phi = _Fixed(theta), _Fixed(phi)
    want = fusion(x)
    torch.testing.assert_close(low, changes[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.float(), want, rtol=1e-2, atol=1e-2)


class _Fixed(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("operator", "affinity"), EVERY[:3])
def test_a_constant_map_does_not_diffuse_under_autocast(operator, affinity, dtype):
    torch.manual_seed(0)
    fusion = LaplacianFusion(8, operator, affinity, kernel_size=None).eval()
    x = 3 * torch.randn(1, 8, 1, 1).expand(1, 8, 9, 10)
    with torch.autocast("cpu", dtype):
        got = fusion(x)
    torch.testing.assert_close(got.float(), x, rtol=1e-3, atol=1e-3)


def test_parameters():
    """theta, phi and W_k with biases, and a norm a stage, as in the authors' code."""
    want = 2 * (64 * 32 + 32) + 2 * (64 * 64 + 64 + 2 * 64)
    assert count(LaplacianFusion(64, kernel_size=None)) == want
    assert count(LaplacianFusion(64)) == want + 64 * 64 * 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(operator="laplace"), "'diffusion', 'fractional', 'inverse'"),
        (dict(affinity="softmax"), "'dot' and 'gaussian'"),
        (dict(s=1.0), "0 < s < 1"),
        (dict(kernel_size=2), "kernel_size=2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        LaplacianFusion(**dict(channels=8) | options)
