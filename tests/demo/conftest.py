"""What tests of the page's parts share."""

import struct
import zlib

import pytest

from hordet.demo.answers import Answers, Limits
from hordet.inference import Predictor


@pytest.fixture
def write_two_headed_tiff():
    """Return a function that writes a TIFF of two sizes."""
    return _write_two_headed_tiff


def _write_two_headed_tiff(path, stated=100, side=12_000):
    """A TIFF whose sizes stand twice: Pillow takes the last, OpenCV the first."""
    pixels = zlib.compress(bytes(side * side), 9)
    sizes = [(tag, 4, 1, value) for tag in (256, 257) for value in (side, stated)]
    rest = [(258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, side)]
    tags = [*sizes, *((tag, kind, 1, value) for tag, kind, value in rest)]
    tags.append((279, 4, 1, len(pixels)))
    content = struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels
    content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
    path.write_bytes(content + bytes(4))


@pytest.fixture(scope="module")
def predictors(detector, segmentor):
    models = dict(objects=detector, map=segmentor)
    return {name: Predictor.from_config(m.config, m.checkpoint) for name, m in models.items()}


@pytest.fixture
def answers(predictors, tmp_path):
    return Answers(predictors, tmp_path, Limits(megapixels=1))


@pytest.fixture
def photo(answers, detector):
    return answers.open(sorted(detector.images.iterdir())[0])
