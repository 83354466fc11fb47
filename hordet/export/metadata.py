"""What a file says of its model, so that it can be used without the config."""

from typing import Any

from hordet import __version__
from hordet.datasets.classes import read_metainfo
from hordet.datasets.roots import walk_datasets
from hordet.export.exported_file import FORMAT
from hordet.export.model_graph import ModelGraph
from hordet.visualization.panels import read_palette

_PREPROCESSING = {
    "mean",
    "std",
    "bgr_to_rgb",
    "rgb_to_bgr",
    "pad_size_divisor",
    "pad_value",
    "pad_val",
    "test_cfg",
}


def make_metadata(graph: ModelGraph, cfg: Any) -> dict[str, Any]:
    """Return what is written into a file.

    Args:
        graph: From `hordet.export.graphs.build_graph`.
        cfg: The config of its model.

    Returns:
        Of the metadata and of hordet 'format' and 'version'; 'kind', 'num_classes', 'classes' and
        'palette'; 'preprocessing', the settings of the data preprocessor; 'size_rule', see
        `describe_size_rule`; 'prediction', of a detector with 'mask_threshold', of a segmentor with
        'mode' ('whole' or 'slide'), 'crop_size' and 'stride' (height, width), 'align_corners' and,
        for one class, 'threshold'.
    """
    model = graph.model
    head = model.roi_head.bbox_head if graph.kind == "detections" else model
    data = _describe_data(model, cfg)
    preprocessing = cfg.model.get("data_preprocessor") or {}
    return {
        "format": FORMAT,
        "version": __version__,
        "kind": graph.kind,
        "num_classes": getattr(head, "num_classes", None),
        "classes": list(data.get("classes", ())),
        "palette": read_palette(data),
        "preprocessing": {k: v for k, v in preprocessing.items() if k in _PREPROCESSING},
        "size_rule": describe_size_rule(cfg),
        "prediction": _describe_prediction(graph),
    }


def describe_size_rule(cfg: Any) -> dict[str, Any] | None:
    """Return how a config's test pipeline resizes an image before the network.

    Returns:
        'scale' (width, height) and 'keep_ratio', as mmcv's Resize takes them; {} if images keep
        their size; None if the pipeline does something else, or there is none.
    """
    loader = cfg.get("test_dataloader")
    if not loader:
        return None
    rule: dict[str, Any] = {}
    for transform in next(walk_datasets(loader.dataset)).get("pipeline") or ():
        kind = transform["type"]
        name = (kind if isinstance(kind, str) else kind.__name__).split(".")[-1]
        if name == "Resize" and transform.get("scale") and not rule:
            scale = transform["scale"]
            scale = [scale, scale] if isinstance(scale, int) else list(scale)
            rule = {"scale": scale, "keep_ratio": transform.get("keep_ratio", False)}
        elif not name.startswith(("Load", "Pack")) or transform.get("to_float32"):
            return None
    return rule


def _describe_data(model: Any, cfg: Any) -> dict[str, Any]:
    """Return the classes and the palette that a model was trained with, or else is tested with."""
    known = getattr(model, "dataset_meta", None) or {}
    loader = cfg.get("test_dataloader")
    if known.get("classes") or not loader:
        return known
    return read_metainfo(next(walk_datasets(loader.dataset)), cfg.get("default_scope"))


def _describe_prediction(graph: ModelGraph) -> dict[str, Any]:
    model = graph.model
    if graph.kind == "detections":
        return {"mask_threshold": model.roi_head.test_cfg.get("mask_thr_binary", 0.5)}
    if graph.kind != "segmentation":
        return {}
    found = {
        "mode": model.test_cfg.get("mode", "whole"),
        "crop_size": model.test_cfg.get("crop_size"),
        "stride": model.test_cfg.get("stride"),
        "align_corners": model.align_corners,
        "threshold": model.decode_head.threshold if model.out_channels == 1 else None,
    }
    return {key: value for key, value in found.items() if value is not None}
