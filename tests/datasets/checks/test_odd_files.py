"""Files that are there and no use: links to nothing, joined JSON, narrow images, empty lines."""

import json

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image

from hordet.datasets.checks.before_training import find_data_faults
from hordet.datasets.checks.inspection import inspect_data
from hordet.datasets.plain_copies import use_copies
from hordet.datasets.tolerant import TolerantDataset
from hordet.errors import DatasetError
from hordet.registry import DATASETS


@pytest.fixture
def objects(tmp_path, monkeypatch):
    """Two images with an object each, and a function that checks them."""
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    box = dict(category_id=1, bbox=[3, 4, 9, 8], area=72, iscrowd=0)
    content = dict(
        images=[dict(id=k, file_name=f"{n}.png", width=50, height=40) for k, n in enumerate("ab")],
        annotations=[dict(box, id=k, image_id=k) for k in range(2)],
        categories=[dict(id=1, name="bead")],
    )
    pipeline = [
        dict(type="hordet.LoadImageFromFile"),
        dict(type="mmdet.Resize", scale=(64, 64), keep_ratio=True),
    ]
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(tmp_path),
        ann_file="a.json",
        metainfo=dict(classes=("bead",)),
        pipeline=pipeline,
    )

    def check(text=None):
        (tmp_path / "a.json").write_text(json.dumps(content) if text is None else text)
        return find_data_faults(ConfigDict(train_dataloader=dict(dataset=dataset))).errors

    assert check() == []
    return content, check, tmp_path


def test_a_link_to_nothing_and_a_folder_are_no_images(objects):
    _, check, root = objects
    (root / "a.png").unlink()
    (root / "a.png").symlink_to("nowhere.png")
    (root / "b.png").unlink()
    (root / "b.png").mkdir()
    (error,) = check()
    assert "2 of 2 images of" in error and "are missing: " in error
    # A link to an image is one.
    (root / "c.png").symlink_to(root / "real.png")
    Image.new("RGB", (50, 40)).save(root / "real.png")
    (root / "a.png").unlink()
    (root / "a.png").symlink_to(root / "c.png")
    (error,) = check()
    assert "1 of 2 images of" in error


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_two_files_joined_by_hand(objects, key):
    content, check, _ = objects
    text = json.dumps(content)
    (error,) = check(f'{text[:-1]}, "{key}": []}}')
    assert f"has {key} twice, of which JSON readers keep the last alone. Join the lists" in error
    # The word elsewhere is no list.
    content["info"] = dict(images=5, annotations=5, categories=["images", "annotations"])
    assert check() == []


def test_a_number_of_5000_digits(objects):
    content, check, _ = objects
    (error,) = check(json.dumps(content)[:-1] + ', "n": ' + "9" * 5000 + "}")
    assert "holds a whole number of more than 4,300 digits" in error and "Take it out" in error


def test_images_of_which_a_resize_leaves_nothing(objects):
    content, check, root = objects
    Image.new("RGB", (2000, 3)).save(root / "a.png")
    content["images"][0].update(width=2000, height=3)
    content["annotations"][0].update(bbox=[0, 0, 9, 2])
    (error,) = check()
    assert "1 of 2 images" in error and "nothing is left of them at 64 x 64: a.png (2000 x 3)" in (
        error
    )
    content["images"][0].update(height=40)
    assert check() == []


def test_a_transform_that_opencv_refuses_is_a_skipped_image():
    import cv2

    class Narrow:
        def __getitem__(self, index):
            return cv2.resize(np.zeros((1, 2000, 3), np.uint8), (64, 0))

        def __len__(self):
            return 1

    with pytest.raises(DatasetError, match="a transform of the pipeline cannot use image 0"):
        TolerantDataset(Narrow(), max_skipped=0)._transform(0)


@pytest.mark.parametrize(
    "text",
    ["one\n\ntwo\n", "\ufeffone\ntwo", "  one  \r\n\r\ntwo\n\n", "one\ntwo\n   \n"],
)
def test_lists_of_images_with_empty_lines_and_marks(tmp_path, monkeypatch, text):
    """mmseg takes an empty line for an image without a name."""
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(("one", "two", "three")):
            values = np.full((32, 32), number, np.uint8) if folder == "maps" else None
            pixels = np.full((32, 32, 3), 20 * number, np.uint8)
            Image.fromarray(pixels if values is None else values % 2).save(
                tmp_path / folder / f"{name}.png"
            )
    (tmp_path / "list.txt").write_bytes(text.encode())
    dataset = dict(
        type="mmseg.BaseSegDataset",
        data_root=str(tmp_path),
        ann_file="list.txt",
        img_suffix=".png",
        seg_map_suffix=".png",
        data_prefix=dict(img_path="images", seg_map_path="maps"),
        metainfo=dict(classes=("a", "b")),
        pipeline=[dict(type="hordet.LoadImageFromFile")],
    )
    cfg = ConfigDict(train_dataloader=dict(dataset=dataset))
    found = find_data_faults(cfg)
    assert found.errors == [] and inspect_data(cfg).images == 2
    use_copies(cfg, found.copies)
    init_default_scope("mmseg")
    built = DATASETS.build(cfg.train_dataloader.dataset)
    assert [built[k]["ori_shape"] for k in range(len(built))] == [(32, 32)] * 2


def test_a_plain_list_is_read_as_it_is(tmp_path):
    (tmp_path / "one.png").touch()
    (tmp_path / "list.txt").write_text("one\n")
    dataset = dict(
        type="mmseg.BaseSegDataset",
        data_root=str(tmp_path),
        ann_file="list.txt",
        img_suffix=".png",
        seg_map_suffix=".png",
        metainfo=dict(classes=("a", "b")),
        pipeline=[],
    )
    found = find_data_faults(ConfigDict(train_dataloader=dict(dataset=dataset)))
    assert (found.errors, found.copies) == ([], {})


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_cut_image_of_validation_is_found_before_the_training(objects, form):
    content, _, root = objects
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "a.png", form)
    whole = (root / "a.png").read_bytes()
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(root),
        ann_file="a.json",
        metainfo=dict(classes=("bead",)),
        pipeline=[],
        test_mode=True,
    )
    cfg = ConfigDict(val_dataloader=dict(dataset=dataset))
    for content, errors in ((whole, 0), (whole + bytes(200), 0), (whole[:-300], 1), (b"", 1)):
        (root / "a.png").write_bytes(content)
        found = find_data_faults(cfg).errors
        assert len(found) == errors, (len(content), found)
        if errors:
            assert "1 of 2 images of validation or test" in found[0] and "a.png (is " in found[0]


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png", "n" * 300 + ".png", "a.png/", ""])
def test_names_that_no_file_can_have(objects, name):
    content, check, root = objects
    content["images"][0]["file_name"] = name
    (error,) = check()
    assert "1 of 2 images" in error
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(root),
        ann_file="a.json",
        metainfo=dict(classes=("bead",)),
        pipeline=[],
    )
    found = inspect_data(ConfigDict(train_dataloader=dict(dataset=dataset))).findings
    assert found.errors == [error]
