"""Warnings of the libraries that nobody here can act on; light, for it comes before them."""

import logging
import re
import warnings

# Beginnings of warnings (regular expressions) that mm* give about their own code.
_HARMLESS = (
    r'"FileClient" will be deprecated',  # mmengine's CheckpointHook uses it by itself
    r'"HardDiskBackend" is the alias',  # likewise
    r"The prefix is not set in metric class",  # mmseg's IoUMetric; keys need none with one metric
    r"``build_loss`` would be deprecated",  # mmseg's heads call it
    r"Default ``avg_non_ignore`` is False",  # the published recipes keep that default
    r"The shape of value will convert",  # mmseg's heads, under test-time augmentation
    r"`broadcast_buffers` is deprecated",  # mmengine's parallel wrapper hands it to torch
    r"Grad strides do not match bucket view",  # depthwise kernels; costs a copy, changes nothing
    r"Setting (OMP|MKL)_NUM_THREADS",  # mmengine says what it did
    r"DeprecationWarning: `num_anchors` is",  # mmdet's ATSSHead asks mmdet's AnchorHead for it
    r"To copy construct from a tensor",  # mmdet's FCNMaskHead, under test
    r"torch.meshgrid: in an upcoming release",  # mmdet's point generator
    r"The draw is False, it means",  # mmseg's hook, which draws nothing by default
)


def silence_warnings() -> None:
    """Silence warnings of the libraries that are harmless and that nobody here can act on."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message)


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether a log record is none of these; a filter of a logger."""
    return not any(re.match(message, record.getMessage()) for message in _HARMLESS)
