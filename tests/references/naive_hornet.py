"""HorNet and HorFPN as their equations read: one torch operator a symbol, channels first, eager.

The peer of `tools/benchmark.py speed` and an oracle of the tests: `naive(model)` is a copy of a
model of hordet with the same parameters, whose forward passes are the ones below.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from hordet.backbones.hornet import HorNet
from hordet.hornet import Block
from hordet.layers import DepthwiseConv2d, GlobalLocalFilter, GnConv, GnFusion, LayerNorm2d
from hordet.layers.pointwise import PointwiseConv2d, PointwiseLinear, SplitPointwiseConv2d
from hordet.layers.recomputed import RecomputedGELU, RecomputedLayerNorm, RecomputedLayerNorm2d
from hordet.necks.hor_fpn import HorFPN


class NaiveLayerNorm(LayerNorm2d):
    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class NaivePointwise(SplitPointwiseConv2d):
    forward = nn.Conv2d.forward


class NaiveDepthwise(DepthwiseConv2d):
    forward = nn.Conv2d.forward


class NaiveFilter(GlobalLocalFilter):
    def forward(self, x):
        local, distant = self.pre_norm(x).chunk(2, dim=1)
        local = self.dw(local)
        batch, channels, height, width = distant.shape
        spectrum = torch.fft.rfft2(distant.float(), norm="ortho")
        weight = self.complex_weight
        if weight.shape[1:3] != spectrum.shape[2:]:
            weight = weight.permute(3, 0, 1, 2)
            weight = F.interpolate(weight, spectrum.shape[2:], mode="bilinear", align_corners=True)
            weight = weight.permute(1, 2, 3, 0)
        spectrum = spectrum * torch.view_as_complex(weight.contiguous())
        distant = torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
        x = torch.cat((local.unsqueeze(2), distant.unsqueeze(2)), dim=2)
        return self.post_norm(x.reshape(batch, 2 * channels, height, width))


class NaiveGnConv(GnConv):
    def forward(self, x):
        x = self.proj_in(x)
        p, q = torch.split(x, (self.dims[0], sum(self.dims)), dim=1)
        q = self.dwconv(q) * self.scale
        gates = torch.split(q, self.dims, dim=1)
        p = p * gates[0]
        for k in range(self.order - 1):
            p = self.pws[k](p) * gates[k + 1]
        return self.proj_out(p)


class NaiveFusion(GnFusion, NaiveGnConv):
    def forward(self, x):
        fused = NaiveGnConv.forward(self, x)
        if self.norm_name is not None:
            fused = getattr(self, self.norm_name)(fused)
        if self.skip:
            groups = x.split(fused.shape[1], dim=1)
            fused = fused + sum(groups) / len(groups)
        return fused if self.activate is None else self.activate(fused)


class NaiveBlock(Block):
    def forward(self, x):
        mixed = self.gnconv(self.norm1(x))
        if self.gamma1 is not None:
            mixed = self.gamma1.view(-1, 1, 1) * mixed
        x = x + self.drop_path(mixed)
        pixels = x.permute(0, 2, 3, 1)
        pixels = self.norm2(pixels)
        pixels = self.pwconv1(pixels)
        pixels = self.act(pixels)
        pixels = self.pwconv2(pixels)
        if self.gamma2 is not None:
            pixels = self.gamma2 * pixels
        return x + self.drop_path(pixels.permute(0, 3, 1, 2))


class NaiveHorNet(HorNet):
    def forward(self, x):
        outs = []
        for i in range(len(self.stages)):
            x = self.stages[i](self.downsample_layers[i](x))
            if i in self.out_indices:
                outs.append(getattr(self, f"norm{i}")(x).contiguous())
        return tuple(outs)


class NaiveHorFPN(HorFPN):
    forward = HorFPN.__mro__[1].forward


NAIVE = {
    LayerNorm2d: NaiveLayerNorm,
    RecomputedLayerNorm2d: NaiveLayerNorm,
    RecomputedLayerNorm: nn.LayerNorm,
    RecomputedGELU: nn.GELU,
    PointwiseConv2d: nn.Conv2d,
    PointwiseLinear: nn.Linear,
    SplitPointwiseConv2d: NaivePointwise,
    DepthwiseConv2d: NaiveDepthwise,
    GlobalLocalFilter: NaiveFilter,
    GnConv: NaiveGnConv,
    GnFusion: NaiveFusion,
    Block: NaiveBlock,
    HorNet: NaiveHorNet,
    HorFPN: NaiveHorFPN,
}


def naive(model):
    """Copy a model; its parts compute as their equations read."""
    model = copy.deepcopy(model)
    for module in model.modules():
        module.__class__ = NAIVE.get(type(module), type(module))
    return model
