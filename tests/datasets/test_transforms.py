"""Loading images and label maps: right values, and errors that name file, fault and cure."""

import cv2
import numpy as np
import pytest
from PIL import Image

from hordet.datasets.transforms import LoadImageFromFile, LoadSegAnnotations
from hordet.errors import DatasetError
from hordet.registry import TRANSFORMS


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    cv2.imwrite(str(path), pixels)
    return path, pixels


def sample(tmp_path, values, **more):
    path = tmp_path / "labels.png"
    Image.fromarray(np.asarray(values)).save(path)
    return dict(seg_map_path=str(path), img_path="image.jpg", seg_fields=[], **more)


def test_a_image_is_loaded_through_the_registry(image):
    path, pixels = image
    load = TRANSFORMS.build(dict(type="hordet.LoadImageFromFile"))
    results = load(dict(img_path=str(path), height=6, width=8, instances=[]))
    np.testing.assert_array_equal(results["img"], pixels)
    assert results["ori_shape"] == results["img_shape"] == (6, 8)


def test_a_missing_image(tmp_path):
    with pytest.raises(DatasetError, match=r"Cannot read the image .*none\.png.*data_root"):
        LoadImageFromFile()(dict(img_path=str(tmp_path / "none.png")))


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n broken"])
def test_a_image_that_cannot_be_decoded(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"Cannot decode the image .*broken\.png.*fetch it"):
        LoadImageFromFile()(dict(img_path=str(path)))


def test_a_image_of_another_size_than_its_annotations(image):
    with pytest.raises(DatasetError, match="is 8x6, but its annotations were made for 6x8"):
        LoadImageFromFile()(dict(img_path=str(image[0]), height=8, width=6, instances=[]))


def test_unreadable_images_can_be_skipped_on_demand(tmp_path):
    load = LoadImageFromFile(ignore_empty=True)
    assert load(dict(img_path=str(tmp_path / "none.png"))) is None


def test_background_as_a_class(tmp_path):
    values = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
    load = TRANSFORMS.build(dict(type="hordet.LoadSegAnnotations", num_classes=3))
    results = load(sample(tmp_path, values, reduce_zero_label=False, label_map=None))
    np.testing.assert_array_equal(results["gt_seg_map"], values)
    assert results["gt_seg_map"].dtype == np.uint8
    assert results["seg_fields"] == ["gt_seg_map"]


def test_zero_as_other(tmp_path):
    results = sample(tmp_path, np.array([[0, 1, 150, 255]], np.uint8), reduce_zero_label=True)
    loaded = LoadSegAnnotations(num_classes=150)(results)
    np.testing.assert_array_equal(loaded["gt_seg_map"], [[255, 0, 149, 255]])


def test_a_subset_of_the_classes(tmp_path):
    results = sample(tmp_path, np.array([[0, 1, 2, 255]], np.uint8), label_map={0: 255, 1: 1, 2: 0})
    loaded = LoadSegAnnotations(num_classes=2)(results)
    np.testing.assert_array_equal(loaded["gt_seg_map"], [[255, 1, 0, 255]])


def test_a_palette_is_not_turned_into_colors(tmp_path):
    results = sample(tmp_path, np.zeros((2, 3), np.uint8))
    image = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(results["seg_map_path"])
    loaded = LoadSegAnnotations(num_classes=3)(results)
    np.testing.assert_array_equal(loaded["gt_seg_map"], [[0, 1, 2], [2, 1, 0]])


def test_values_beyond_the_classes_hint_at_reduce_zero_label(tmp_path):
    results = sample(tmp_path, np.array([[0, 3]], np.uint8), reduce_zero_label=False)
    words = r"labels\.png holds value 3, but with 3 classes.*0 to 2.*reduce_zero_label=True"
    with pytest.raises(DatasetError, match=words):
        LoadSegAnnotations(num_classes=3)(results)


@pytest.mark.parametrize("dtype, wrong", [(np.uint8, 200), (np.uint16, 257)])
def test_values_beyond_the_classes_whatever_their_type(tmp_path, dtype, wrong):
    results = sample(tmp_path, np.array([[1, wrong]], dtype), reduce_zero_label=True)
    words = f"value {wrong}, but with 3 classes and reduce_zero_label=True the values are 1 to 3"
    with pytest.raises(DatasetError, match=words):
        LoadSegAnnotations(num_classes=3)(results)


def test_a_map_of_another_size_than_its_image(tmp_path):
    results = sample(tmp_path, np.zeros((4, 6), np.uint8), ori_shape=(4, 5))
    with pytest.raises(DatasetError, match=r"labels\.png is 6x4, its image image\.jpg is 5x4"):
        LoadSegAnnotations(num_classes=3)(results)


def test_a_map_in_colors(tmp_path):
    results = sample(tmp_path, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DatasetError, match="3 channels.*export indices, not colors"):
        LoadSegAnnotations(num_classes=3)(results)


def test_a_missing_map(tmp_path):
    with pytest.raises(
        DatasetError, match=r"Cannot read the label map .*none\.png.*seg_map_suffix"
    ):
        LoadSegAnnotations(num_classes=3)(dict(seg_map_path=str(tmp_path / "none.png")))


def test_a_map_that_cannot_be_decoded(tmp_path):
    results = sample(tmp_path, np.zeros((40, 60), np.uint8))
    path = tmp_path / "labels.png"
    for content in (b"no image", path.read_bytes()[:50]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"The label map .*labels\.png cannot be decoded"):
            LoadSegAnnotations(num_classes=3)(results)


@pytest.mark.parametrize("number", [0, 256])
def test_a_number_of_classes_no_map_can_hold(number):
    with pytest.raises(ValueError, match=f"1 to 255, got {number}"):
        LoadSegAnnotations(num_classes=number)
