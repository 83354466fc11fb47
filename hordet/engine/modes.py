"""`torch.compile` where it pays and nowhere else: blocks of HorNet, fusions of the necks."""

import os
import shutil

import torch
from torch import nn

from hordet.errors import UserError
from hordet.hornet import Block
from hordet.layers import GnFusion

# A region is compiled once for each kind of block (width, order, mixer) in each mode (training,
# evaluation, autocast); torch's default of 8 would leave the rest to eager.
KINDS = 64


class CompilerError(UserError):
    """`torch.compile` cannot work here."""


def compile_regions(model: nn.Module) -> int:
    """Compile each HorNet block and gnConv fusion of a model, in place, for pictures of any size.

    Heads, losses and post-processing stay eager, so that a detector trains and tests as before.
    Layers of one shape share one compilation; another size of the picture needs no new one.

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
    # training on square pictures ("cannot determine truth value of Relational").
    options = {"strict_output_strides": True}
    for region in regions:
        region.compile(dynamic=True, options=options)
    return len(regions)
