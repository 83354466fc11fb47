"""RMNet: a ResNet whose residual connections are removed after the training (Meng et al., 2021).

"RMNet: Equivalently removing residual connection from networks" (arXiv 2111.00687). A residual
block computes relu(conv_2(relu(conv_1(x))) + s(x)), where s is the identity or a 1x1 convolution of
the block's stride. Behind a ReLU, x >= 0, so a ReLU does not change it. Two steps make the block a
plain pair of convolutions with the same output, up to rounding:

- Reserving: conv_1 gets C_in more filters, 3x3 with a single 1 in the middle, which carry x along.
- Merging: conv_2 gets C_in more inputs, with the kernel of s, padded to 3x3, as their weights.

Batch norms are folded first. The result is a chain of 3x3 convolutions and ReLUs as in VGG, which
runs without a second path in memory; its hidden width is C_in + C_out, so it multiplies more.

In training, this is torchvision's ResNet-18 or ResNet-34 by numbers and by names of parameters, and
takes their weights. `hordet.engine.modes.switch_to_deploy` removes the connections, as it folds the
other layers of a model.

What differs from the authors' code: batch norms that follow the reserved maps, which they keep
for pruning and further training, are folded away at once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models

from hordet.backbones.wrapped import STRIDES, WrappedBackbone
from hordet.registry import MODELS

CHANNELS = (64, 128, 256, 512)
DEPTHS = (18, 34)


def remove_residual(block: Any) -> nn.Sequential:
    """Return a plain chain that computes what a residual block of two 3x3 convolutions does.

    Args:
        block: torchvision's BasicBlock, in eval mode. Its input is not negative.
    """
    first = fuse_conv_bn_eval(block.conv1, block.bn1)
    second = fuse_conv_bn_eval(block.conv2, block.bn2)
    channels, hidden, out = first.in_channels, first.out_channels, second.out_channels
    reserved = nn.init.dirac_(torch.zeros(channels, channels, 3, 3).to(first.weight))
    kernel = torch.zeros(out, channels, 3, 3).to(first.weight)
    bias = second.bias.detach()
    if block.downsample is None:
        nn.init.dirac_(kernel)
    else:
        shortcut = fuse_conv_bn_eval(*block.downsample)
        kernel[:, :, 1:2, 1:2] = shortcut.weight.detach()
        bias = bias + shortcut.bias.detach()
    reserving: Any = nn.Conv2d(channels, channels + hidden, 3, first.stride, 1).to(first.weight)
    merging: Any = nn.Conv2d(channels + hidden, out, 3, padding=1).to(first.weight)
    with torch.no_grad():
        reserving.weight.copy_(torch.cat((reserved, first.weight)))
        reserving.bias.copy_(torch.cat((first.bias.new_zeros(channels), first.bias)))
        merging.weight.copy_(torch.cat((kernel, second.weight), dim=1))
        merging.bias.copy_(bias)
    return nn.Sequential(reserving, nn.ReLU(True), merging, nn.ReLU(True))


@MODELS.register_module()
class RMNet(WrappedBackbone):
    """ResNet-18 or ResNet-34 in training, a plain chain of 3x3 convolutions when deployed.

    Args:
        depth: 18 or 34.
        out_indices: Ascending indices of the stages that are returned; None for all four.
        norm_eval: Keep every BatchNorm in eval mode, for batches of few images.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a ResNet of torchvision's
            names (a classifier in it is ignored), or a checkpoint of hordet.

    Attributes:
        out_indices: The stages that are returned.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.

    Shape:
        (N, 3, H, W) -> one (N, out_channels[i], H / out_strides[i], W / out_strides[i]) an output,
        sizes rounded up.

    Raises:
        ValueError: Another depth, or an index outside of the stages.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        depth: int = 34,
        out_indices: Sequence[int] | None = None,
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build torchvision's model without its classifier."""
        super().__init__(f"resnet{depth}", norm_eval, init_cfg)
        if depth not in DEPTHS:
            raise ValueError(f"got depth={depth}; allowed are 18 and 34, whose blocks are plain.")
        self._choose_outputs(STRIDES, CHANNELS, out_indices, out_norm=False)
        self.model = models.get_model(f"resnet{depth}", weights=None)
        del self.model.fc, self.model.avgpool
        for stage in range(self.out_indices[-1] + 1, 4):
            delattr(self.model, f"layer{stage + 1}")

    def switch_to_deploy(self) -> None:
        """Fold the batch norms and remove the residual connections, in place; for evaluation."""
        self.eval()
        self.model.conv1 = fuse_conv_bn_eval(self.model.conv1, self.model.bn1)
        self.model.bn1 = nn.Identity()
        for stage in range(self.out_indices[-1] + 1):
            blocks = getattr(self.model, f"layer{stage + 1}")
            setattr(self.model, f"layer{stage + 1}", nn.Sequential(*map(remove_residual, blocks)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        model = self.model
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        stages = (getattr(model, f"layer{i + 1}") for i in range(self.out_indices[-1] + 1))
        return self._run_stages(x, stages)
