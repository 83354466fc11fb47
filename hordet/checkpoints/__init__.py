"""Opening checkpoints safely, filling models from them, renaming and writing them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backend": ["WHOLE_FILES"],
        "convert": ["SOURCES", "TARGETS", "Conversion", "convert", "wrapped"],
        "coverage": ["Coverage", "CoverageHook", "fill", "load_weights", "require"],
        "load": [
            "install",
            "load_checkpoint",
            "require_sha256",
            "sha256_of",
            "split_sha256",
            "trust_pickle",
        ],
        "newest": ["newest_checkpoint", "require_resumable"],
        "save": ["check_destination", "save_checkpoint"],
        "shards": ["gathered", "sharded_like"],
    },
)
