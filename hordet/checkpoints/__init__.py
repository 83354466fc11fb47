"""Loads checkpoints safely, fills models from them, renames their tensors, and writes them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backend": ["WHOLE_FILES"],
        "convert": [
            "SOURCES",
            "TARGETS",
            "Conversion",
            "convert_names",
            "halve_precision",
            "wrap_state_dict",
        ],
        "coverage": ["Coverage", "CoverageHook", "fill_model", "load_weights", "require_coverage"],
        "load": [
            "use_safe_loading",
            "load_and_hash",
            "load_checkpoint",
            "require_sha256",
            "compute_sha256",
            "split_sha256",
            "trust_pickle",
        ],
        "named": ["ensure_file", "find_fault"],
        "newest": ["find_newest_checkpoint", "require_resumable"],
        "places": ["find_here", "is_at_hand"],
        "save": ["check_destination", "save_checkpoint"],
        "weights": [
            "find_published",
            "find_weights",
            "is_named",
            "list_shipped",
            "suggest_name",
        ],
        "shards": ["gather_shards", "is_shard", "shard_like"],
    },
)
