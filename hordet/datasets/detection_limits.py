"""How many detections of an image a model gives and a metric scores, beside how many there are."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from hordet.datasets.roots import EVALUATORS, list_metrics

_KEYS = ("max_per_img", "max_per_image")
# mmdet's numbers of detections at which CocoMetric measures.
SCORED = (100, 300, 1000)


def set_detection_limit(cfg: dict[str, Any], number: int) -> bool:
    """Let a detector give this many detections of an image, and metrics score as many.

    Args:
        cfg: A config, changed in place.
        number: Detections of an image; proposals of a two-stage detector become at least as many.

    Returns:
        Whether the config has such a limit.
    """
    parts = list(_walk_limits(cfg.get("model")))
    for part, key, _ in parts:
        part[key] = number
    proposals = (_unwrap(cfg.get("model")).get("test_cfg") or {}).get("rpn")
    if parts and isinstance(proposals, dict):
        for key in ("nms_pre", *_KEYS):
            if key in proposals:
                proposals[key] = max(proposals[key], number)
    for name in EVALUATORS:
        for metric in list_metrics(cfg.get(name)):
            if parts and str(metric.get("type")).endswith("CocoMetric"):
                scored = metric.get("proposal_nums") or SCORED
                if number > max(scored):
                    metric["proposal_nums"] = (*scored[:2], number)
    return bool(parts)


def find_detection_limit(model: dict[str, Any] | None) -> tuple[str, int] | None:
    """Return the key of a config, and the number of detections of an image that it allows.

    Args:
        model: Config of a model.
    """
    found = [(name, part[key]) for part, key, name in _walk_limits(model)]
    return min(found, key=lambda item: item[1], default=None)


def _unwrap(model: Any) -> dict[str, Any]:
    """Return the detector within a wrapper, such as of test-time augmentation."""
    while isinstance(model, dict) and isinstance(model.get("module"), dict):
        model = model["module"]
    return model if isinstance(model, dict) else {}


def _walk_limits(model: Any) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield the dict, the key and the full key of each limit on the detections of an image."""
    test = _unwrap(model).get("test_cfg")
    if not isinstance(test, dict):
        return
    stages = test.get("rcnn")
    parts = [("model.test_cfg", test), ("model.test_cfg.rcnn", stages)]
    for name, part in parts:
        for key in _KEYS:
            if isinstance(part, dict) and isinstance(part.get(key), int):
                yield part, key, f"{name}.{key}"


def explain_limit(
    path: Path,
    annotations: Sequence[dict[str, Any]],
    labels: Collection[Any],
    limit: tuple[str, int],
) -> str:
    """Say where images have more objects than a model gives detections; nothing if none has.

    Args:
        path: The annotation file.
        annotations: Its objects.
        labels: Ids of the categories that are classes.
        limit: From `find_detection_limit`.
    """
    name, number = limit
    counts = Counter(
        a["image_id"] for a in annotations if a["category_id"] in labels and not a.get("iscrowd")
    )
    beyond = sum(count > number for count in counts.values())
    if not beyond:
        return ""
    most = max(counts.values())
    return (
        f"{beyond} of {len(counts)} annotated images of {path} have more objects (up to {most}) "
        f"than the {number} detections that the model gives of an image ({name}), so average "
        f"precision cannot reach 1. Let it give more: --max-dets {-(-most * 6 // 500) * 100}."
    )
