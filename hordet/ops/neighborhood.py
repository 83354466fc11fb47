"""Operators on the neighborhood of each feature: CARAFE, and the columns of masked convolutions."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import unfold

from hordet.ops.precision import get_working_dtype


def _make_reassembly(
    kernel_size: int, group_size: int, scale: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return CARAFE (Wang et al. 2019, https://arxiv.org/abs/1905.02188, equation 2)."""

    def reassemble(features: Tensor, masks: Tensor) -> Tensor:
        n, c, h, w = features.shape
        k = kernel_size**2
        columns = unfold(features, kernel_size, padding=kernel_size // 2)
        columns = columns.view(n, group_size, c // group_size, k, h, w)
        kernels = masks.view(n, group_size, k, h, scale, w, scale)
        return torch.einsum("ngckhw,ngkhiwj->ngchiwj", columns, kernels).reshape(
            n, c, h * scale, w * scale
        )

    return reassemble


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the features, upsampled by one kernel for each output pixel, into `output`.

    Args:
        features: (N, C, H, W).
        masks: The kernels, (N, kernel_size ** 2 * group_size, H * scale_factor, W * scale_factor).
        output: (N, C, H * scale_factor, W * scale_factor).
        kernel_size: Side of the kernel, odd.
        group_size: Number of channel groups, each with its own kernels.
        scale_factor: Factor by which the output is larger.
    """
    dtype = get_working_dtype(features.dtype)
    reassemble = _make_reassembly(kernel_size, group_size, scale_factor)
    output.copy_(reassemble(features.to(dtype), masks.to(dtype)))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of the features and of the masks into `grad_input` and `grad_masks`."""
    dtype = get_working_dtype(features.dtype)
    reassemble = _make_reassembly(kernel_size, group_size, scale_factor)
    pull_back = torch.func.vjp(reassemble, features.to(dtype), masks.to(dtype))[1]
    gradients = pull_back(grad_output.to(dtype))
    grad_input.copy_(gradients[0])
    grad_masks.copy_(gradients[1])


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Do the same as carafe_naive_forward; `rfeatures` keeps the features for the backward pass."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Do the same as carafe_naive_backward; the compiled operator's buffers are not used."""
    carafe_naive_backward(
        grad_output,
        rfeatures,
        masks,
        grad_input,
        grad_masks,
        kernel_size,
        group_size,
        scale_factor,
    )


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the neighborhoods of M chosen places into `data_col`.

    Args:
        features: (1, C, H, W).
        mask_h_idx: Rows of the places, (M,).
        mask_w_idx: Columns of the places, (M,).
        data_col: (C * kernel_h * kernel_w, M).
        kernel_h: Height of a neighborhood.
        kernel_w: Width of a neighborhood.
        pad_h: Rows of zeros above and below.
        pad_w: Columns of zeros left and right.
    """
    dtype = get_working_dtype(features.dtype)
    columns = unfold(features.to(dtype), (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    width = features.shape[3] + 2 * pad_w - kernel_w + 1
    data_col.copy_(columns[:, mask_h_idx * width + mask_w_idx])


def masked_col2im_forward(
    data_col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    output: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write columns (channels, M) to M chosen places of `output`, (1, channels, height, width)."""
    output[0, :, mask_h_idx, mask_w_idx] = data_col
