"""Operators on the neighborhood of each feature: CARAFE and the masked convolution's columns."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import unfold

from hordet.ops.precision import working_dtype


def _reassemble(
    kernel_size: int, group_size: int, scale: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns CARAFE (Wang et al. 2019, https://arxiv.org/abs/1905.02188), equation 2."""

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
    """Writes the features, upsampled by one kernel for each output pixel, into `output`.

    Args:
        features: (N, C, H, W).
        masks: the kernels, (N, kernel_size ** 2 * group_size, H * scale_factor, W * scale_factor).
        output: (N, C, H * scale_factor, W * scale_factor).
        kernel_size: side of the kernel, odd.
        group_size: number of channel groups, each with its own kernels.
        scale_factor: how much larger the output is.
    """
    dtype = working_dtype(features.dtype)
    reassemble = _reassemble(kernel_size, group_size, scale_factor)
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
    """Writes the gradients of the features and of the masks into `grad_input` and `grad_masks`."""
    dtype = working_dtype(features.dtype)
    reassemble = _reassemble(kernel_size, group_size, scale_factor)
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
    """Does as carafe_naive_forward; `rfeatures` keeps the features for the backward pass."""
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
    """Does as carafe_naive_backward; the compiled operator's buffers are left alone."""
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
    """Writes the neighborhoods of M chosen places into `data_col`.

    Args:
        features: (1, C, H, W).
        mask_h_idx: rows of the places, (M,).
        mask_w_idx: columns of the places, (M,).
        data_col: (C * kernel_h * kernel_w, M).
        kernel_h: height of a neighborhood.
        kernel_w: width of a neighborhood.
        pad_h: rows of zeros above and below.
        pad_w: columns of zeros left and right.
    """
    dtype = working_dtype(features.dtype)
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
    """Writes columns (channels, M) to M chosen places of `output`, (1, channels, height, width)."""
    output[0, :, mask_h_idx, mask_w_idx] = data_col
