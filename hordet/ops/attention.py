"""Multi-scale deformable attention (Zhu et al. 2021, https://arxiv.org/abs/2010.04159).

mmcv has an implementation in plain torch, which it uses on a CPU. On a GPU it asks for its compiled
operator; here that operator is the same implementation.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hordet.ops.precision import get_working_dtype


def _attend(spatial_shapes: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the attention over feature maps of these (L, 2) heights and widths."""
    # Imported late, because mmcv's module asks for the operators of this module at its import.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    shapes = spatial_shapes.tolist()

    def attend(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
        return multi_scale_deformable_attn_pytorch(
            value, shapes, sampling_locations, attention_weights
        )

    return attend


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values, (N, queries, heads * D).

    Args:
        value: (N, sum of all H * W, heads, D).
        value_spatial_shapes: (H, W) of each of the L levels, (L, 2).
        value_level_start_index: Not used, because it follows from the shapes.
        sampling_locations: (x, y) in [0, 1], (N, queries, heads, L, points, 2).
        attention_weights: (N, queries, heads, L, points).
        im2col_step: Batch size of the compiled operator, not used.
    """
    dtype = get_working_dtype(value.dtype)
    inputs = (value, sampling_locations, attention_weights)
    attend = _attend(value_spatial_shapes)
    return attend(*(tensor.to(dtype) for tensor in inputs)).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of value, locations and weights into the tensors `grad_*`.

    Where a coordinate is exactly -1, at which many samples of a fresh DETR lie, the location has no
    gradient: mmcv's operator leaves out such samples, and grid_sample gives the inner derivative.
    """
    dtype = get_working_dtype(value.dtype)
    inputs = (value, sampling_locations, attention_weights)
    attend = _attend(value_spatial_shapes)
    pull_back = torch.func.vjp(attend, *(tensor.to(dtype) for tensor in inputs))[1]
    targets = (grad_value, grad_sampling_loc, grad_attn_weight)
    gradients = list(pull_back(grad_output.to(dtype)))
    sizes = value_spatial_shapes.to(dtype).flip(1)[:, None]  # (L, 1, 2): width, height
    at_border = (sampling_locations.to(dtype) * sizes - 0.5 == -1).any(-1, keepdim=True)
    gradients[1] = gradients[1].masked_fill(at_border, 0)
    for target, gradient in zip(targets, gradients, strict=True):
        target.copy_(gradient)
