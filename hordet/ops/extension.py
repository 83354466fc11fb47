"""The replacement of `mmcv._ext`: a table from mmcv's operator names to functions.

Names and arguments are those of mmcv's C++ module, as mmcv/ops/*.py call it: results are written
into tensors that the caller passes.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import torch

from hordet.errors import MissingOperatorError
from hordet.ops import (
    attention,
    boxes,
    deform,
    focal,
    neighborhood,
    psa_mask,
    roi,
    roi_samples,
)


def get_compiler_version() -> str:
    """Return the text that mmcv reports as its compiler."""
    return "none (operators of torchvision)"


def get_compiling_cuda_version() -> str:
    """Return the text that mmcv reports as its CUDA compiler."""
    return "none (operators of torchvision)"


OPERATORS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        boxes.bbox_overlaps,
        boxes.nms,
        boxes.nms_match,
        boxes.softnms,
        roi.roi_align_forward,
        roi.roi_align_backward,
        roi.roi_pool_forward,
        roi.roi_pool_backward,
        roi_samples.deform_roi_pool_forward,
        roi_samples.deform_roi_pool_backward,
        psa_mask.psamask_forward,
        psa_mask.psamask_backward,
        focal.sigmoid_focal_loss_forward,
        focal.sigmoid_focal_loss_backward,
        focal.softmax_focal_loss_forward,
        focal.softmax_focal_loss_backward,
        deform.deform_conv_forward,
        deform.deform_conv_backward_input,
        deform.deform_conv_backward_parameters,
        deform.modulated_deform_conv_forward,
        deform.modulated_deform_conv_backward,
        attention.ms_deform_attn_forward,
        attention.ms_deform_attn_backward,
        neighborhood.carafe_forward,
        neighborhood.carafe_backward,
        neighborhood.carafe_naive_forward,
        neighborhood.carafe_naive_backward,
        neighborhood.masked_im2col_forward,
        neighborhood.masked_col2im_forward,
        get_compiler_version,
        get_compiling_cuda_version,
    )
}


# Names of operators that mmcv's modules have asked for and that are not in the table.
missing: set[str] = set()


def make_missing_operator(name: str) -> Callable[..., NoReturn]:
    """Return a function that raises, for an operator that is not in the table.

    mmcv asks for every name at its import, so only the call may fail, not the look-up.

    Raises:
        AttributeError: If the name starts with an underscore; no operator does.
    """
    if name.startswith("_"):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise MissingOperatorError(
            f"mmcv's operator {name!r} is compiled code that torchvision does not have. Choose a "
            "component that does not need it, or replace mmcv-lite by a compiled mmcv (mmcv or "
            f"onedl-mmcv) built for torch {torch.__version__}."
        )

    missing.add(name)
    operator.__name__ = name
    return operator


def populate(module: ModuleType) -> None:
    """Put the operators into a module; every other name becomes an operator that raises."""
    module.__doc__ = __doc__
    module.__dict__.update(OPERATORS, __getattr__=make_missing_operator)
