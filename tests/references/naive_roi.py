"""RoIAlign and RoIPool as plain loops, after mmcv's kernels, in numpy float64."""

import math

import numpy as np


def bilinear(plane, y, x):
    """Value of an (H, W) plane at (y, x): zero beyond one pixel outside, clamped to the border."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    return (
        (1 - v) * (1 - u) * plane[top, left]
        + (1 - v) * u * plane[top, right]
        + v * (1 - u) * plane[bottom, left]
        + v * u * plane[bottom, right]
    )


def roi_align(features, rois, size, scale, sampling, aligned, mode="avg", offset=None, gamma=0.1):
    """(N, C, H, W) features, (R, 5) regions -> (R, C, *size).

    With an offset (R, 2, *size) it is deformable RoI pooling.
    """
    out = np.zeros((len(rois), features.shape[1], *size))
    for r, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = (v * scale - (0.5 if aligned else 0) for v in box)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        bin_h, bin_w = height / size[0], width / size[1]
        rows = sampling or math.ceil(bin_h)
        columns = sampling or math.ceil(bin_w)
        for c in range(features.shape[1]):
            for i in range(size[0]):
                for j in range(size[1]):
                    samples = []
                    move_x = move_y = 0.0
                    if offset is not None:
                        move_x = gamma * width * offset[r, 0, i, j]
                        move_y = gamma * height * offset[r, 1, i, j]
                    for a in range(rows):
                        for b in range(columns):
                            y = y1 + (i + (a + 0.5) / rows) * bin_h
                            x = x1 + (j + (b + 0.5) / columns) * bin_w
                            plane = features[int(image), c]
                            samples.append(bilinear(plane, y + move_y, x + move_x))
                    if mode == "max":
                        out[r, c, i, j] = max(samples, default=-10000)
                    else:
                        out[r, c, i, j] = sum(samples) / max(rows * columns, 1)
    return out


def roi_pool(features, rois, size, scale):
    """(N, C, H, W) features, (R, 5) regions -> (R, C, *size)."""
    _, channels, height, width = features.shape
    out = np.zeros((len(rois), channels, *size))
    for r, (image, *box) in enumerate(rois):
        x1, y1 = box[0] * scale, box[1] * scale
        roi_w, roi_h = (box[2] + 1) * scale - x1, (box[3] + 1) * scale - y1
        if roi_w <= 0 or roi_h <= 0:
            continue
        for c in range(channels):
            for i in range(size[0]):
                for j in range(size[1]):
                    top = max(math.floor(y1 + i * roi_h / size[0]), 0)
                    bottom = min(math.ceil(y1 + (i + 1) * roi_h / size[0]), height)
                    left = max(math.floor(x1 + j * roi_w / size[1]), 0)
                    right = min(math.ceil(x1 + (j + 1) * roi_w / size[1]), width)
                    values = [
                        features[int(image), c, y, x]
                        for y in range(top, bottom)
                        for x in range(left, right)
                    ]
                    out[r, c, i, j] = max(values, default=0)
    return out
