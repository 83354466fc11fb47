"""Data: what reads them, what checks them before a run, and the generated `shapes`.

The data sets themselves are mmdet's and mmseg's.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batch_sampler": ["PlacedBatchSampler"],
        "mixing": ["CopyPaste", "MixDataset", "Mosaic", "SegMosaic"],
        "tolerant": ["TolerantDataset"],
        "transforms": ["LoadImageFromFile", "LoadSegAnnotations"],
    },
)
