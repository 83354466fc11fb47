"""A model for inference alone: factors and batch norms folded into the convolutions before them."""

from mmcv.cnn import ConvModule
from mmcv.cnn.utils.fuse_conv_bn import fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hordet.hornet import Block
from hordet.layers import GnConv


def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Fold what inference does not need apart, in place; exact to rounding, and not undone.

    The factor of each gnConv goes into its mixer, layer scales into the layers before them, the
    batch norm of a gnConv fusion or of a `ConvModule` into its convolution. The state dict becomes
    another: save the trained one first.

    Args:
        model: Any module; put into eval mode.

    Returns:
        The same module.
    """
    model.eval()
    for module in list(model.modules()):
        if isinstance(module, (Block, GnConv)):
            module.switch_to_deploy()
        elif isinstance(module, ConvModule) and module.order == ("conv", "norm", "act"):
            if module.with_norm and isinstance(module.norm, _BatchNorm):
                fuse_conv_bn(module)
    return model
