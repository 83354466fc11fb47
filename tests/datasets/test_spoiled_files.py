"""Whatever bytes an image or a label map has, it is read or refused in words."""

import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from drawn_sets import FORMS, LABELS
from PIL import Image

from hordet.datasets.images import decode_image
from hordet.datasets.label_maps import decode_label_map
from hordet.errors import DatasetError

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
RAW = ("Error(", "Traceback", "object at 0x")


def make_png(width, height, depth, color, data=b""):
    """A PNG whose header says what it likes."""

    def chunk(name, content):
        checked = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checked)

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


ODD = {
    "a PNG of 2^60 pixels": make_png(2**30, 2**30, 8, 2),
    "a PNG of 3.6 billion pixels": make_png(60000, 60000, 8, 0, bytes(100)),
    "a PNG of no width": make_png(0, 5, 8, 2),
    "a GIF without an image": b"GIF89a" + bytes(20),
    "a BMP of zeros": b"BM" + bytes(60),
    "a TIFF whose directory is itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "an empty JPEG": b"\xff\xd8\xff\xd9",
    "a PPM that promises more": b"P6 99999 99999 255\n",
    "a WebP of zeros": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(8),
    "an array of numpy": b"\x93NUMPY" + bytes(100),
    "a phone's HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": b"%PDF-1.4",
    "one byte": b"\xff",
    "words": "漢字".encode(),
}


def save(saver, path, *arguments):
    saver(path, *arguments)
    return path.read_bytes()


def spoil(rng, content):
    """Change, insert or remove a few bytes, at times in the header."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        start = rng.randrange(len(content) if rng.random() < 0.6 else min(len(content), 120))
        what = rng.randrange(4)
        if what == 0:
            content[start] = rng.randrange(256)
        elif what == 1:
            number = rng.choice([0, 1, 2**31, 2**32 - 1, 65535, 10**6])
            packed = struct.pack(rng.choice("<>") + "I", number)
            content[start : start + 4] = packed[: len(content) - start]
        elif what == 2:
            del content[start : start + rng.choice([1, 4, 50])]
        else:
            content[start:start] = bytes(rng.choice([1, 4, 50]))
        content = content or bytearray(b"x")
    return bytes(content)


def read(function, content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(content)
        except DatasetError as error:
            assert str(error) and not any(word in str(error) for word in RAW), error
            return None


@pytest.mark.parametrize("name", ODD)
def test_files_that_are_none(tmp_path, name):
    assert read(decode_image, ODD[name]) is None
    assert read(lambda content: decode_label_map(content, tmp_path / "m.png"), ODD[name]) is None


@pytest.mark.parametrize("times", [4, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
def test_spoiled_images(tmp_path, form, times):
    images = Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0])
    content = save(FORMS[form], tmp_path / "x", *images)
    rng = random.Random(form)
    for _ in range(times):
        found = read(decode_image, spoil(rng, content))
        if found is not None:
            assert found[0].dtype == np.uint8 and found[0].shape[2] == 3


@pytest.mark.parametrize("times", [4, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", [name for name in LABELS if name not in ("missing", "empty")])
def test_spoiled_label_maps(tmp_path, form, times):
    path = tmp_path / "m.png"
    LABELS[form](PIXELS[..., 0] % 2, path, random.Random(0))
    content, rng = path.read_bytes(), random.Random(form)
    for _ in range(times):
        found = read(lambda spoiled: decode_label_map(spoiled, path), spoil(rng, content))
        if found is not None:
            assert found.dtype == np.int64 and 0 <= found.min() and found.max() <= 65535
