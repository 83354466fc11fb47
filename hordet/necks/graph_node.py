"""The node of a GraphFPN: edges, weighted sum, fusion block; and how it is initialized."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule, build_activation_layer
from torch import Tensor, nn

from hordet.layers import GnFusion, WeightedSum
from hordet.registry import MODELS

Fusion = Literal["separable", "conv", "gnconv"]
Downsample = Literal["max_pool", "conv"]
Config = dict[str, Any] | None

# Root mean square of the largest of 3 x 3 independent normal numbers.
POOLED_RMS = 1.6
# Of a gate around 1 at the start. Many gnConvs in a row amplify a deviation again and again.
GATE_STD = 0.1


class GraphNode(nn.Module):
    """One node: each input projected and resized, their weighted sum, the fusion block.

    Args:
        inputs: Names of the maps that it takes.
        edges: For each input, what it passes before the sum: projection and downsampling.
        combine: The sum.
        fusion: What follows the sum.
        upsample_cfg: Keywords of `torch.nn.functional.interpolate` but the size.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        edges: Sequence[nn.Module],
        combine: WeightedSum,
        fusion: nn.Module,
        upsample_cfg: dict[str, Any],
    ) -> None:
        """Keep the parts."""
        super().__init__()
        self.inputs = tuple(inputs)
        self.edges: Any = nn.ModuleList(edges)
        self.combine = combine
        self.fusion = fusion
        self.upsample_cfg = upsample_cfg

    def forward(self, maps: Mapping[str, Tensor], size: torch.Size) -> Tensor:
        """Compute the node's map of `size` (H, W) from the named maps (N, C_i, H_i, W_i)."""
        resized = []
        for name, edge in zip(self.inputs, self.edges, strict=True):
            x = edge(maps[name])
            # Up by any factor; after downsampling at most a border that the backbone cut off.
            if x.shape[-2:] != size:
                x = F.interpolate(x, size=size, **self.upsample_cfg)
            resized.append(x)
        return self.fusion(self.combine(resized))

    @torch.no_grad()
    def init_keep_std(self, stds: Mapping[str, float], act_cfg: Config) -> float:
        """Start so that the fusion block gives a standard deviation of about 1.

        The convolutions keep the standard deviation of what they get, gnConvs start as context,
        and the first layer after the sum makes good what max-pooling, the sum and the activation
        change, where no norm in front of it does.

        Args:
            stds: Standard deviation of each named map, all taken as independent.
            act_cfg: The activation after the sum.

        Returns:
            The standard deviation of the node: 1, more with a skip around the block, or that of
            the sum where no block follows.
        """
        entering = []
        for name, edge in zip(self.inputs, self.edges, strict=True):
            pooled = any(isinstance(step, nn.MaxPool2d) for step in edge)
            entering.append(stds[name] * (POOLED_RMS if pooled else 1.0))
        std = self.combine.std_of(entering)
        first = next((m for m in self.fusion.modules() if isinstance(m, nn.Conv2d)), None)
        if first is None:
            return std
        entering_fusion = std * measure_rms(act_cfg)
        gnconv = next((m for m in self.fusion.modules() if isinstance(m, GnFusion)), None)
        if gnconv is not None:
            gnconv.init_context(gate_std=GATE_STD)
        if gnconv is None or not gnconv.pre_norm:
            first.weight.div_(entering_fusion)
        skipped = gnconv is not None and gnconv.skip
        return (1 + entering_fusion**2) ** 0.5 if skipped else 1.0


def build_projection(in_channels: int, out_channels: int, norm_cfg: Config) -> nn.Module:
    """Build the 1x1 convolution and norm on an edge from the backbone."""
    return ConvModule(in_channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)


def build_down_step(
    channels: int, downsample: Downsample = "max_pool", norm_cfg: Config = None
) -> nn.Module:
    """Build a step of stride 2: (N, C, H, W) -> (N, C, H / 2, W / 2), rounded up."""
    if downsample == "max_pool":
        return nn.MaxPool2d(3, stride=2, padding=1)
    return ConvModule(channels, channels, 3, stride=2, padding=1, norm_cfg=norm_cfg, act_cfg=None)


def build_fusion(
    channels: int, fusion: Fusion, norm_cfg: Config, act_cfg: Config, gn_cfg: dict[str, Any]
) -> nn.Module:
    """Build activation, convolution or gnConv (`gn_cfg`: its options), norm."""
    if fusion == "gnconv":
        act = build_activation_layer(act_cfg) if act_cfg else nn.Identity()
        options = dict(in_channels=channels, out_channels=channels, norm_cfg=norm_cfg, **gn_cfg)
        return nn.Sequential(act, MODELS.build(dict(type="hordet.GnFusion", **options)))
    shared = dict(
        kernel_size=3,
        padding=1,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
        inplace=False,  # a node of one input would overwrite it
        order=("act", "conv", "norm"),
    )
    if fusion == "conv":
        return ConvModule(channels, channels, **shared)
    return DepthwiseSeparableConvModule(
        channels, channels, dw_norm_cfg=None, pw_act_cfg=None, bias=norm_cfg is None, **shared
    )


def measure_rms(act_cfg: Config) -> float:
    """Return the root mean square of an activation whose input is normal with std 1."""
    if not act_cfg:
        return 1.0
    with torch.device("cpu"), torch.no_grad():  # the model may be on the meta device
        z = torch.erfinv(torch.linspace(-1, 1, 2001)[1:-1]) * 2**0.5
        return build_activation_layer(act_cfg)(z).square().mean().sqrt().item()
