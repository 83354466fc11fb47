"""One conversion of images by every road, and files named as what they are."""

import io
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from hordet.datasets import transforms
from hordet.datasets.images import convert_array, convert_image, decode_image
from hordet.datasets.transforms import LoadImageFromFile
from hordet.errors import DatasetError, DatasetWarning


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(dtype=np.uint8, top=255):
    return np.linspace(0, top, 24 * 30).reshape(24, 30).astype(dtype)


def roads(image, kind, **options):
    """Pixels by the file, the image of Pillow, and the array, with the notes of the file."""
    pixels, notes = decode_image(encode(image, kind, **options))
    by_pillow, _ = convert_image(image)
    values = np.asarray(image.convert("RGB") if image.mode in ("P", "CMYK", "1") else image)
    by_array, _ = convert_array(values if values.ndim == 2 else values[..., [2, 1, 0]])
    np.testing.assert_array_equal(pixels, by_pillow)
    np.testing.assert_array_equal(pixels, by_array)
    assert pixels.dtype == np.uint8 and pixels.shape == (24, 30, 3)
    return pixels, notes


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits(kind):
    gray = gradient()
    full = gray.astype(np.uint16) * 257
    pixels, notes = roads(Image.fromarray(full), kind)
    np.testing.assert_array_equal(pixels[..., 0], gray)
    assert not notes
    pixels, notes = roads(Image.fromarray(gray.astype(np.uint16) * 16), kind)  # 12 bits used
    assert pixels.max() == 15
    assert notes[0].startswith("are nearly black") and "of which it uses 12" in notes[0]


def test_sixteen_bits_in_three_channels():
    values = np.dstack([gradient(np.uint16, 65535)] * 3)
    content = cv2.imencode(".png", values)[1].tobytes()
    np.testing.assert_array_equal(decode_image(content)[0], values >> 8)
    dark = cv2.imencode(".png", values >> 4)[1].tobytes()
    assert "nearly black" in decode_image(dark)[1][0]


def test_floats_of_0_to_1():
    pixels, notes = roads(Image.fromarray(gradient(np.float32, 1)), "TIFF")
    assert pixels.max() == 255 and pixels.min() == 0 and len(notes) == 1
    assert "float values of 0 to 1, which are taken times 255" in notes[0]


@pytest.mark.parametrize(
    "values, words",
    [
        (gradient(np.float32, 255), "has float values of 0 to 255"),
        (np.full((4, 4), np.nan, np.float32), "has float values of nan"),
        (gradient(np.int32, 100_000), "has whole numbers of 0 to 100000"),
        (gradient(np.int32, -5), "has whole numbers of -5 to 0"),
    ],
)
def test_values_of_no_image_are_named(values, words, tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DatasetError, match=f"a.tif: it {words}.*8 or 16 bits"):
        LoadImageFromFile()(dict(img_path=str(path)))


def test_palette_alpha_cmyk_and_black_and_white():
    rgb = Image.fromarray(np.dstack([gradient(), gradient()[::-1], gradient()[:, ::-1]]))
    for mode in ("P", "1", "L", "RGBA", "LA"):
        image = rgb.convert(mode)
        pixels, _ = decode_image(encode(image, "PNG"))
        np.testing.assert_array_equal(pixels, convert_image(image)[0], err_msg=mode)
        np.testing.assert_array_equal(
            pixels[..., ::-1], np.asarray(image.convert("RGB")), err_msg=mode
        )
    for kind in ("TIFF", "JPEG"):
        content = encode(rgb.convert("CMYK"), kind)
        opened = Image.open(io.BytesIO(content))
        np.testing.assert_array_equal(decode_image(content)[0], convert_image(opened)[0])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_photos_are_turned(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(Image.fromarray(np.dstack([gradient()] * 3)), kind, exif=exif)
    assert decode_image(content)[0].shape == (30, 24, 3)
    opened = Image.open(io.BytesIO(content))
    assert np.abs(convert_image(opened)[0].astype(int) - decode_image(content)[0]).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_is_read_and_others_are_said(kind):
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 20))
    options = dict(lossless=True) if kind == "WEBP" else {}
    content = encode(first, kind, save_all=True, append_images=[second], **options)
    pixels, notes = decode_image(content)
    assert (pixels == 200).all()
    # The second frame of a phone's photo is its preview.
    several = "hold several frames, of which the first is read"
    assert notes == ([] if kind == "MPO" else [several])
    assert not decode_image(encode(first, "JPEG" if kind == "MPO" else kind, **options))[1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_what_is_cut_short_is_refused(kind):
    rng = np.random.default_rng(0)
    content = encode(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    decode_image(content)
    with pytest.raises(DatasetError, match="cut short"):
        decode_image(content[: len(content) // 2])


@pytest.mark.parametrize("content, words", [(b"", "is empty"), (b"<html>", "is not an image")])
def test_what_is_no_image(content, words):
    with pytest.raises(DatasetError, match=words):
        decode_image(content)


def test_a_warning_is_given_once_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(transforms, "_SAID", set())
    for name in ("a.png", "b.png"):
        Image.fromarray(gradient(np.uint16, 4095)).save(tmp_path / name)
    with pytest.warns(DatasetWarning, match="a.png are nearly black") as said:
        for name in ("a.png", "b.png"):
            LoadImageFromFile()(dict(img_path=str(tmp_path / name)))
    assert len(said) == 1


arrays = st.tuples(
    st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64, np.bool_]),
    st.sampled_from([(1, 1), (5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (5, 7, 2), (5,), (0, 4)]),
    st.sampled_from([0, 1, 2, 255, 256, 65535, 70000, -1, float("nan"), float("inf")]),
    st.integers(0, 9),
)


@seed(16)
@settings(max_examples=150, deadline=None, database=None)
@given(arrays)
def test_any_array_is_converted_or_refused(drawn):
    dtype, shape, top, number = drawn
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = (np.random.default_rng(number).random(shape) * top).astype(dtype)
    try:
        pixels, _ = convert_array(values)
    except DatasetError as error:
        assert "allowed" in str(error)
        return
    assert pixels.shape == (*shape[:2], 3) and pixels.dtype == np.uint8
    # Brighter stays brighter.
    flat, seen = values.reshape(*shape[:2], -1)[..., 0].ravel(), pixels[..., 0].ravel()
    assert (np.diff(seen[np.argsort(flat, kind="stable")].astype(int)) >= 0).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_ycbcr_that_is_not_compressed(orientation):
    colors = np.zeros((40, 64, 3), np.uint8)
    colors[:20, :32], colors[20:, 32:] = (200, 30, 40), (10, 220, 90)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(colors).convert("YCbCr").save(buffer, "TIFF", exif=exif)
    pixels, notes = decode_image(buffer.getvalue())
    expected = colors if orientation == 1 else np.rot90(colors, -1)
    assert np.abs(pixels[..., ::-1].astype(int) - expected).max() <= 2 and not notes
    with pytest.raises(DatasetError, match="cut short"):
        decode_image(buffer.getvalue()[:4000])
