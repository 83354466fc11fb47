"""The block that HorNet repeats."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers import GnConv, LayerNorm2d
from hordet.layers.gnconv import Spatial
from hordet.layers.norm import layer_norm_2d
from hordet.layers.pointwise import scale_output
from hordet.layers.recompute import recompute
from hordet.ops.upstream import disable_compiler

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
        self.norm1 = LayerNorm2d(channels)
        self.gnconv = GnConv(
            channels, channels, order, spatial=spatial, gf_size=gf_size, scale=GNCONV_SCALE
        )
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.drop_path = drop_path
        if layer_scale_init_value > 0:
            self.gamma1 = nn.Parameter(torch.full((channels,), layer_scale_init_value))
            self.gamma2 = nn.Parameter(torch.full((channels,), layer_scale_init_value))
        else:
            self.gamma1 = self.gamma2 = None

    def forward(self, x: Tensor) -> Tensor:
        """Add both branches to a feature map: (N, C, H, W) -> (N, C, H, W)."""
        x = x + self._drop(self._mix(x))
        return x + self._drop(self._mlp(x))

    def _drop(self, branch: Tensor) -> Tensor:
        """Drop a branch for some of the images, in training (Huang et al., ECCV 2016)."""
        return self._drop_in_training(branch) if self.training and self.drop_path else branch

    @disable_compiler
    def _drop_in_training(self, branch: Tensor) -> Tensor:
        """Outside of compiled code, which would be compiled anew for each block's probability."""
        kept = 1 - self.drop_path
        images = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(kept)
        return branch * (images / kept if kept else images)

    def _mix(self, x: Tensor) -> Tensor:
        """Let pixels interact: gamma1 * gnConv(norm(x))."""
        norm = self.norm1
        normed = norm(x)
        again = partial(layer_norm_2d, x.detach(), norm.weight, norm.bias, norm.eps)
        with recompute(normed, again):
            return self.gnconv(normed, self.gamma1)

    def _mlp(self, x: Tensor) -> Tensor:
        """Let channels interact: gamma2 * MLP(norm(x))."""
        x = x.permute(0, 2, 3, 1)
        norm = self.norm2
        normed = norm(x)
        again = partial(
            F.layer_norm, x.detach(), norm.normalized_shape, norm.weight, norm.bias, norm.eps
        )
        with recompute(normed, again):
            hidden = self.pwconv1(normed)
        active = self.act(hidden)
        with recompute(active, partial(F.gelu, hidden.detach())):
            return scale_output(self.pwconv2, active, self.gamma2).permute(0, 3, 1, 2)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the layer scales into the layers before them; for inference, not undone."""
        if self.gamma1 is None or self.gamma2 is None:
            return
        for layer, gamma in ((self.gnconv.proj_out, self.gamma1), (self.pwconv2, self.gamma2)):
            layer.weight.mul_(gamma.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(gamma)
        self.gamma1 = self.gamma2 = None
