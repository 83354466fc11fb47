"""G-Ghost-RegNet: a RegNet whose stages compute half of their channels cheaply (Han et al., 2022).

"GhostNets on Heterogeneous Devices via Cheap Operations" (IJCV 2022, arXiv 2201.03297), section 4.
Features of a stage's last block are like those of its first, so a part of them needs no depth. A
stage of n blocks B_1 .. B_n is RegNetX's, but its middle blocks have half of the channels:

    y_1 = B_1(x),    y_i = B_i(y_{i-1})  for i = 2 .. n-1, from the first m channels of y_1,
    ghosts = relu(C(y_1's other channels) + M(mean over the map of [y_1, y_2, .., y_{n-1}])),
    out = B_n([y_{n-1}, ghosts])

`hordet.neighbours.g_ghost` has these equations as a fusion of a neck. The first stage, and a stage
of one or two blocks, is RegNet's own. Within the cheap stages m is the largest multiple of 3/4 of
the width of a group up to half of the channels; that is also their groups' width.

The published sizes with a classifier are 10.5, 15.7, 24.6 and 32.4 million parameters at 3.2, 4.0,
8.0 and 16 billion multiply-adds of the RegNetX that is made cheaper (a table in the authors'
repository). Parameters have the names of their code.

What differs. In M, the norms are over the numbers of an image (layer norm) where the authors have
batch norms: with few images a step, which dense prediction has, a batch norm over so few vectors
leaves their signs, and over one vector torch refuses it. `mix_norm='batch'` is the authors'
network, for their weights and with `norm_eval=True`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hordet.backbones.wrapped import STRIDES, WrappedBackbone, init_convs, require_arch
from hordet.registry import MODELS

# Blocks and channels of each stage, and channels of a group.
ARCHITECTURES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "002": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "032": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "040": ((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "080": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "160": ((2, 6, 13, 1), (256, 512, 896, 2048), 128),
}
MixNorm = Literal["layer", "batch"]


class Block(nn.Module):
    """RegNetX's block: (N, channels, H, W) -> (N, out, H / stride, W / stride), rounded up."""

    def __init__(self, channels: int, out: int, group_width: int, stride: int = 1) -> None:
        """Create the three convolutions, and a shortcut where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        groups = out // min(out, group_width)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv3 = nn.Conv2d(out, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential()
        if stride > 1 or channels != out:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class GhostStage(nn.Module):
    """A stage of at least three blocks, of which those between first and last are narrow.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        depth: n, the number of blocks, at least 3.
        group_width: Channels of a group of the first and last block's 3x3 convolution.
        mix_norm: See `GGhostRegNet`.

    Shape:
        (N, channels, H, W) -> (N, out, H / 2, W / 2), sizes rounded up.
    """

    def __init__(
        self, channels: int, out: int, depth: int, group_width: int, mix_norm: MixNorm
    ) -> None:
        """Create the blocks, the cheap operation and the mix."""
        super().__init__()
        self.base = Block(channels, out, group_width, stride=2)
        self.end = Block(out, out, group_width)
        narrow = group_width * 3 // 4
        self.deep = out // 2 // narrow * narrow
        cheap = out - self.deep
        self.layers = nn.Sequential(
            *(Block(self.deep, self.deep, narrow) for _ in range(depth - 2))
        )
        norms = [
            nn.GroupNorm(1, cheap) if mix_norm == "layer" else nn.BatchNorm2d(cheap)
            for _ in range(2)
        ]
        self.merge = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out + self.deep * (depth - 2), cheap, 1, bias=False),
            norms[0],
            nn.ReLU(inplace=True),
            nn.Conv2d(cheap, cheap, 1, bias=False),
            norms[1],
        )
        self.cheap = nn.Sequential(nn.Conv2d(cheap, cheap, 1, bias=False), nn.BatchNorm2d(cheap))

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage."""
        first = self.base(x)
        deep, cheap = first[:, : self.deep], first[:, self.deep :]
        features = [first]
        for block in self.layers:
            deep = block(deep)
            features.append(deep)
        ghosts = (self.cheap(cheap) + self.merge(torch.cat(features, 1))).relu()
        return self.end(torch.cat([deep, ghosts], 1))


def build_stage(
    channels: int, out: int, depth: int, group_width: int, mix_norm: MixNorm, cheap: bool
) -> nn.Module:
    """Build a stage of stride 2: with a cheap part, or RegNet's own."""
    if cheap and depth > 2:
        return GhostStage(channels, out, depth, group_width, mix_norm)
    blocks = [Block(channels, out, group_width, stride=2)]
    blocks += [Block(out, out, group_width) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


@MODELS.register_module()
class GGhostRegNet(WrappedBackbone):
    """RegNetX with G-Ghost stages.

    Args:
        arch: The RegNetX that is made cheaper, by its multiply-adds: '002' (200 million), '032',
            '040', '080' or '160'.
        out_indices: Ascending indices of the stages that are returned; None for all four.
        mix_norm: 'layer', which trains with any number of images, or 'batch' as the authors.
        norm_eval: Keep every BatchNorm in eval mode, for batches of few images.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with the authors' weights (a
            classifier in them is ignored), or a checkpoint of hordet.

    Attributes:
        out_indices: The stages that are returned.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.

    Shape:
        (N, 3, H, W) -> one (N, out_channels[i], H / out_strides[i], W / out_strides[i]) an output,
        sizes rounded up.

    Raises:
        ValueError: An unknown `arch` or norm, or an index outside of the stages.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        arch: str = "032",
        out_indices: Sequence[int] | None = None,
        mix_norm: MixNorm = "layer",
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the stages up to the last output, with the authors' start."""
        super().__init__(f"g_ghost_regnetx_{arch}", norm_eval, init_cfg)
        require_arch(arch, ARCHITECTURES)
        if mix_norm not in ("layer", "batch"):
            raise ValueError(f"got mix_norm={mix_norm!r}; allowed are 'layer' and 'batch'.")
        depths, widths, group_width = ARCHITECTURES[arch]
        self._choose_outputs(STRIDES, widths, out_indices, out_norm=False)
        self.model = nn.Module()
        self.model.conv1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.model.bn1 = nn.BatchNorm2d(32)
        channels = 32
        for i in range(self.out_indices[-1] + 1):
            stage = build_stage(channels, widths[i], depths[i], group_width, mix_norm, cheap=i > 0)
            setattr(self.model, f"layer{i + 1}", stage)
            channels = widths[i]
        init_convs(self.model)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        x = self.model.bn1(self.model.conv1(x)).relu()
        stages = (getattr(self.model, f"layer{i + 1}") for i in range(self.out_indices[-1] + 1))
        return self._run_stages(x, stages)
