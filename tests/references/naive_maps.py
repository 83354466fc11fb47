"""Layers on one image as their sums read, in numpy float64, for the references of fusions.

`state` is a module's state dict as numpy arrays; `randomize` draws one.
"""

import numpy as np
import torch


def randomize(module, seed=1):
    """Random numbers in every parameter and running statistic, in float64 and eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return module.eval()


def read_state(module):
    """The state dict as numpy arrays."""
    return {name: value.numpy() for name, value in module.state_dict().items()}


def draw_images(channels, height=5, width=6, batch=2, seed=2):
    """Random images in float64: (N, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=torch.double)


def assert_equals(module, naive, images):
    """The module equals a function of one image and of its state, image by image."""
    state = read_state(module)
    with torch.no_grad():
        outs = module(images).numpy()
    for image, out in zip(images.numpy(), outs, strict=True):
        np.testing.assert_allclose(out, naive(image, state), rtol=1e-9, atol=1e-9)


def conv(x, weight, bias=None, groups=1):
    """(C, H, W) * (D, C / groups, k, k) -> (D, H, W), zeros around, one product at a time."""
    k, (height, width) = weight.shape[-1], x.shape[1:]
    padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    wide, narrow = weight.shape[0] // groups, x.shape[0] // groups
    out = np.zeros((weight.shape[0], height, width))
    for d in range(weight.shape[0]):
        for c in range(narrow):
            source = padded[d // wide * narrow + c]
            for i in range(k):
                for j in range(k):
                    out[d] += weight[d, c, i, j] * source[i : i + height, j : j + width]
        out[d] += 0 if bias is None else bias[d]
    return out


def max_pool(x, size):
    """Max over blocks of size x size that fit whole: (C, H, W) -> (C, H', W')."""
    channels, height, width = x.shape[0], x.shape[1] // size, x.shape[2] // size
    out = np.empty((channels, height, width))
    for i in range(height):
        for j in range(width):
            block = x[:, size * i : size * (i + 1), size * j : size * (j + 1)]
            out[:, i, j] = block.max((1, 2))
    return out


def batch_norm(x, state, prefix, eps=1e-5):
    """Normalize (C, H, W) with running statistics."""
    out = np.empty_like(x)
    for c in range(x.shape[0]):
        scale = state[f"{prefix}.weight"][c] / np.sqrt(state[f"{prefix}.running_var"][c] + eps)
        shifted = x[c] - state[f"{prefix}.running_mean"][c]
        out[c] = shifted * scale + state[f"{prefix}.bias"][c]
    return out


def layer_norm(v, state, prefix, eps=1e-5):
    """Normalize the numbers of a vector."""
    weight, bias = state[f"{prefix}.weight"].ravel(), state[f"{prefix}.bias"].ravel()
    return (v - v.mean()) / np.sqrt(v.var() + eps) * weight + bias


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    """Over all numbers of a vector."""
    e = np.exp(x - x.max())
    return e / e.sum()


def in_front(x, state):
    """The convolution in front of a fusion, where there is one."""
    return conv(x, state["conv.weight"]) if "conv.weight" in state else x


def count(module):
    """The number of its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
