"""The masks of point-wise spatial attention (PSANet, Zhao et al. 2018, section 3.2).

Each position of a map predicts a mask over its surroundings: `input` (N, h_mask * w_mask, H, W).
The operator lays it out over the whole map: `output` (N, H * W, H, W), zero where a mask does not
reach. Type 0 ('collect') has at [n, q, p] what position p predicts for q, type 1 ('distribute') at
[n, p, q].
"""

import torch
from torch import Tensor


def _index_masks(
    h_feature: int, w_feature: int, h_mask: int, w_mask: int, half: tuple[int, int], device: object
) -> tuple[Tensor, Tensor]:
    """Return which value of the mask of p lies on q, both (H * W (q), H * W (p)): index, valid."""
    rows = torch.arange(h_feature, device=device)  # type: ignore[call-overload]
    columns = torch.arange(w_feature, device=device)  # type: ignore[call-overload]
    row = rows[:, None] - rows[None, :] + half[0]  # (q, p)
    column = columns[:, None] - columns[None, :] + half[1]
    inside_row, inside_column = (row >= 0) & (row < h_mask), (column >= 0) & (column < w_mask)
    size = h_feature * w_feature
    index = (row[:, None, :, None] * w_mask + column[None, :, None, :]).reshape(size, size)
    valid = (inside_row[:, None, :, None] & inside_column[None, :, None, :]).reshape(size, size)
    return index.masked_fill(~valid, 0), valid


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the masks over the whole map into `output`; see the module for the shapes."""
    half = (half_h_mask, half_w_mask)
    index, valid = _index_masks(h_feature, w_feature, h_mask, w_mask, half, input.device)
    masks = input.flatten(2).gather(1, index.expand(num_, -1, -1)).masked_fill(~valid, 0)
    output.copy_((masks if psa_type == 0 else masks.transpose(1, 2)).reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the gradient of the input into `grad_input`; see the module for the shapes."""
    half = (half_h_mask, half_w_mask)
    index, valid = _index_masks(h_feature, w_feature, h_mask, w_mask, half, grad_output.device)
    masks = grad_output.reshape(num_, len(index), len(index))
    masks = (masks if psa_type == 0 else masks.transpose(1, 2)).masked_fill(~valid, 0)
    # Each value of a mask lies on one position at most, so nothing is summed but zeros.
    gradient = grad_input.new_zeros(num_, h_mask * w_mask, len(index))
    gradient.scatter_add_(1, index.expand(num_, -1, -1), masks.to(gradient.dtype))
    grad_input.copy_(gradient.view_as(grad_input))
