"""What a data set's config says of it before it is built: its class, and the classes it knows."""

import inspect
from typing import Any

from hordet.registry import DATASETS


def resolve_dataset_class(dataset: dict, default_scope: str | None) -> Any:
    """Return the class of a data set's config, None if no registry knows it.

    Args:
        dataset: The config, with its `type`.
        default_scope: Where a type without a scope stands, such as 'mmdet'.
    """
    kind = dataset["type"]
    if isinstance(kind, str):
        return DATASETS.get(kind if "." in kind or not default_scope else f"{default_scope}.{kind}")
    return kind


def read_metainfo(dataset: dict, default_scope: str | None) -> dict[str, Any]:
    """Return what is known of a data set without its files: of its class, and above it its config.

    Returns:
        Among others `classes`, a tuple of names, which is left out if none are named.
    """
    kind = resolve_dataset_class(dataset, default_scope)
    known = {**getattr(kind, "METAINFO", {}), **(dataset.get("metainfo") or {})}
    classes = known.pop("classes", None)
    if not classes:
        return known
    return {**known, "classes": (classes,) if isinstance(classes, str) else tuple(classes)}


def reduces_zero_label(dataset: dict, default_scope: str | None) -> bool:
    """Tell whether label 0 of a data set's label files is no class, as by default in ADE20K's."""
    kind = resolve_dataset_class(dataset, default_scope)
    default = inspect.signature(kind).parameters.get("reduce_zero_label")
    return bool(dataset.get("reduce_zero_label", default is not None and default.default is True))
