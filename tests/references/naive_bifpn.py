"""BiFPN and PANet written out level by level, in numpy float64, on one image of (C, H, W) maps.

`state` is a GraphFPN's state dict as numpy arrays (eval mode); no other part of it is used.
"""

import numpy as np
from naive_gnconv import conv1x1, depthwise, gnconv

EPSILON = 1e-4


def sub(state, prefix):
    """The entries under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def conv3x3(x, weight, bias, stride=1):
    """(C, H, W) x (D, C, 3, 3) -> (D, ceil(H / stride), ceil(W / stride)), zeros around."""
    channels, height, width = x.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = x
    rows, columns = range(0, height, stride), range(0, width, stride)
    out = np.zeros((weight.shape[0], len(rows), len(columns)))
    for d in range(weight.shape[0]):
        for i, y in enumerate(rows):
            for j, z in enumerate(columns):
                out[d, i, j] = (padded[:, y : y + 3, z : z + 3] * weight[d]).sum()
        out[d] += 0 if bias is None else bias[d]
    return out


def batch_norm(x, state, eps=1e-3):
    """Normalize (C, H, W) with running statistics."""
    out = np.empty_like(x)
    for c in range(x.shape[0]):
        scale = state["weight"][c] / np.sqrt(state["running_var"][c] + eps)
        out[c] = (x[c] - state["running_mean"][c]) * scale + state["bias"][c]
    return out


def swish(x):
    return x / (1 + np.exp(-x))


def max_pool(x):
    """Maximum over 3 x 3, stride 2: (C, H, W) -> (C, ceil(H / 2), ceil(W / 2))."""
    channels, height, width = x.shape
    out = np.empty((channels, (height + 1) // 2, (width + 1) // 2))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            top, left = max(2 * i - 1, 0), max(2 * j - 1, 0)
            out[:, i, j] = x[:, top : 2 * i + 2, left : 2 * j + 2].max(axis=(1, 2))
    return out


def nearest(x, size):
    """Resize (C, H, W) to a size by the nearest pixel at or before."""
    out = np.empty((x.shape[0], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            out[:, i, j] = x[:, i * x.shape[1] // size[0], j * x.shape[2] // size[1]]
    return out


def project(x, state):
    """1x1 convolution and batch norm."""
    bn = sub(state, "bn.")
    x = conv1x1(x, state["conv.weight"], state.get("conv.bias"))
    return batch_norm(x, bn) if bn else x


def weighted(maps, weight, method):
    """EfficientDet section 3.3."""
    if method == "sum":
        return sum(maps)
    w = np.maximum(weight, 0) if method == "fast" else np.exp(weight)
    total = w.sum() + (EPSILON if method == "fast" else 0)
    return sum(w[i] / total * maps[i] for i in range(len(maps)))


def normalize_pixels(x, eps=1e-6):
    """Each pixel of (C, H, W) less its mean over channels, by its standard deviation."""
    out = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            pixel = x[:, i, j] - x[:, i, j].sum() / x.shape[0]
            out[:, i, j] = pixel / np.sqrt((pixel * pixel).sum() / x.shape[0] + eps)
    return out


def fuse(x, state, fusion):
    """Swish, convolution, batch norm; in front of a gnConv the norm of each pixel."""
    if fusion == "gnconv":
        x = gnconv(normalize_pixels(swish(x)), sub(state, "1."), 2, 1.0, "dw7x7")
        return batch_norm(x, sub(state, "1.bn."))
    if fusion == "conv":
        return batch_norm(conv3x3(swish(x), state["conv.weight"], None), sub(state, "bn."))
    x = depthwise(swish(x), state["depthwise_conv.conv.weight"], None)
    return project(x, sub(state, "pointwise_conv."))


def bifpn(maps, state, num_outs, repeats, fusion, method):
    """Maps (C_i, H_i, W_i) of the backbone -> `num_outs` maps, all of them BiFPN nodes' outputs."""
    p, num_maps = list(maps), len(maps)
    while len(p) < num_outs:
        source = project(p[-1], sub(state, "extra_levels.0.0.")) if len(p) == num_maps else p[-1]
        p.append(max_pool(source))
    sizes = [x.shape[1:] for x in p]
    top = num_outs - 1
    for repeat in range(repeats):
        td, out = {top: None}, {}

        def node(name, level, inputs, repeat=repeat):
            """`inputs`: (map, 'same' | 'up' | 'down', whether it enters at this index)."""
            of_node = sub(state, f"cells.{repeat}.{name}.")
            terms = []
            for i, (x, way, entering) in enumerate(inputs):
                if repeat == 0 and entering is not None and entering < num_maps:
                    x = project(x, sub(of_node, f"edges.{i}.0."))
                if way == "down":
                    x = max_pool(x)
                terms.append(nearest(x, sizes[level]))
            x = weighted(terms, of_node.get("combine.weight"), method)
            return fuse(x, sub(of_node, "fusion."), fusion)

        for i in range(top - 1, 0, -1):  # P_i^td = Conv(w1 P_i^in + w2 Resize(P_(i+1)^td))
            above = (p[top], "up", top) if i + 1 == top else (td[i + 1], "up", None)
            td[i] = node(f"td{i}", i, [(p[i], "same", i), above])
        above = (p[1], "up", 1) if top == 1 else (td[1], "up", None)
        out[0] = node("out0", 0, [(p[0], "same", 0), above])
        for i in range(1, top):  # P_i^out = Conv(w1 P_i^in + w2 P_i^td + w3 Resize(P_(i-1)^out))
            three = [(p[i], "same", i), (td[i], "same", None), (out[i - 1], "down", None)]
            out[i] = node(f"out{i}", i, three)
        out[top] = node(f"out{top}", top, [(p[top], "same", top), (out[top - 1], "down", None)])
        p = [out[i] for i in range(num_outs)]
    return p


def pafpn(maps, state):
    """PANet section 3.1 as convolutions without norm and activation, as many outputs as maps."""
    of = [sub(state, f"cells.0.{name}.") for name in ("td", "fpn", "out")]
    assert not any(of)  # names carry their level
    top = len(maps) - 1

    def conv(x, name, part="fusion.", stride=1):
        s = sub(state, f"cells.0.{name}.{part}")
        return conv3x3(x, s["conv.weight"], s["conv.bias"], stride)

    merged = {}
    for i in range(top, -1, -1):
        merged[i] = project(maps[i], sub(state, f"cells.0.td{i}.edges.0.0."))
        if i < top:
            merged[i] = merged[i] + nearest(merged[i + 1], maps[i].shape[1:])
    n = {0: conv(merged[0], "out0")}
    for i in range(1, top + 1):
        down = conv(n[i - 1], f"out{i}", "edges.1.0.", stride=2)
        n[i] = conv(conv(merged[i], f"fpn{i}") + nearest(down, maps[i].shape[1:]), f"out{i}")
    return [n[i] for i in range(top + 1)]
