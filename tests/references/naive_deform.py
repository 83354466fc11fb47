"""Convolutions and attention that sample at fractional places, as plain loops in numpy float64."""

import math

import numpy as np


def sample(plane, y, x):
    """Bilinear value of an (H, W) plane at (y, x), zeros all around."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * plane[i, j]
    return total


def deform_conv(x, offset, weight, stride, padding, dilation, groups, deform_groups, mask=None):
    """(N, C, H, W) with offsets (N, 2GK, h, w), masks (N, GK, h, w) -> (N, O, h, w)."""
    n, channels = x.shape[:2]
    out_channels, per_group, kh, kw = weight.shape
    height, width = offset.shape[2:]
    out = np.zeros((n, out_channels, height, width))
    for b in range(n):
        for o in range(out_channels):
            group = o // (out_channels // groups)
            for ci in range(per_group):
                c = group * per_group + ci
                deform_group = c // (channels // deform_groups)
                for i in range(height):
                    for j in range(width):
                        for u in range(kh):
                            for v in range(kw):
                                tap = (deform_group * kh + u) * kw + v
                                dy = offset[b, 2 * tap, i, j]
                                dx = offset[b, 2 * tap + 1, i, j]
                                y = i * stride - padding + u * dilation + dy
                                z = j * stride - padding + v * dilation + dx
                                value = weight[o, ci, u, v] * sample(x[b, c], y, z)
                                if mask is not None:
                                    value *= mask[b, tap, i, j]
                                out[b, o, i, j] += value
    return out


def multi_scale_attention(value, shapes, locations, weights):
    """Equation 3 of Deformable DETR: (N, sum HW, heads, D) -> (N, queries, heads * D)."""
    n, _, heads, width = value.shape
    queries, levels, points = locations.shape[1], len(shapes), locations.shape[4]
    out = np.zeros((n, queries, heads, width))
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    for b in range(n):
        for q in range(queries):
            for m in range(heads):
                for level in range(levels):
                    h, w = shapes[level]
                    planes = value[b, starts[level] : starts[level + 1], m].reshape(h, w, width)
                    for k in range(points):
                        x, y = locations[b, q, m, level, k] * (w, h) - 0.5
                        for d in range(width):
                            weight = weights[b, q, m, level, k]
                            out[b, q, m, d] += weight * sample(planes[:, :, d], y, x)
    return out.reshape(n, queries, heads * width)


def carafe(features, masks, kernel, groups, scale):
    """Equation 2 of CARAFE: (N, C, H, W) -> (N, C, sH, sW)."""
    n, channels, height, width = features.shape
    out = np.zeros((n, channels, height * scale, width * scale))
    for b in range(n):
        for c in range(channels):
            group = c // (channels // groups)
            for i in range(height * scale):
                for j in range(width * scale):
                    for u in range(kernel):
                        for v in range(kernel):
                            y = i // scale + u - kernel // 2
                            x = j // scale + v - kernel // 2
                            if 0 <= y < height and 0 <= x < width:
                                tap = (group * kernel + u) * kernel + v
                                out[b, c, i, j] += masks[b, tap, i, j] * features[b, c, y, x]
    return out
