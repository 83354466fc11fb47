"""gnConv and the global filter as plain loops over the published equations, in numpy float64."""

import numpy as np


def conv1x1(x, weight, bias):
    """(C, H, W) x (D, C, 1, 1) -> (D, H, W)."""
    out = np.zeros((weight.shape[0], *x.shape[1:]))
    for d in range(weight.shape[0]):
        for c in range(x.shape[0]):
            out[d] += weight[d, c, 0, 0] * x[c]
        out[d] += 0 if bias is None else bias[d]
    return out


def depthwise(x, weight, bias):
    """(C, H, W) x (C, 1, k, k) -> (C, H, W), zeros around."""
    channels, height, width = x.shape
    k = weight.shape[-1]
    out = np.zeros_like(x)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                for u in range(k):
                    for v in range(k):
                        y, z = i + u - k // 2, j + v - k // 2
                        if 0 <= y < height and 0 <= z < width:
                            out[c, i, j] += weight[c, 0, u, v] * x[c, y, z]
        out[c] += 0 if bias is None else bias[c]
    return out


def layer_norm(x, weight, bias, eps=1e-6):
    """Normalize each pixel of (C, H, W) over its channels."""
    out = np.zeros_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            pixel = x[:, i, j]
            normed = (pixel - pixel.mean()) / np.sqrt(pixel.var() + eps)
            out[:, i, j] = normed * weight + bias
    return out


def bilinear(grid, height, width):
    """Resize (h, w) with aligned corners."""
    h, w = grid.shape
    out = np.zeros((height, width), dtype=grid.dtype)
    for i in range(height):
        for j in range(width):
            y = i * (h - 1) / (height - 1) if height > 1 else 0.0
            x = j * (w - 1) / (width - 1) if width > 1 else 0.0
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = grid[y0, x0] * (1 - (x - x0)) + grid[y0, x1] * (x - x0)
            low = grid[y1, x0] * (1 - (x - x0)) + grid[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + low * (y - y0)
    return out


def filter_spectrum(x, weight):
    """Multiply the full spectrum of a real (H, W) by a filter given on its half axis."""
    height, width = x.shape
    half = bilinear(weight, height, width // 2 + 1)
    rows, columns = np.arange(height), np.arange(width)
    spectrum = np.zeros((height, width // 2 + 1), dtype=complex)
    for u in range(height):
        for v in range(width // 2 + 1):
            phase = u * rows[:, None] / height + v * columns[None] / width
            spectrum[u, v] = (x * np.exp(-2j * np.pi * phase)).sum() / np.sqrt(height * width)
    return np.fft.irfft2(spectrum * half, s=(height, width), norm="ortho")


def global_local_filter(x, state):
    """HorNet section 3.2: local half, global half, interleaved, between two norms."""
    x = layer_norm(x, state["pre_norm.weight"], state["pre_norm.bias"])
    half = x.shape[0] // 2
    local = depthwise(x[:half], state["dw.weight"], None)
    weight = state["complex_weight"][..., 0] + 1j * state["complex_weight"][..., 1]
    out = np.zeros_like(x)
    for c in range(half):
        out[2 * c] = local[c]
        out[2 * c + 1] = filter_spectrum(x[half + c], weight[c])
    return layer_norm(out, state["post_norm.weight"], state["post_norm.bias"])


def gnconv(x, state, order, scale, spatial):
    """HorNet equations 3.3 to 3.5 on (C_in, H, W)."""
    width = state["proj_in.weight"].shape[0] // 2
    dims = [width // 2 ** (order - 1 - k) for k in range(order)]
    projected = conv1x1(x, state["proj_in.weight"], state["proj_in.bias"])
    p, q = projected[: dims[0]], projected[dims[0] :]
    if spatial == "gf":
        inner = {k.removeprefix("dwconv."): v for k, v in state.items() if k.startswith("dwconv.")}
        q = global_local_filter(q, inner) * scale
    else:
        q = depthwise(q, state["dwconv.weight"], state["dwconv.bias"]) * scale
    start = 0
    for k, dim in enumerate(dims):
        if k:
            p = conv1x1(p, state[f"pws.{k - 1}.weight"], state[f"pws.{k - 1}.bias"])
        p = p * q[start : start + dim]
        start += dim
    if "proj_out.weight" in state:
        p = conv1x1(p, state["proj_out.weight"], state["proj_out.bias"])
    return p
