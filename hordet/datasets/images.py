"""The one reader of images: of training, the checks, inference by path, Pillow image or array.

Every road ends in blue, green, red of 8 bits. JPEG, PNG, WebP and BMP of 8 bits are decoded by
OpenCV, as mmcv does; whatever has more bits, CMYK or a palette of frames by Pillow, and what that
does not know by OpenCV again. Sixteen bits lose the lower eight, so that images of one camera keep
one brightness; values of 0 to 1 are taken times 255.
"""

import os
import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import COMPRESSION, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from hordet.errors import DatasetError

# Brightest value of 255: less is what 12 bits of a camera leave when 16 are expected.
NEARLY_BLACK = 32
ALLOWED = "8 or 16 bits (uint8, uint16), or float of 0 to 1"
_OPENCV_FORMATS = {"JPEG", "PNG", "WEBP", "BMP"}
_OPENCV_MODES = {"1", "L", "P", "LA", "RGB", "RGBA"}
# How files of these formats begin and end; some cameras add bytes behind the end.
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))
_TAIL = 4096
_TRUNCATED = "is cut short or damaged"


def decode_image(content: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode an image file, turned as its EXIF data say; the first frame of several.

    Args:
        content: Of the file.

    Returns:
        Blue, green, red (H, W, 3), and notes on what a person may not expect, such as "are
        nearly black ..."; the subject is the image.

    Raises:
        DatasetError: It is no whole image, or has values that are none of an image. The message
            begins with a verb: its subject is the file.
    """
    if not content:
        raise DatasetError("is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decompression bombs, of odd EXIF data
        try:
            header = Image.open(BytesIO(content))
        except Exception:  # Pillow's formats share no type of error; OpenCV knows others
            return _decode_by_opencv(content)
        pixels, notes = _decode(header, content)
        # A photo of some phones (MPO) has a second frame for its preview.
        if header.format != "MPO" and getattr(header, "is_animated", False):
            notes.append("hold several frames, of which the first is read")
        return pixels, notes


def _decode(header: Image.Image, content: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode an image that Pillow has opened; see `decode_image`."""
    deep = header.format == "PNG" and content[24:25] == b"\x10"  # 16 bits a channel
    # OpenCV 4.11 does not turn a WebP; 5.0 does.
    turned = header.format == "WEBP" and header.getexif().get(ExifTags.Base.Orientation, 1) != 1
    by_opencv = header.format in _OPENCV_FORMATS and header.mode in _OPENCV_MODES
    if by_opencv and not deep and not turned:
        pixels = _imdecode(content, cv2.IMREAD_COLOR)
        if pixels is None:
            raise DatasetError(_TRUNCATED)
        return pixels, []
    if _is_plain_ycbcr(header):
        return _decode_by_opencv(content)
    try:
        pixels, notes = convert_image(header)
        if deep and not notes:  # in three channels, of which Pillow takes the upper bits
            notes = _note_darkness(pixels, "16 bits")
        return pixels, notes
    except DatasetError:
        raise
    except Exception as error:  # as above
        raise DatasetError(f"{_TRUNCATED} ({str(error).strip() or error!r})") from error


def _is_plain_ycbcr(header: Image.Image) -> bool:
    """Tell whether an image is a TIFF of YCbCr that is not compressed, which Pillow reads wrongly.

    It takes such rows for ones of four bytes a pixel, and a whole file for one cut short.
    """
    if not isinstance(header, TiffImageFile):
        return False
    tags = header.tag_v2
    return tags.get(PHOTOMETRIC_INTERPRETATION) == 6 and tags.get(COMPRESSION, 1) == 1


def find_cut_files(paths: Iterable[str | Path]) -> list[tuple[str, str]]:
    """Find image files that are cut short, by their ends; only what looks so is decoded.

    Args:
        paths: Files that are there.

    Returns:
        The path of each, and what is wrong with it.
    """
    found = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                begin = file.read(8)
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                end = file.read(_TAIL)
            if any(begin.startswith(first) and last in end for first, last in _ENDS):
                continue
            if begin and not any(begin.startswith(first) for first, _ in _ENDS):
                continue  # of a format without such an end
            decode_image(Path(path).read_bytes())
        except (DatasetError, OSError) as error:
            found.append((str(path), str(error)))
    return found


def convert_image(image: Image.Image) -> tuple[NDArray[np.uint8], list[str]]:
    """Convert an image of Pillow, as `decode_image` does a file.

    Raises:
        DatasetError: Its values are none of an image; the message begins with a verb.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return convert_array(np.asarray(image))
    if image.mode in ("PA", "P", "La", "RGBa", "LA"):
        image = image.convert("RGBA")
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1]), []


def convert_array(values: NDArray) -> tuple[NDArray[np.uint8], list[str]]:
    """Convert an array to 8 bits and three channels.

    Args:
        values: Gray (H, W) or (H, W, 1), or blue, green, red and perhaps alpha (H, W, 3 or 4).

    Raises:
        DatasetError: It has another form, or values that are none of an image.
    """
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or not values.size:
        raise DatasetError(
            f"is {values.shape} of {values.dtype}; allowed is (H, W) or (H, W, 3) of {ALLOWED}"
        )
    notes = []
    kind = values.dtype
    values = values[..., :3]
    if kind == np.bool_:
        pixels = values.astype(np.uint8) * np.uint8(255)
    elif kind == np.uint8:
        pixels = values
    elif kind.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise DatasetError(
                f"has whole numbers of {low} to {high} ({kind}); allowed are {ALLOWED}. "
                "Scale it to 16 bits"
            )
        pixels = (values >> 8).astype(np.uint8)
        notes += _note_darkness(pixels, f"16 bits, of which it uses {high.bit_length()}")
    elif kind.kind == "f":
        least, most = float(values.min()), float(values.max())
        if not (0 <= least and most <= 1):  # NaN is neither
            raise DatasetError(
                f"has float values of {least:g} to {most:g} ({kind}); allowed are {ALLOWED}. "
                "Scale it so that black is 0 and white is 1, or save it with 8 bits"
            )
        pixels = np.rint(values * 255).astype(np.uint8)
        notes.append("have float values of 0 to 1, which are taken times 255")
        notes += _note_darkness(pixels, f"float values up to {most:g}")
    else:
        raise DatasetError(f"has values of {kind}; allowed are {ALLOWED}")
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels), notes


def _note_darkness(pixels: NDArray[np.uint8], reason: str) -> list[str]:
    if pixels.max() >= NEARLY_BLACK:
        return []
    return [
        f"are nearly black as they are read ({reason}, up to {pixels.max()} of 255 are left); "
        "scale the values to the full range before"
    ]


def _decode_by_opencv(content: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode what Pillow does not know, or takes for too large."""
    values = _imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise DatasetError("is not an image, or is cut short")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(_imdecode(content, cv2.IMREAD_COLOR)), []
    return convert_array(values)


def _imdecode(content: bytes, flag: int) -> NDArray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:  # such as more pixels than OpenCV takes
        raise DatasetError(f"cannot be decoded by OpenCV: {error.err or error}") from error
