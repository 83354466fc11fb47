"""Prediction in bounded memory: sliding windows, test-time augmentation."""

from hordet.inference.detection_augmentation import DetTTAModel
from hordet.inference.segmentation_augmentation import SegTTAModel
from hordet.inference.segmentor import EncoderDecoder

__all__ = ["DetTTAModel", "EncoderDecoder", "SegTTAModel"]
