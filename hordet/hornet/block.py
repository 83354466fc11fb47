"""The block that HorNet repeats."""

from typing import Any

import torch
from torch import Tensor, nn

from hordet.hornet.drop_path import DropPath
from hordet.layers import GnConv
from hordet.layers.gnconv import Spatial
from hordet.layers.pointwise import PointwiseLinear
from hordet.layers.recomputed import RecomputedGELU, RecomputedLayerNorm, RecomputedLayerNorm2d

GNCONV_SCALE = 1 / 3  # s of section 3.2, the same in every published model


class Block(nn.Module):
    """gnConv branch and MLP branch, each with layer scale and drop path (HorNet figure 2).

    Args:
        channels: C of input and output.
        order: Order of the gnConv.
        spatial: 'dw7x7' or 'gf'.
        gf_size: (h, w) of the learned filter ('gf' only).
        drop_path: Probability that a branch is skipped for an image in training.
        layer_scale_init_value: Start of both layer scales; 0 builds none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(
        self,
        channels: int,
        order: int,
        spatial: Spatial = "dw7x7",
        gf_size: tuple[int, int] = (14, 8),
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ) -> None:
        """Create both branches."""
        super().__init__()
        self.norm1 = RecomputedLayerNorm2d(channels)
        self.gnconv = GnConv(
            channels, channels, order, spatial=spatial, gf_size=gf_size, scale=GNCONV_SCALE
        )
        self.norm2 = RecomputedLayerNorm(channels, eps=1e-6)
        self.pwconv1 = PointwiseLinear(channels, 4 * channels)
        self.act = RecomputedGELU()
        self.pwconv2 = PointwiseLinear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)
        self.gamma1: nn.Parameter | None = None
        self.gamma2: nn.Parameter | None = None
        if layer_scale_init_value > 0:
            self.gamma1 = nn.Parameter(torch.full((channels,), layer_scale_init_value))
            self.gamma2 = nn.Parameter(torch.full((channels,), layer_scale_init_value))

    def forward(self, x: Tensor) -> Tensor:
        """Add both branches to a feature map: (N, C, H, W) -> (N, C, H, W).

        x + drop(gamma1 * gnconv(norm1(x))), then x + drop(gamma2 * mlp(norm2(x))).
        """
        x = x + self.drop_path(self.gnconv(self.norm1(x), self.gamma1))
        pixels = x.permute(0, 2, 3, 1)  # the MLP sees one pixel at a time, channels last
        pixels = pixels + self.drop_path(self._mlp(self.norm2(pixels), self.gamma2))
        return pixels.permute(0, 3, 1, 2)

    def _mlp(self, pixels: Tensor, layer_scale: Tensor | None) -> Tensor:
        """Let the channels of a pixel interact: (N, H, W, C) -> (N, H, W, C)."""
        return self.pwconv2(self.act(self.pwconv1(pixels)), layer_scale)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the layer scales into the layers before them; for inference, not undone."""
        if self.gamma1 is None or self.gamma2 is None:
            return
        layers: tuple[Any, ...] = (self.gnconv.proj_out, self.pwconv2)
        for layer, gamma in zip(layers, (self.gamma1, self.gamma2), strict=True):
            layer.weight.mul_(gamma.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(gamma)
        self.gamma1 = self.gamma2 = None
