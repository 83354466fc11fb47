"""RaftMLP: an MLP that mixes rows and columns with groups of channels (Tatsunami and Taki, 2021).

"RaftMLP: How much can be done without attention and with less spatial locality?" (ACCV 2022, arXiv
2108.04384). MLP-Mixer mixes all pixels by one matrix. RaftMLP mixes the pixels of a column together
with those of r channels ("a raft"), then the pixels of a row likewise, then the channels:

    x = (N, C, H, W),  C = (r, C / r)
    vertical:    x += MLP_v over (r, H), the same for each of W columns and C / r groups
    horizontal:  x += MLP_h over (r, W), the same for each of H rows and C / r groups
    channels:    x += MLP_c over C,      the same for each pixel

Each MLP has a LayerNorm over channels in front, one hidden layer (twice as wide for tokens, four
times for channels) and GELU. A level begins with a multi-scale embedding: patches of the level's
stride and of twice that, cut with the same stride and joined, go through one linear layer.

A matrix over H has a size. The authors train at 224 x 224; for another image each raft is resized
to the size of training (56, 28, 14, 7 for the four levels) by bicubic interpolation, mixed, and
resized back, as in their code for detection. Here the residual path goes through both resizings as
it does there.

What differs: each level is returned as it leaves its last block, where the authors' detectors take
the first level as it leaves its embedding; dropout and drop path, both 0 there, are left out.

The published sizes are 9.9, 21.4 and 36.2 million parameters for S, M and L with a classifier.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.backbones.wrapped import STRIDES, WrappedBackbone, require_arch
from hordet.registry import MODELS

# Channels of the levels, and kernels of their embeddings, of which the first is the stride.
ARCHITECTURES = {
    "small": (64, 128, 256, 512),
    "medium": (96, 192, 384, 768),
    "large": (128, 192, 512, 1024),
}
DEPTHS = (2, 2, 6, 2)
KERNELS = ((4, 8), (2, 4), (2, 4), (2,))
RAFT = 2
SIDES = (56, 28, 14, 7)  # of the levels at 224 x 224


def build_mlp(width: int, expansion: int) -> nn.Sequential:
    """Build a perceptron of one hidden layer over the last axis."""
    hidden = expansion * width
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Embedding(nn.Module):
    """Patches of several sizes at one stride: (N, C, H, W) -> (N, H / s, W / s, out)."""

    def __init__(self, channels: int, out: int, kernels: Sequence[int]) -> None:
        """Create the linear layer over all values of all patches."""
        super().__init__()
        self.kernels = tuple(kernels)
        self.fc = nn.Linear(channels * sum(kernel**2 for kernel in kernels), out)

    def forward(self, x: Tensor) -> Tensor:
        """Cut and embed; a size that the stride does not divide is rounded up by resizing."""
        stride = self.kernels[0]
        height, width = (-(-side // stride) for side in x.shape[2:])
        if x.shape[2:] != (height * stride, width * stride):
            x = _resize(x, (height * stride, width * stride))
        patches = [F.unfold(x, k, stride=stride, padding=(k - stride) // 2) for k in self.kernels]
        return self.fc(torch.cat(patches, 1).mT).unflatten(1, (height, width))


class RaftMixer(nn.Module):
    """MLP over the pixels of a column and `RAFT` channels: (N, groups, RAFT, H, W) -> the same.

    For rows, the caller turns height and width.
    """

    def __init__(self, channels: int, side: int) -> None:
        """Create a norm over channels and an MLP over (RAFT, side)."""
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mlp = build_mlp(RAFT * side, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the column tells."""
        y = self.norm(x.permute(0, 3, 4, 1, 2).flatten(3)).unflatten(3, x.shape[1:3])
        y = y.permute(0, 3, 2, 4, 1)  # (N, groups, W, RAFT, H)
        y = self.mlp(y.flatten(3)).view(y.shape)
        return x + y.permute(0, 1, 3, 4, 2)


class RaftBlock(nn.Module):
    """Columns, rows, channels: (N, H, W, C) -> (N, H, W, C)."""

    def __init__(self, channels: int, side: int) -> None:
        """Create the three mixers."""
        super().__init__()
        self.side = side
        self.vertical = RaftMixer(channels, side)
        self.horizontal = RaftMixer(channels, side)
        self.norm = nn.LayerNorm(channels)
        self.mlp = build_mlp(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Mix, at the size of training for what depends on it."""
        size = x.shape[1:3]
        y = _resize(x.permute(0, 3, 1, 2), (self.side, self.side))
        y = y.unflatten(1, (RAFT, -1)).transpose(1, 2)
        y = self.horizontal(self.vertical(y).mT).mT
        x = _resize(y.transpose(1, 2).flatten(1, 2), size).permute(0, 2, 3, 1)
        return x + self.mlp(self.norm(x))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bicubic", align_corners=False)


@MODELS.register_module()
class RaftMLP(WrappedBackbone):
    """Four levels of strides 4, 8, 16 and 32.

    Args:
        arch: 'small', 'medium' or 'large'.
        out_indices: Ascending indices of the levels that are returned; None for all four.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a checkpoint of hordet.

    Attributes:
        out_indices: The levels that are returned.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.

    Shape:
        (N, 3, H, W) -> one (N, out_channels[i], H / out_strides[i], W / out_strides[i]) an output,
        sizes rounded up.

    Raises:
        ValueError: An unknown `arch`, or an index outside of the levels.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        arch: str = "small",
        out_indices: Sequence[int] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the levels up to the last output, with torch's start of linear layers."""
        super().__init__(f"raft_mlp_{arch}", False, init_cfg)
        require_arch(arch, ARCHITECTURES)
        widths = ARCHITECTURES[arch]
        self._choose_outputs(STRIDES, widths, out_indices, out_norm=False)
        levels = []
        for i in range(self.out_indices[-1] + 1):
            embedding = Embedding(widths[i - 1] if i else 3, widths[i], KERNELS[i])
            blocks = [RaftBlock(widths[i], SIDES[i]) for _ in range(DEPTHS[i])]
            levels.append(nn.Sequential(embedding, *blocks))
        self.model = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        outs = []
        for level in self.model:
            x = level(x).permute(0, 3, 1, 2)
            outs.append(x)
        return tuple(outs[i] for i in self.out_indices)
