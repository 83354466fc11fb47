"""Prediction in bounded memory: sliding windows, patches, test-time augmentation."""

from hordet.inference.detection_augmentation import DetTTAModel
from hordet.inference.segmentation_augmentation import SegTTAModel
from hordet.inference.segmentor import EncoderDecoder
from hordet.inference.sliced_detector import SlicedDetector, slice_pictures

__all__ = ["DetTTAModel", "EncoderDecoder", "SegTTAModel", "SlicedDetector", "slice_pictures"]
