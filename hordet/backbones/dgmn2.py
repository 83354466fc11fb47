"""DGMN2: each pixel gathers messages from nine places that it chooses (Zhang et al., 2022).

"Dynamic Graph Message Passing Networks for Visual Recognition" (arXiv 2209.09760; DGMN is CVPR
2020). Pixels are the nodes of a graph. The nine neighbors of a pixel are sampled by learned offsets
from a 3x3 window, and their messages are weighed by an attention with positions. For a head of d
channels, with x the normed map, q, k, v linear in it, and p_m = p + w_m + offset_m(x_p) for the
places w_m of the window, in its order,

    a_m = softmax over m of (q_p . k(p_m) / sqrt(d) + q_p . (r^h[H-1-p_h+m] + r^w[W-1-p_w+m]))
    out_p = sum_m a_m v(p_m)

k and v are read between pixels by bilinear interpolation, zero outside; r^h of (H + 8, d) and r^w
of (W + 8, d) are learned. A block is this attention with a linear layer behind, then an MLP, with
norms in front. Heads of 64 channels share the layer of their offsets. Convolutions begin a stage.

The published sizes are 12.1, 21.0, 35.8 and 48.3 million parameters for tiny, small, medium and
large with a classifier. Parameters have the names of the authors' code.

What differs. Positions are learned for an image of 224 x 224 and resized to others (bilinear), as
in the authors' code for segmentation. There, rows and columns of the term of r^h are exchanged, so
a pixel gets that of another; here each gets its own. Drop path and dropout are left out.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from hordet.backbones.wrapped import STRIDES, WrappedBackbone, require_arch
from hordet.registry import MODELS

WIDTHS = (64, 128, 320, 512)
EXPANSIONS = (8, 8, 4, 4)  # of the MLPs
SIDES = (56, 28, 14, 7)  # of the stages at 224 x 224
DEPTHS = dict(tiny=(2, 2, 2, 2), small=(3, 4, 6, 3), medium=(3, 4, 18, 3), large=(3, 8, 27, 3))
HEAD_WIDTH, SAMPLES = 64, 9


def sample_places(x: Tensor, offsets: Tensor) -> Tensor:
    """Read a map (N, C, H, W) at each pixel's nine places: (N, C, 9, H, W) of float32.

    Args:
        x: The map, linear between pixels and zero outside.
        offsets: (N, 18, H, W), in pixels: y and x of each place of the 3x3 window, row by row.
    """
    steps, rows, columns = (torch.arange(n, device=x.device) for n in (3, *x.shape[2:]))
    window = torch.cartesian_prod(steps - 1, steps - 1).view(SAMPLES, 2, 1, 1)
    pixels = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    places = offsets.float().unflatten(1, (SAMPLES, 2)) + window + pixels
    sides = torch.tensor(x.shape[2:], device=x.device).view(2, 1, 1)
    # For grid_sample, -1 and 1 are the outer borders of the first and the last pixel.
    grid = ((2 * places + 1) / sides - 1).flip(2).permute(0, 1, 3, 4, 2)  # (N, 9, H, W, (x, y))
    out = F.grid_sample(x.float(), grid.flatten(1, 2), align_corners=False)
    return out.unflatten(2, (SAMPLES, -1))


class RelativePositions(nn.Module):
    """The term of r^h and r^w: (N, d, H, W) -> (N, 9, H, W)."""

    def __init__(self, side: int) -> None:
        """Create both for maps of (side, side)."""
        super().__init__()
        start = torch.randn(2, side + SAMPLES - 1, HEAD_WIDTH) * HEAD_WIDTH**-0.5
        self.rel_height, self.rel_width = (
            nn.Parameter(start[0].clone()),
            nn.Parameter(start[1].clone()),
        )

    def forward(self, q: Tensor) -> Tensor:
        """Compute q_p . (r^h + r^w) for the nine places."""
        r_h, r_w = align(self.rel_height, q.shape[2]), align(self.rel_width, q.shape[3])
        return torch.einsum("ndhw,hmd->nmhw", q, r_h) + torch.einsum("ndhw,wmd->nmhw", q, r_w)


def align(positions: Tensor, side: int) -> Tensor:
    """Return r[side-1-i+m] for each line i and place m: (side, 9, d)."""
    rows = side + SAMPLES - 1  # at the size of training, this resizing changes nothing
    positions = F.interpolate(positions.T[None], rows, mode="linear", align_corners=False)[0].T
    return positions.unfold(0, SAMPLES, 1).flip(0).mT


class DynamicAttention(nn.Module):
    """Messages from the sampled places: (N, H, W, C) -> (N, H, W, C)."""

    def __init__(self, channels: int, side: int) -> None:
        """Create the linear layers and the positions."""
        super().__init__()
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.conv_offset = nn.Linear(HEAD_WIDTH, 2 * SAMPLES)
        self.pos_emb = RelativePositions(side)

    def forward(self, x: Tensor) -> Tensor:
        """Sample, weigh and sum."""
        offsets = _split_heads(self.conv_offset(x.unflatten(3, (-1, HEAD_WIDTH))).flatten(3), 18)
        q, k, v = (_split_heads(part, HEAD_WIDTH) for part in self.qkv(x).chunk(3, 3))
        k, v = sample_places(torch.cat((k, v), 1), offsets).to(q.dtype).chunk(2, 1)
        logits = torch.einsum("ndhw,ndmhw->nmhw", q, k) * HEAD_WIDTH**-0.5 + self.pos_emb(q)
        out = torch.einsum("nmhw,ndmhw->ndhw", logits.softmax(1).to(v.dtype), v)
        return self.proj(out.unflatten(0, (len(x), -1)).flatten(1, 2).permute(0, 2, 3, 1))


def _split_heads(x: Tensor, width: int) -> Tensor:  # -> (N * heads, width, H, W)
    return x.unflatten(3, (-1, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)


class DynamicBlock(nn.Module):
    """Attention and MLP: (N, H, W, C) -> (N, H, W, C)."""

    def __init__(self, channels: int, side: int, expansion: int) -> None:
        """Create both, with norms in front."""
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=1e-6) for _ in range(2))
        self.attn = DynamicAttention(channels, side)
        self.mlp = Mlp(channels, expansion * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add what each branch computes."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def build_embedding(channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
    """Build 3x3 convolutions, each with batch norm and ReLU, under the authors' names."""
    layers = nn.Sequential()
    for i, (stride, width) in enumerate(zip(strides, channels[1:], strict=True)):
        number = str(i + 1) if len(strides) > 1 else ""
        conv = nn.Conv2d(channels[i], width, 3, stride, 1, bias=False)
        layers.add_module(f"conv{number}", conv)
        layers.add_module(f"norm{number}", nn.BatchNorm2d(width))
        layers.add_module(f"relu{number}", nn.ReLU(inplace=True))
    return layers


@MODELS.register_module()
class DGMN2(WrappedBackbone):
    """Four stages of strides 4, 8, 16 and 32.

    Args:
        arch: 'tiny', 'small', 'medium' or 'large'.
        out_indices: Ascending indices of the stages that are returned; None for all four.
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
        ValueError: An unknown `arch`, or an index outside of the stages.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        arch: str = "tiny",
        out_indices: Sequence[int] | None = None,
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the stages up to the last output, with the authors' start."""
        super().__init__(f"dgmn2_{arch}", norm_eval, init_cfg)
        require_arch(arch, DEPTHS)
        self._choose_outputs(STRIDES, WIDTHS, out_indices, out_norm=False)
        self.model = nn.Module()
        embedding = build_embedding((3, 32, 32, 64), (2, 1, 2))
        for i in range(self.out_indices[-1] + 1):
            if i:
                embedding = build_embedding((WIDTHS[i - 1], WIDTHS[i]), (2,))
            setattr(self.model, f"patch_embed{i + 1}", embedding)
            blocks = [
                DynamicBlock(WIDTHS[i], SIDES[i], EXPANSIONS[i]) for _ in range(DEPTHS[arch][i])
            ]
            setattr(self.model, f"block{i + 1}", nn.Sequential(*blocks))
        for module in self.model.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        outs = []
        for i in range(self.out_indices[-1] + 1):
            x = getattr(self.model, f"patch_embed{i + 1}")(x).permute(0, 2, 3, 1)
            x = getattr(self.model, f"block{i + 1}")(x).permute(0, 3, 1, 2)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)
