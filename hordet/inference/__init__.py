"""From images to predictions, in bounded memory: the predictor, sliding windows, tiles, views.

`predictor` is the way in, for Python and for `hordet infer` alike.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "detection_augmentation": ["DetTTAModel"],
        "predictor": ["Predictor"],
        "segmentation_augmentation": ["SegTTAModel"],
        "segmentor": ["EncoderDecoder"],
        "sliced_detector": ["SlicedDetector"],
    },
)
