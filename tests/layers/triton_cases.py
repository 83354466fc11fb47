"""Runs the Triton kernels in the interpreter against plain layers; prints errors as JSON.

A process of its own, for Triton reads TRITON_INTERPRET when it is imported.
"""

import copy
import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch.nn import functional as F

from hordet.engine.modes import use_triton_gates
from hordet.hornet import Block
from hordet.layers import GnFusion, triton_gates
from hordet.layers.gnconv import GnConv


def differ(one, other):
    return ((one.double() - other.double()).norm() / other.double().norm()).item()


def make(name):
    if name == "block":
        return Block(8, 2, layer_scale_init_value=0.5)
    if name == "fusion":
        return GnFusion(24, 16, kernel_size=3)
    if name == "wide":
        return GnConv(4, 64, 2, kernel_size=1, proj_out=False)  # two blocks of channels
    return GnConv(12, 24, 3, kernel_size=5, scale=1 / 3)


def run(name, batch, height, width, dtype):
    """Relative errors of the output and of every gradient, against the plain form in float64."""
    torch.manual_seed(0)
    plain = make(name)
    for module in plain.modules():
        if isinstance(module, GnConv):
            module.init_near_linear()
    fused = copy.deepcopy(plain)
    assert use_triton_gates(fused) == 1
    channels = {"block": 8, "fusion": 24, "wide": 4, "order 3": 12}[name]
    x = torch.randn(batch, channels, height, width)
    found = []
    for module, kind in ((plain.double(), None), (fused, dtype)):
        own = x.to(next(module.parameters()).dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            out = module(own)
        cotangent = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out)
        grads = torch.autograd.grad(out, (own, *module.parameters()), cotangent)
        found.append([out.detach(), *grads])
    return [differ(got, want) for want, got in zip(*found, strict=True)]


class Watched:
    """A kernel that notes its launches; the interpreter of Triton 3.2 has no method to replace."""

    def __init__(self, name, kernel, launched):
        self.name, self.kernel, self.launched = name, kernel, launched

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.launched.append(self.name)
            return self.kernel[grid](*args, **kwargs)

        return launch


def count_calls():
    """The kernels that one forward and backward pass launches."""
    launched = []
    for name in ("_convolve", "_sum_taps", "_multiply_gated"):
        setattr(triton_gates, name, Watched(name, getattr(triton_gates, name), launched))
    run("fusion", 1, 1, 2, "float32")
    return [*launched]


def gate_by_itself(height, kernel_size):
    """A map of more rows than one block, or than the kernel reaches: outputs and all gradients."""
    torch.manual_seed(0)
    q, p = torch.randn(1, 6, height, 2), torch.randn(1, 2, height, 2)
    weight, bias = torch.randn(6, 1, kernel_size, kernel_size), torch.randn(6)
    own = [each.requires_grad_() for each in (q, p, weight, bias)]
    found = triton_gates._DepthwiseGate.apply(*own)
    mixed = F.conv2d(q, weight, bias, padding=kernel_size // 2, groups=6)
    want = (p * mixed[:, :2], mixed[:, 2:])
    grads = [
        torch.autograd.grad(sum(part.square().sum() for part in out), own) for out in (found, want)
    ]
    return [differ(*pair) for pair in (*zip(found, want, strict=True), *zip(*grads, strict=True))]


def project_by_itself():
    """A product larger than a tile, with edges on every side."""
    torch.manual_seed(0)
    p, gate = torch.randn(1, 40, 7, 11), torch.randn(1, 72, 7, 11)
    weight, bias = torch.randn(72, 40), torch.randn(72)
    found = triton_gates._ProjectGate.apply(p, weight, bias, gate)
    return differ(found, F.conv2d(p, weight[..., None, None], bias) * gate)


cases = {
    f"{name} {batch}x{height}x{width} {dtype}": run(name, batch, height, width, dtype)
    for name, batch, height, width, dtype in [
        ("block", 1, 2, 5, "float32"),
        ("block", 1, 2, 3, "bfloat16"),
        ("fusion", 2, 2, 19, "float32"),  # two stretches of a row
        ("fusion", 2, 2, 3, "bfloat16"),
        ("wide", 2, 1, 3, "float32"),
        ("order 3", 1, 3, 2, "float32"),
    ]
}
tall = {f"{height} rows, kernel {k}": gate_by_itself(height, k) for height, k in ((10, 3), (8, 7))}
json.dump(
    dict(cases=cases, calls=count_calls(), project=project_by_itself(), tall=tall), sys.stdout
)
