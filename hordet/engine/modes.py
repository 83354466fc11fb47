"""What makes a model faster and leaves its numbers: compiled regions, folded layers."""

import os
import shutil

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.utils.fuse_conv_bn import fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hordet.errors import CompilerError
from hordet.hornet import Block
from hordet.layers import GnConv, GnFusion

# A region is compiled once for each kind of block (width, order, mixer) in each mode (training,
# evaluation, autocast); torch's default of 8 would leave the rest to eager.
KINDS = 64


def compile_regions(model: nn.Module) -> int:
    """Compile each HorNet block and gnConv fusion of a model, in place, for images of any size.

    Heads, losses and post-processing stay eager, so that a detector trains and tests as before.
    Layers of one shape share one compilation; another size of the image needs no new one.

    Args:
        model: Any module; its state dict stays as it is.

    Returns:
        How many regions there are.

    Raises:
        CompilerError: No C++ compiler, which torch.compile needs on a CPU.
    """
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise CompilerError(
            f"compile_regions=True needs a C++ compiler, and none is found as {compiler!r}: "
            "install g++ (such as by `apt-get install g++`), name another in the variable CXX, or "
            "leave compile_regions out; the model is the same without."
        )
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, KINDS)
    regions = [module for module in model.modules() if isinstance(module, (Block, GnFusion))]
    # Otherwise the compiler sorts the symbolic strides of a region's output, which fails in
    # training on square images ("cannot determine truth value of Relational").
    options = {"strict_output_strides": True}
    for region in regions:
        region.compile(dynamic=True, options=options)
    return len(regions)


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
