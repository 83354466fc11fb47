"""The headline metrics: the few that people compare, on one scale from 0 to 1, and their names."""

from typing import Any

# Metrics by the last part of their key: their title, and the divisor that brings them to 0 to 1.
HEADLINES = {
    "bbox_mAP": ("box AP", 1),
    "bbox_mAP_50": ("box AP50", 1),
    "segm_mAP": ("mask AP", 1),
    "segm_mAP_50": ("mask AP50", 1),
    "PQ": ("PQ", 100),
    "PQ_th": ("PQ of things", 100),
    "PQ_st": ("PQ of stuff", 100),
    "mIoU": ("mIoU", 100),
    "aAcc": ("aAcc", 100),
    "mAcc": ("mAcc", 100),
}
# The metrics by which a run is judged: by the first of these that it has.
JUDGING_METRICS = ("segm_mAP", "bbox_mAP", "mIoU", "PQ")


def select_headline(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the headline metrics, from 0 to 1 each, as in `{"box AP": 0.668}`.

    Args:
        metrics: Metrics of a validation or a test, by key, such as `coco/bbox_mAP`.
    """
    by_name = {key.split("/")[-1]: value for key, value in reversed(metrics.items())}
    return {
        title: by_name[name] / divisor
        for name, (title, divisor) in HEADLINES.items()
        if name in by_name
    }


def describe_metrics(metrics: dict[str, Any], nothing_detected: bool | None = False) -> str:
    """Return the headline metrics as one line, such as `box AP 0.668  mask AP 0.651`.

    Args:
        metrics: Metrics of a validation or a test. Without a headline metric, all are in the line.
        nothing_detected: Whether to add that the detector found nothing at all.
    """
    shown = [f"{title} {value:.3f}" for title, value in select_headline(metrics).items()]
    shown = shown or [f"{key} {value}" for key, value in metrics.items()]
    if shown and nothing_detected:
        shown.append("(nothing was detected)")
    return "  ".join(shown)
