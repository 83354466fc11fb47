"""Weights of classes in a loss, from how often each occurs in the training data."""

from collections.abc import Sequence

import numpy as np

# A pixel or an object counts at most so many times as much as a mean one.
HEAVIEST = 5.0
# Of Cui et al., who tried 0.9 to 0.9999: objects of a class beyond the first thousand add little.
BETA = 0.999


def weigh_pixels(counts: Sequence[float] | np.ndarray) -> list[float]:
    """Return weights by the number of pixels (K,) of each class; without bounds their mean is 1.

    The weight is in proportion to 1 / sqrt(pixels). In proportion to 1 / pixels (median frequency
    balancing, Eigen and Fergus, ICCV 2015) predictions of rare classes spread over neighbors.
    """
    counts = np.asarray(counts, float)
    weights = np.ones_like(counts)
    seen = counts > 0
    weights[seen] = counts[seen] ** -0.5 * counts.sum() / (counts[seen] ** 0.5).sum()
    return [round(float(weight), 2) for weight in np.minimum(weights, HEAVIEST)]


def weigh_objects(counts: Sequence[float] | np.ndarray, beta: float = BETA) -> list[float]:
    """Return weights by the number of objects (K,) of each class, at most 5.

    The weight is in proportion to 1 / E with the effective number E = (1 - beta ** n) / (1 - beta)
    (Cui et al., CVPR 2019, eq. 2 and section 4). Without the bound the mean over all objects is 1,
    so that objects together weigh what they did beside the background. A class without objects has
    the weight 1.
    """
    counts = np.asarray(counts, float)
    weights = np.ones_like(counts)
    seen = counts > 0
    inverse = (1 - beta) / (1 - beta ** counts[seen])
    weights[seen] = inverse * counts.sum() / (counts[seen] * inverse).sum()
    return [round(float(weight), 3) for weight in np.minimum(weights, HEAVIEST)]
