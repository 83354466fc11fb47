"""SCL: sparse connectivity learning (Tang et al., IEEE TNNLS 34, 2023; arXiv 2201.05020).

A weight is a trainable value times a binary mask, and the mask is a unit step of a trainable
variable:

    y = conv(x; w * H(m)),    H(m) = 1 where m > 0, else 0.

H has no slope. Its gradient is estimated straight through by that of the identity, which the paper
shows to be a positive proxy with which m arrives where the loss is least. A connection that is left
out keeps its value w and its variable m, so it comes back if the loss asks for it. The objective is

    loss + cost * (number of connections kept),

whose second part pulls every m down by `cost` a step of gradient, whatever the layer.

Mask gradients of the features of a layer differ by orders of magnitude, so the paper normalizes
them by feature. The text of that normalization was not at hand. Chosen here: the gradient of each
output feature is scaled to the root mean square that the layer's features have on average. It
balances features as the paper asks, and keeps proportional to the loss, so that loss scaling and
the weights of losses mean what they did. `balance=False` leaves it out.

What differs from the paper further: masks start at a constant, 0.001, so that all connections are
there at first and one without use for the loss is gone after `0.001 / (cost * learning rate)` steps
of SGD. The wrapper takes any module with a parameter `weight`: `Scl` is the fusion, a 3x3
convolution in it; `conv_cfg=dict(type='hordet.SparseConv2d')` is the same around the convolutions
of any component of mmdet and mmseg. The cost reaches a training by
`custom_hooks=[dict(type='hordet.ConnectionCostHook', cost=1e-4)]`, which adds it to the losses. Let
no weight decay act on masks by `paramwise_cfg=dict(custom_keys=...)`: mmengine takes a key for all
parameters whose name has it anywhere, so that 'mask' would hit a `mask_head` too. The page
docs/neighbours.md has keys that hit these masks alone.

Relation to gnConv: a gate multiplies by a map that depends on the input, a mask by a constant that
does not. Both end in a product; SCL's costs nothing once it is trained.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hordet.layers.wrapped_conv import WrappedConv

START = 1e-3


class _Step(torch.autograd.Function):
    """H(m), with the gradient of the identity; balanced over the output features if asked."""

    @staticmethod
    def forward(ctx, mask: Tensor, balance: bool) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.balance = balance
        return (mask > 0).to(mask.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        if ctx.balance:
            size = grad.flatten(1).square().mean(1).sqrt()
            factor = torch.where(size > 0, size.mean() / size, 0.0)
            grad = grad * factor.view(-1, *[1] * (grad.ndim - 1))
        return grad, None


class SparseConnectivity(WrappedConv):
    """A convolution, or another module with a parameter `weight`, with a trainable binary mask.

    Args:
        conv: The module; features of its output are along the first axis of `weight`.
        balance: Bring the mask gradients of all features to one size.

    Attributes:
        mask: The variable m, of the shape of `weight`.

    Shape:
        As the module's.

    Raises:
        ValueError: The module has no parameter `weight`.
    """

    def __init__(self, conv: nn.Module, *, balance: bool = True) -> None:
        """Create the mask; every connection is there."""
        super().__init__(conv)
        if not isinstance(getattr(conv, "weight", None), nn.Parameter):
            raise ValueError(
                f"got a {type(conv).__name__}, which has no parameter 'weight'; allowed are "
                "convolutions and linear layers."
            )
        self.balance = balance
        self.mask = nn.Parameter(torch.full_like(self.conv.weight, START))

    def forward(self, x: Tensor) -> Tensor:
        """Compute with the connections that are kept."""
        weight = self.conv.weight * _Step.apply(self.mask, self.balance)
        return functional_call(self.conv, {"weight": weight}, (x,))

    def count_kept(self) -> Tensor:
        """Return the number of connections kept, with the identity as its gradient."""
        return _Step.apply(self.mask, False).sum()

    def fold(self) -> nn.Module:
        """Return a copy of the module with its lost connections as zeros; the same output."""
        conv = copy.deepcopy(self.conv)
        with torch.no_grad():
            conv.weight.mul_(self.mask > 0)
        return conv


def count_connections(model: nn.Module) -> tuple[Tensor, int]:
    """Return how many connections a model keeps, as a loss can take it, and of how many.

    Args:
        model: Any module; its parts that are `SparseConnectivity` count.

    Raises:
        ValueError: It has none.
    """
    parts = [part for part in model.modules() if isinstance(part, SparseConnectivity)]
    if not parts:
        raise ValueError(
            "the model has no sparse connections; take fusion='scl' in a neck, or "
            "conv_cfg=dict(type='hordet.SparseConv2d') in any part."
        )
    kept = torch.stack([part.count_kept() for part in parts]).sum()
    return kept, sum(part.mask.numel() for part in parts)


class Scl(nn.Module):
    """A 3x3 convolution whose connections are learned.

    Args:
        channels: C of input and output.
        balance: As of `SparseConnectivity`.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, *, balance: bool = True) -> None:
        """Wrap a convolution of torch's own start."""
        super().__init__()
        self.sparse = SparseConnectivity(
            nn.Conv2d(channels, channels, 3, padding=1), balance=balance
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (N, C, H, W) -> (N, C, H, W)."""
        return self.sparse(x)
