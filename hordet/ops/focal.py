"""Focal losses (Lin et al. 2017, https://arxiv.org/abs/1708.02002) and their gradients.

The gradients are written out: mmcv calls forward and backward separately, and autograd's derivative
of (1 - p) ** gamma is infinite at p = 1 if gamma < 1.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from hordet.ops.precision import get_working_dtype


def _split_by_sign(
    input: Tensor, target: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return for each logit (N, C): probability p of the true answer, log p, weight, and sign."""
    classes = torch.arange(input.shape[1], device=input.device)
    positive = target[:, None] == classes
    sign = torch.where(positive, 1, -1)
    logit = input.to(get_working_dtype(input.dtype)) * sign
    balance = torch.where(positive, alpha, 1 - alpha).to(logit.dtype)
    return logit.sigmoid(), logsigmoid(logit), balance, sign


def _get_target_weight(target: Tensor, weight: Tensor) -> Tensor | float:
    """Return the weight (N,) of each target's class; 1 for background or without weights."""
    if weight.numel() == 0:
        return 1.0
    is_class = (target >= 0) & (target < len(weight))
    return torch.where(is_class, weight[target.where(is_class, 0)], 1)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each logit into `output`.

    Args:
        input: Logits, (N, C).
        target: Classes, (N,); one outside [0, C) is background.
        weight: Weights of the classes, (C,), or empty.
        output: (N, C).
        gamma: Exponent that lowers the loss of easy examples.
        alpha: Weight of the positives; negatives have 1 - alpha.
    """
    p, log_p, balance, _ = _split_by_sign(input, target, alpha)
    loss = -balance * (1 - p) ** gamma * log_p
    output.copy_((loss.T * _get_target_weight(target, weight)).T)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by its logit, (N, C), into `grad_input`."""
    p, log_p, balance, sign = _split_by_sign(input, target, alpha)
    derivative = -sign * balance * (1 - p) ** gamma * (1 - p - gamma * p * log_p)
    grad_input.copy_((derivative.T * _get_target_weight(target, weight)).T)


def _get_target_probability(softmax: Tensor, target: Tensor) -> Tensor:
    """Return the probability (N,) of each target; 1 for negative targets, so their loss is 0."""
    p = softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return torch.where(target >= 0, p.to(get_working_dtype(p.dtype)), 1)


def softmax_focal_loss_forward(
    input_softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the loss of each row into `output`.

    Args:
        input_softmax: Probabilities, (N, C).
        target: Classes, (N,); a negative one is ignored.
        weight: Weights of the classes, (C,), or empty.
        output: (N,).
        gamma: Exponent that lowers the loss of easy examples.
        alpha: Weight of the loss.
    """
    p = _get_target_probability(input_softmax, target)
    log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log()
    output.copy_(-alpha * (1 - p) ** gamma * log_p * _get_target_weight(target, weight))


def softmax_focal_loss_backward(
    input_softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of each loss by its logits, (N, C), into `grad_input`."""
    p = _get_target_probability(input_softmax, target)
    tiny = torch.finfo(p.dtype).tiny
    rest = 1 - p
    slope = gamma * rest.clamp(min=tiny) ** (gamma - 1) * p * p.clamp(min=tiny).log()
    buff.copy_(alpha * (slope - rest**gamma) * _get_target_weight(target, weight))
    classes = torch.arange(input_softmax.shape[1], device=target.device)
    hit = (target[:, None] == classes).to(p.dtype)
    derivative = buff[:, None] * (hit - input_softmax)
    grad_input.copy_(torch.where(target[:, None] >= 0, derivative, 0))
