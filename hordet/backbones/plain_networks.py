"""Network in Network and All-CNN: the plain convolutional networks before ResNet, as a pyramid.

Network in Network (Lin et al., ICLR 2014) follows each convolution by 1x1 convolutions, a small
perceptron at each pixel, and ends in a mean over the image in place of dense layers. Its model for
ImageNet, published with Caffe, has four groups with max-pooling between them: an 11x11 of stride 4,
a 5x5 and two 3x3 convolutions, each with two 1x1 convolutions behind it.

The all convolutional net (Springenberg et al., ICLR 2015 workshop) asks which of these parts are
needed, and replaces pooling by a 3x3 convolution of stride 2. Its ImageNet model (appendix B of the
paper) is the same chain with one 1x1 convolution a group less and that convolution more.

Both have the strides 4, 8, 16 and 32, so their groups are a pyramid as they stand. With their
last layer, 1024 -> 1000, they count 7,595,176 (Caffe's model) and 9,372,840 (the paper says less
than 10 million) parameters.

What differs. Every convolution is padded, so that sizes are those of the strides, rounded up; the
originals cut borders off. Dropout in front of the last group is left out, and the start is He's
for ReLU: both originals start by hand-set normal deviations. Neither has a norm: a detector wants a
small learning rate, or weights, to begin with.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hordet.backbones.wrapped import STRIDES, WrappedBackbone, require_arch
from hordet.registry import MODELS

WIDTHS = (96, 256, 384, 1024)
KERNELS = (11, 5, 3, 3)


def build_layer(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Build a padded convolution and its ReLU."""
    conv: Any = nn.Conv2d(channels, out, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return [conv, nn.ReLU(inplace=True)]


def build_groups(arch: str) -> list[nn.Sequential]:
    """Build the four groups of 'network_in_network' or 'all_cnn'."""
    pooling = arch == "network_in_network"
    groups, channels = [], 3
    for i, (width, kernel) in enumerate(zip(WIDTHS, KERNELS, strict=True)):
        layers: list[nn.Module] = []
        if i and pooling:
            layers = [nn.MaxPool2d(3, 2, 1)]
        elif i:
            layers = build_layer(channels, channels, 3, 2)
        layers += build_layer(channels, width, kernel, 1 if i else 4)
        # In the last group of both, the second 1x1 convolution is the classifier.
        for _ in range(2 if pooling and i < 3 else 1):
            layers += build_layer(width, width, 1)
        groups.append(nn.Sequential(*layers))
        channels = width
    return groups


@MODELS.register_module()
class PlainNetwork(WrappedBackbone):
    """Network in Network, or the all convolutional net, without its classifier.

    Args:
        arch: 'network_in_network' or 'all_cnn'.
        out_indices: Ascending indices of the groups that are returned; None for all four.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a checkpoint of hordet.

    Attributes:
        out_indices: The groups that are returned.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.

    Shape:
        (N, 3, H, W) -> one (N, out_channels[i], H / out_strides[i], W / out_strides[i]) an output,
        sizes rounded up.

    Raises:
        ValueError: An unknown `arch`, or an index outside of the groups.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        arch: str = "network_in_network",
        out_indices: Sequence[int] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the groups up to the last output."""
        super().__init__(arch, False, init_cfg)
        require_arch(arch, ("network_in_network", "all_cnn"))
        self._choose_outputs(STRIDES, WIDTHS, out_indices, out_norm=False)
        self.model = nn.ModuleList(build_groups(arch)[: self.out_indices[-1] + 1])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        return self._run_stages(x, self.model)
