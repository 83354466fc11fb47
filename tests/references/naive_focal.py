"""Focal losses as plain loops over Python floats."""

import math


def sigmoid_focal_loss(logits, targets, gamma, alpha, weight=None):
    """Loss of every logit, a list of rows; a target beyond the classes is background."""
    rows = []
    for row, target in zip(logits, targets, strict=True):
        losses = []
        for c, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            if c == target:
                loss = -alpha * (1 - p) ** gamma * math.log(p)
            else:
                loss = -(1 - alpha) * p**gamma * math.log(1 - p)
            in_range = weight is not None and target < len(row)
            losses.append(loss * (weight[target] if in_range else 1))
        rows.append(losses)
    return rows


def softmax_focal_loss(logits, targets, gamma, alpha, weight=None):
    """Loss of every row, a list; a negative target costs nothing."""
    losses = []
    for row, target in zip(logits, targets, strict=True):
        if target < 0:
            losses.append(0.0)
            continue
        p = math.exp(row[target]) / sum(math.exp(x) for x in row)
        loss = -alpha * (1 - p) ** gamma * math.log(p)
        losses.append(loss * (1 if weight is None else weight[target]))
    return losses
