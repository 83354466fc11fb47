"""PDC-ResNet: residual blocks with a term of second degree (Chrysos et al., ECCV 2022).

"Augmenting Deep Classifiers with Polynomial Neural Networks" (arXiv 2104.07916). A residual block,
s + F(x), is of first degree in its input but for the activations of F. PDC adds a product of two
convolutions, which is of second degree, with a learned weight that starts at 0:

    s = shortcut(x),    z = BN(s),    u_k = lrelu(BN_u(U_k * z))  for k = 1, 2,
    out = relu(F(x) + s + alpha lrelu(IN(L * (u_1 u_2))))

* is a 3x3 convolution, IN an instance norm without parameters, and both u_k share one batch norm.
`hordet.neighbours.pi_net` is the bare polynomial of this work, of any degree, as a fusion of a
neck; here norms and activations stand within it, so it is a polynomial no longer.

- arch 'compressed' is the network of the authors' repository for CIFAR-10 (4.3 million parameters,
  as its config says): F is one 3x3 convolution, BN and ReLU, and products are narrower than maps.
- arch 'resnet18' adds the same term, as wide as the maps, to ResNet-18: with alpha = 0 it is
  torchvision's ResNet-18 by numbers and names. No count is published for it.

What differs. The stem is ResNet's for ImageNet, a 7x7 convolution and max-pooling, so that the
strides are 4, 8, 16 and 32; the repository's stem, for images of 32 x 32, keeps their size. The
shortcut is computed once, where the authors' code computes it twice and so moves the statistics of
its batch norm twice. Their published code asks for a second batch norm of u_2 that it does not
build; the one that it builds is taken for both. Convolutions start as torchvision's ResNet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.backbones.wrapped import STRIDES, WrappedBackbone, init_convs, require_arch
from hordet.registry import MODELS


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network.

    Attributes:
        depths: Blocks of each stage.
        widths: Channels of each stage.
        products: Channels of the products u_1 u_2 of each stage.
        convs: Convolutions of F, 1 or 2.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    products: tuple[int, ...]
    convs: int


ARCHITECTURES = {
    "compressed": Architecture((2, 2, 2, 1), (64, 128, 192, 256), (64, 64, 128, 128), 1),
    "resnet18": Architecture((2, 2, 2, 2), (64, 128, 256, 512), (64, 128, 256, 512), 2),
}


def build_conv(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    """Build a padded 3x3 convolution without bias."""
    return nn.Conv2d(channels, out, 3, stride, 1, bias=False)


class PolynomialBlock(nn.Module):
    """Residual block with a term of second degree; see the module for the equation.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        product: Channels of u_1 and u_2.
        stride: Of the block.
        convs: Convolutions of F, 1 or 2.
        alpha: Start of the weight of the product.

    Shape:
        (N, channels, H, W) -> (N, out, H / stride, W / stride), sizes rounded up.
    """

    def __init__(
        self, channels: int, out: int, product: int, stride: int, convs: int, alpha: float
    ) -> None:
        """Create F with torchvision's names, and the product."""
        super().__init__()
        self.conv1, self.bn1 = build_conv(channels, out, stride), nn.BatchNorm2d(out)
        self.residual = convs == 2
        if self.residual:
            self.conv2, self.bn2 = build_conv(out, out), nn.BatchNorm2d(out)
        self.downsample = nn.Sequential()
        if stride > 1 or channels != out:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))
        self.norm_in, self.norm_factor = nn.BatchNorm2d(out), nn.BatchNorm2d(product)
        self.factors = nn.ModuleList(build_conv(out, product) for _ in range(2))  # U_1, U_2
        self.mixer = build_conv(product, out)  # L
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def forward(self, x: Tensor) -> Tensor:
        """Add the terms of both degrees to the shortcut."""
        first = self.bn1(self.conv1(x)).relu()
        if self.residual:
            first = self.bn2(self.conv2(first))
        shortcut = self.downsample(x)
        z = self.norm_in(shortcut)
        u_1, u_2 = (F.leaky_relu(self.norm_factor(factor(z))) for factor in self.factors)
        second = self.mixer(u_1 * u_2)
        # An instance norm; torch's own refuses a map of one pixel in training.
        second = F.leaky_relu(F.layer_norm(second, list(second.shape[2:])))
        return (first + shortcut + self.alpha * second).relu()


@MODELS.register_module()
class PDCResNet(WrappedBackbone):
    """ResNet with terms of second degree.

    Args:
        arch: 'compressed' or 'resnet18'.
        out_indices: Ascending indices of the stages that are returned; None for all four.
        alpha: Start of the weight of each product; at the authors' 0 a product learns from the
            second step on.
        norm_eval: Keep every BatchNorm in eval mode, for batches of few images.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a checkpoint of hordet.

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
        arch: str = "compressed",
        out_indices: Sequence[int] | None = None,
        alpha: float = 0.0,
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the stages up to the last output."""
        super().__init__(f"pdc_{arch}", norm_eval, init_cfg)
        require_arch(arch, ARCHITECTURES)
        sizes = ARCHITECTURES[arch]
        self._choose_outputs(STRIDES, sizes.widths, out_indices, out_norm=False)
        self.model = nn.Module()
        self.model.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.model.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for i in range(self.out_indices[-1] + 1):
            out, blocks = sizes.widths[i], []
            for j in range(sizes.depths[i]):
                stride = 2 if i and not j else 1
                blocks.append(
                    PolynomialBlock(channels, out, sizes.products[i], stride, sizes.convs, alpha)
                )
                channels = out
            setattr(self.model, f"layer{i + 1}", nn.Sequential(*blocks))
        init_convs(self.model)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        x = F.max_pool2d(self.model.bn1(self.model.conv1(x)).relu(), 3, 2, 1)
        stages = (getattr(self.model, f"layer{i + 1}") for i in range(self.out_indices[-1] + 1))
        return self._run_stages(x, stages)
