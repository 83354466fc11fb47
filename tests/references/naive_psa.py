"""The masks of point-wise spatial attention as plain loops, in numpy."""

import numpy as np


def psa_mask(x, kind, size):
    """(N, h_mask * w_mask, H, W) -> (N, H * W, H, W); `kind`: 'collect' or 'distribute'."""
    number, _, height, width = x.shape
    half = [(n - 1) // 2 for n in size]
    out = np.zeros((number, height * width, height, width))
    for n, h, w, i, j in np.ndindex(number, height, width, *size):
        row, column = h + i - half[0], w + j - half[1]
        if 0 <= row < height and 0 <= column < width:
            value = x[n, i * size[1] + j, h, w]
            if kind == "collect":
                out[n, row * width + column, h, w] = value
            else:
                out[n, h * width + w, row, column] = value
    return out
