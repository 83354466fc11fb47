"""SDA-ResNet: a ResNet whose stages choose among the outputs of their blocks (Guo et al., 2024).

"Selective Depth Attention Networks for Adaptive Multiscale Feature Representation" ("SDA-xNet",
IEEE Transactions on Artificial Intelligence 2024, arXiv 2209.10327), section III. A stage of ResNet
gives what its last block gives. Here a stage gives a mean of the outputs Z_1 .. Z_m of all its
blocks, each taken before its ReLU and weighed for each channel by a softmax over depth:

    Z_i = F_i(relu(Z_{i-1})) + s_i(relu(Z_{i-1})),    out = relu(sum_i a_i Z_i)

where a_i comes from the mean over the map of the sum of all Z_i; `hordet.neighbours.sda` has the
equations and the same attention as a fusion of a neck. Shallow blocks see less of the image, so a
stage chooses its receptive field.

The 3x3 convolutions have 8 groups, and the stages are deeper than in ResNet-50: (5, 6, 12, 5)
blocks are SDA-ResNet-86, whose published size with a classifier is 27.22 million parameters.
Parameters have the names of the authors' code.

What differs. In the attention, the norm of v is over the d numbers of an image (layer norm), where
the authors have a batch norm: with few images a step, which dense prediction has, a batch norm over
so few vectors leaves their signs, and over one vector torch refuses it. `attention_norm='batch'`
is the authors' network, for their weights and with `norm_eval=True`. In their classifier a batch
norm of 2048 channels follows the mean over the map; it is no part of a pyramid.
"""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from hordet.backbones.wrapped import STRIDES, WrappedBackbone, init_convs
from hordet.neighbours.sda import mix_depths
from hordet.registry import MODELS

WIDTHS = (256, 512, 1024, 2048)
# Blocks of each stage; of 86 layers is the paper's model, of the other depths are ResNet's.
DEPTHS = {50: (3, 4, 6, 3), 86: (5, 6, 12, 5), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
REDUCTION, MIN_WIDTH = 16, 64  # r and L of d = max(C / r, L)
AttentionNorm = Literal["layer", "batch"]


class OpenBottleneck(Bottleneck):
    """torchvision's bottleneck without its last ReLU: (N, C, H, W) -> (N, C', H / s, W / s)."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        return out + (x if self.downsample is None else self.downsample(x))


class DepthStage(nn.Module):
    """Blocks in a row and the attention over their depth.

    Args:
        channels: Channels of the input.
        out: Channels of each block's output.
        depth: m, the number of blocks.
        stride: Of the first block.
        attention_norm: See `SDAResNet`.

    Shape:
        (N, channels, H, W) -> (N, out, H / stride, W / stride), sizes rounded up.
    """

    def __init__(
        self, channels: int, out: int, depth: int, stride: int, attention_norm: AttentionNorm
    ) -> None:
        """Create the blocks, and the attention of `hordet.neighbours.sda`."""
        super().__init__()
        shortcut = nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )
        planes = out // Bottleneck.expansion
        # torchvision counts the width of the 3x3 convolution in groups: 8 of planes / 8 channels.
        groups: dict[str, Any] = dict(groups=8, base_width=8)
        blocks = [OpenBottleneck(channels, planes, stride, shortcut, **groups)]
        blocks += [OpenBottleneck(out, planes, **groups) for _ in range(depth - 1)]
        self.layers = nn.Sequential(*blocks)
        narrow = max(out // REDUCTION, MIN_WIDTH)
        layer = attention_norm == "layer"
        self.fc = nn.Sequential(
            nn.Conv2d(out, narrow, 1, bias=False),
            nn.GroupNorm(1, narrow) if layer else nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
        )
        self.fcs = nn.ModuleList(nn.Conv2d(narrow, out, 1) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks and mix them."""
        outs = []
        for block in self.layers:
            outs.append(block(x))
            x = outs[-1].relu()
        return mix_depths(outs, self.fc, self.fcs).relu()


@MODELS.register_module()
class SDAResNet(WrappedBackbone):
    """SDA-ResNet-86, or this attention on the stages of another ResNet.

    Args:
        depth: 86 of the paper; 50, 101 or 152 with ResNet's number of blocks.
        out_indices: Ascending indices of the stages that are returned; None for all four.
        attention_norm: 'layer', which trains with any number of images, or 'batch' as the authors.
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
        ValueError: Another depth or norm, or an index outside of the stages.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        depth: int = 86,
        out_indices: Sequence[int] | None = None,
        attention_norm: AttentionNorm = "layer",
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the stages up to the last output, with the authors' start."""
        super().__init__(f"sda_resnet{depth}", norm_eval, init_cfg)
        if depth not in DEPTHS:
            raise ValueError(f"got depth={depth}; allowed are {', '.join(map(str, DEPTHS))}.")
        if attention_norm not in ("layer", "batch"):
            raise ValueError(
                f"got attention_norm={attention_norm!r}; allowed are 'layer' and 'batch'."
            )
        self._choose_outputs(STRIDES, WIDTHS, out_indices, out_norm=False)
        self.model = nn.Module()
        self.model.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.model.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage in range(self.out_indices[-1] + 1):
            blocks, stride = DEPTHS[depth][stage], 2 if stage else 1
            built = DepthStage(channels, WIDTHS[stage], blocks, stride, attention_norm)
            setattr(self.model, f"stage{stage + 1}", built)
            channels = WIDTHS[stage]
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        init_convs(self.model)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        x = self.maxpool(self.relu(self.model.bn1(self.model.conv1(x))))
        stages = (getattr(self.model, f"stage{i + 1}") for i in range(self.out_indices[-1] + 1))
        return self._run_stages(x, stages)
