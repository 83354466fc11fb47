"""Box overlaps and non-maximum suppression as plain loops over Python floats."""

import math


def overlap(a, b, offset=0, over_first=False):
    """Intersection over union, or over a, of boxes (x1, y1, x2, y2)."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    area = area_a if over_first else area_a + area_b - width * height
    return width * height / area


def nms(boxes, scores, threshold, offset=0):
    """Indices kept, best first."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def soft_nms(boxes, scores, threshold, sigma, min_score, method, offset=0):
    """Indices kept and their decayed scores, best first."""
    scores = list(scores)
    remaining = list(range(len(boxes)))
    kept, kept_scores = [], []
    while remaining:
        best = max(remaining, key=lambda i: scores[i])
        remaining.remove(best)
        kept.append(best)
        kept_scores.append(scores[best])
        for i in list(remaining):
            iou = overlap(boxes[best], boxes[i], offset)
            if method == "gaussian":
                scores[i] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                scores[i] *= 1 - iou if method == "linear" else 0
            if scores[i] < min_score:
                remaining.remove(i)
    return kept, kept_scores


def nms_match(boxes, scores, threshold):
    """Groups of indices: a kept box, then those it suppresses, best first."""
    remaining = sorted(range(len(boxes)), key=lambda i: -scores[i])
    groups = []
    while remaining:
        best = remaining[0]
        group = [best]
        for i in remaining[1:]:
            if overlap(boxes[best], boxes[i]) >= threshold:
                group.append(i)
        remaining = [i for i in remaining if i not in group]
        groups.append(group)
    return groups
