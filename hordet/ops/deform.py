"""Deformable convolution (Dai et al. 2017) and modulated deformable convolution (Zhu et al. 2019).

With K = kernel_h * kernel_w taps and G deformable groups: input (N, C, H, W); weight (O, C /
groups, kernel_h, kernel_w); offset (N, 2 * G * K, h, w), in pixels, (y, x) for each tap; mask (N,
G * K, h, w); output (N, O, h, w). mmcv's working buffers and `im2col_step` are not used.
"""

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import pad

from hordet.ops.precision import get_working_dtype


def _forward(
    output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    geometry: tuple[int, ...],
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> None:
    """Write the convolution into `output`; `geometry` is stride, padding, dilation, each (y, x)."""
    dtype = get_working_dtype(input.dtype)
    output.copy_(
        torchvision.ops.deform_conv2d(
            input.to(dtype),
            offset.to(dtype),
            weight.to(dtype),
            None if bias is None else bias.to(dtype),
            geometry[0:2],
            geometry[2:4],
            geometry[4:6],
            None if mask is None else mask.to(dtype),
        )
    )


def _backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    geometry: tuple[int, ...],
    groups: int,
    deform_groups: int,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the input, the weight, the offset, the mask and the bias."""
    dtype = get_working_dtype(input.dtype)
    offset = offset.to(dtype)
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        grad_output.to(dtype),
        input.to(dtype),
        weight.to(dtype),
        offset,
        input.new_zeros((len(input), 1), dtype=dtype) if mask is None else mask.to(dtype),
        weight.new_zeros(len(weight), dtype=dtype),
        *geometry,
        groups,
        deform_groups,
        mask is not None,
    )
    at_border = _samples_at_border(offset, weight.shape[2:], geometry)
    return (*gradients[:2], gradients[2].masked_fill(at_border, 0), *gradients[3:])


def _samples_at_border(offset: Tensor, kernel: torch.Size, geometry: tuple[int, ...]) -> Tensor:
    """Tells which offsets (N, 2GK, h, w) sample where a coordinate is exactly -1.

    The value there is zero and its derivative has two sides. mmcv's operator gives zero, as for
    everything outside; torchvision's gives that of the inner side. With padding, every offset that
    starts at zero samples there at first.
    """
    stride, padding, dilation = geometry[0:2], geometry[2:4], geometry[4:6]
    batch, _, *size = offset.shape
    by_axis = offset.view(batch, -1, *kernel, 2, *size)
    found = torch.zeros_like(by_axis[..., 0, :, :], dtype=torch.bool)
    for axis in (0, 1):
        taps = torch.arange(kernel[axis], device=offset.device) * dilation[axis] - padding[axis]
        places = torch.arange(size[axis], device=offset.device) * stride[axis]
        shape = [1, 1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        start = taps.view(shape)
        shape = [1, 1, 1, 1, 1, 1]
        shape[4 + axis] = -1
        start = (start + places.view(shape)).to(offset.dtype)
        found |= start + by_axis[..., axis, :, :] == -1
    return found.unsqueeze(-3).expand_as(by_axis).reshape(offset.shape)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the deformable convolution into `output`; `dW` and `dH` are the stride."""
    _forward(output, input, offset, weight, (dH, dW, padH, padW, dilationH, dilationW))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the gradients of the input and of the offset into `gradInput` and `gradOffset`."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW)
    gradients = _backward(gradOutput, input, offset, weight, geometry, group, deformable_group)
    gradInput.copy_(gradients[0])
    gradOffset.copy_(gradients[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add `scale` times the gradient of the weight to `gradWeight`."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW)
    # The gradient of the weight does not depend on the weight, which mmcv does not pass.
    gradients = _backward(gradOutput, input, offset, gradWeight, geometry, group, deformable_group)
    gradWeight.add_(gradients[1].to(gradWeight.dtype), alpha=scale)


def _flatten_to_output(tensor: Tensor, output: Tensor) -> Tensor:
    """Return the offset or mask as mmcv's compiled operator reads it: flat, at the output's size.

    That operator ignores the height and width of an offset. DyHead passes the offset of a map
    larger than the output, and weights trained so need the first values of each image.
    """
    size = torch.Size((tensor.shape[1], *output.shape[2:]))
    if tensor.shape[1:].numel() <= size.numel():
        return tensor
    return tensor.flatten(1)[:, : size.numel()].view(-1, *size)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the modulated deformable convolution into `output`."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    offset, mask = _flatten_to_output(offset, output), _flatten_to_output(mask, output)
    _forward(output, input, offset, weight, geometry, bias if with_bias else None, mask)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the gradients of all inputs into the tensors `grad_*` of their shapes."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    offset, mask = _flatten_to_output(offset, grad_output), _flatten_to_output(mask, grad_output)
    gradients = _backward(
        grad_output, input, offset, weight, geometry, group, deformable_group, mask
    )
    grad_input.copy_(gradients[0])
    grad_weight.copy_(gradients[1])
    for target, gradient in ((grad_offset, gradients[2]), (grad_mask, gradients[3])):
        unread = target.shape[1:].numel() - gradient.shape[1:].numel()
        target.copy_(pad(gradient.flatten(1), (0, unread)).view_as(target))
    if with_bias:
        grad_bias.copy_(gradients[4])
