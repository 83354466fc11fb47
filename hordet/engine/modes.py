"""Makes a model faster without changing its numbers: compiled regions, kernels, folded layers."""

import copy
import importlib.util
import os
import shutil
from collections import Counter

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.utils.fuse_conv_bn import fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hordet.errors import CompilerError
from hordet.hornet import Block
from hordet.layers import GnConv, GnFusion
from hordet.layers.wrapped_conv import WrappedConv

# torch compiles a region once for each kind of block (width, order, mixer) in each mode (training,
# evaluation, autocast). Beyond its default of 8 it would run the rest in eager mode.
KINDS = 64


def compile_regions(model: nn.Module) -> int:
    """Compile each HorNet block and gnConv fusion of a model, in place, for images of any size.

    Heads, losses and post-processing stay in eager mode, so a detector trains and tests as before.
    Layers of the same shape share one compilation, and images of another size need no new one.

    Args:
        model: Any module; its state dict does not change.

    Returns:
        The number of compiled regions.

    Raises:
        CompilerError: There is no C++ compiler, which torch.compile needs on a CPU, or no C
            compiler, which Triton needs on a GPU.
    """
    _require_compiler()
    settings = torch._dynamo.config
    limit = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"  # 2.6
    setattr(settings, limit, max(getattr(settings, limit), KINDS))
    regions = [module for module in model.modules() if isinstance(module, (Block, GnFusion))]
    # Without it the compiler sorts the symbolic strides of a region's output, which fails in
    # training on square images ("cannot determine truth value of Relational").
    known = "strict_output_strides" in torch._inductor.list_options()  # since torch 2.14
    options = {"strict_output_strides": True} if known else None
    for region in regions:
        region.compile(dynamic=True, options=options)
    return len(regions)


def use_triton_gates(model: nn.Module) -> int:
    """Let each gnConv with a depthwise mixer compute its gates by Triton kernels, in place.

    The kernels are tested in Triton's interpreter; no GPU has run them. Such a model can be
    differentiated once, and keeps the gated maps that it would compute again.

    Args:
        model: Any module; its state dict does not change.

    Returns:
        The number of such gnConvs.

    Raises:
        CompilerError: There is no package `triton`, or no GPU and no interpreter in its place.
    """
    if importlib.util.find_spec("triton") is None:
        raise CompilerError(
            "triton_gates=True needs the package triton, which torch brings along on Linux with "
            "CUDA: install it, or remove triton_gates; the model computes the same without it."
        )
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise CompilerError(
            "triton_gates=True needs a GPU, and there is none: remove triton_gates. For a test of "
            "the numbers, TRITON_INTERPRET=1 in the environment interprets the kernels, slowly."
        )
    from hordet.layers.triton_gates import compute_gates

    found = 0
    for module in model.modules():
        if isinstance(module, GnConv) and isinstance(module.dwconv, nn.Conv2d):
            module.gates = compute_gates
            found += 1
    return found


def _require_compiler() -> None:
    """Check that the compiler which `torch.compile` calls is there."""
    names: tuple[str, ...] = ("g++",)
    language, variable = "C++", "CXX"
    if torch.cuda.is_available():
        language, variable, names = "C", "CC", ("gcc", "clang")
    names = (os.environ[variable],) if variable in os.environ else names
    if any(map(shutil.which, names)):
        return
    raise CompilerError(
        f"compile_regions=True needs a {language} compiler, and none is found as "
        f"{' or '.join(map(repr, names))}: install one (such as by `apt-get install g++`), name "
        f"another in the variable {variable}, or remove compile_regions; the model computes the "
        "same without it."
    )


def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Fold layers for inference, in place; exact except for rounding, and not reversible.

    The factor of each gnConv is folded into its mixer, layer scales into the layers before them,
    and the batch norm of a gnConv fusion or of a `ConvModule` into its convolution. A convolution
    with a regularizer or a mask becomes the plain one that it is in evaluation, and a backbone that
    has a form for deployment, such as RMNet, takes it. A convolution that several `ConvModule`s
    share, each with a batch norm of its own, becomes one for each. The state dict gets other names
    and values: save the trained one first.

    Args:
        model: Any module; it is put into eval mode.

    Returns:
        The same module.
    """
    model.eval()
    for parent in list(model.modules()):  # first: the norm after it is folded into what it becomes
        for name, child in list(parent._modules.items()):  # named_children leaves out the repeated
            if isinstance(child, WrappedConv):
                setattr(parent, name, child.fold())
    owners = Counter(id(child) for m in model.modules() for child in m._modules.values())
    for module in list(model.modules()):
        if hasattr(module, "switch_to_deploy"):
            module.switch_to_deploy()  # type: ignore[operator]
        elif isinstance(module, ConvModule) and module.order == ("conv", "norm", "act"):
            if module.with_norm and isinstance(module.norm, _BatchNorm):
                if owners[id(module.conv)] > 1:  # mmcv changes it in place, for all
                    module.conv = copy.deepcopy(module.conv)
                fuse_conv_bn(module)
    return model
