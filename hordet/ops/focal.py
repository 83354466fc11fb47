"""Focal losses (Lin et al. 2017, https://arxiv.org/abs/1708.02002) and their gradients.

Written out, not left to autograd: mmcv asks for forward and backward apart, and the derivative of
(1 - p) ** gamma as autograd takes it is infinite at p = 1 where gamma < 1.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from hordet.ops.precision import working_dtype


def _signed(input: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns for each logit (N, C): p of the right answer, log p, its weight, its sign."""
    classes = torch.arange(input.shape[1], device=input.device)
    positive = target[:, None] == classes
    sign = torch.where(positive, 1, -1)
    logit = input.to(working_dtype(input.dtype)) * sign
    balance = torch.where(positive, alpha, 1 - alpha).to(logit.dtype)
    return logit.sigmoid(), logsigmoid(logit), balance, sign


def _class_weight(target: Tensor, weight: Tensor) -> Tensor | float:
    """Returns the weight (N,) of each target's class; 1 for background or without weights."""
    if weight.numel() == 0:
        return 1.0
    is_class = (target >= 0) & (target < len(weight))
    return torch.where(is_class, weight[target.where(is_class, 0)], 1)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Writes the loss of each logit into `output`.

    Args:
        input: logits, (N, C).
        target: classes, (N,); one outside [0, C) is background.
        weight: weights of the classes, (C,), or empty.
        output: (N, C).
        gamma: how much easy examples are held down.
        alpha: the weight of the positives; the negatives have 1 - alpha.
    """
    p, log_p, balance, _ = _signed(input, target, alpha)
    loss = -balance * (1 - p) ** gamma * log_p
    output.copy_((loss.T * _class_weight(target, weight)).T)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Writes the derivative of each loss by its logit, (N, C), into `grad_input`."""
    p, log_p, balance, sign = _signed(input, target, alpha)
    derivative = -sign * balance * (1 - p) ** gamma * (1 - p - gamma * p * log_p)
    grad_input.copy_((derivative.T * _class_weight(target, weight)).T)


def _of_target(softmax: Tensor, target: Tensor) -> Tensor:
    """Returns the probability (N,) of each target; 1, which costs nothing, for negative targets."""
    p = softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return torch.where(target >= 0, p.to(working_dtype(p.dtype)), 1)


def softmax_focal_loss_forward(
    input_softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Writes the loss of each row into `output`.

    Args:
        input_softmax: probabilities, (N, C).
        target: classes, (N,); a negative one is ignored.
        weight: weights of the classes, (C,), or empty.
        output: (N,).
        gamma: how much easy examples are held down.
        alpha: the weight of the loss.
    """
    p = _of_target(input_softmax, target)
    log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log()
    output.copy_(-alpha * (1 - p) ** gamma * log_p * _class_weight(target, weight))


def softmax_focal_loss_backward(
    input_softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Writes the derivative of each loss by its logits, (N, C), into `grad_input`."""
    p = _of_target(input_softmax, target)
    tiny = torch.finfo(p.dtype).tiny
    rest = 1 - p
    slope = gamma * rest.clamp(min=tiny) ** (gamma - 1) * p * p.clamp(min=tiny).log()
    buff.copy_(alpha * (slope - rest**gamma) * _class_weight(target, weight))
    classes = torch.arange(input_softmax.shape[1], device=target.device)
    hit = (target[:, None] == classes).to(p.dtype)
    derivative = buff[:, None] * (hit - input_softmax)
    grad_input.copy_(torch.where(target[:, None] >= 0, derivative, 0))
