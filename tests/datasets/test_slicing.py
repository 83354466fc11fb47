"""Patches of a COCO data set hold what their part of the large image holds."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import run_words
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from hordet.datasets.slicing import slice_coco
from hordet.datasets.tiles import Tiles
from hordet.errors import DatasetError
from hordet.registry import DATASETS

SIZES = {"a.png": (67, 103), "deep/b.jpg": (30, 41)}


def ellipse(size, x, y, width, height):
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1
    return coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))


@pytest.fixture
def data(tmp_path):
    """Two images; polygons, run lengths of both kinds, a crowd, and objects of all sizes."""
    draw = np.random.default_rng(2)
    root = tmp_path / "large"
    images, annotations = [], []
    for number, (name, size) in enumerate(SIZES.items(), 5):
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw.integers(0, 256, (*size, 3), dtype=np.uint8))
        images.append(dict(id=number, file_name=name, height=size[0], width=size[1]))
        for index in range(24):
            x, y = draw.integers(0, size[1] - 9), draw.integers(0, size[0] - 9)
            w, h = draw.integers(4, size[1] - x), draw.integers(4, size[0] - y)
            w, h = (min(w, 12), min(h, 9)) if index % 2 else (w, h)
            box = [int(x) + 0.25, int(y) + 0.5, int(w) - 0.5, int(h) - 0.75]
            left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
            triangle = [left, bottom, (left + right) / 2, top, right, bottom]
            item = dict(segmentation=[triangle], bbox=box, area=box[2] * box[3] / 2, iscrowd=0)
            if index % 3 == 2:
                encoded = ellipse(size, x + w / 2, y + h / 2, w / 2, h / 2)
                item = dict(bbox=coco_mask.toBbox(encoded).tolist(), iscrowd=int(index == 5))
                item["area"] = int(coco_mask.area(encoded))
                item["segmentation"] = encoded | {"counts": encoded["counts"].decode()}
            item |= dict(id=len(annotations) + 1, image_id=number, category_id=3 + 4 * (index % 2))
            annotations.append(item)
    categories = [dict(id=3, name="even"), dict(id=7, name="odd")]
    (root / "annotations").mkdir()
    content = dict(info=dict(year=1), images=images, annotations=annotations, categories=categories)
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    return root


def cut(data, out, size=32, ratio=0.25, share=0.1):
    return slice_coco(
        data / "annotations" / "train.json", data / "train", out, Tiles(size, ratio), share
    )


def loaded(root):
    """Every sample of a data set as mmdet loads it, by file name."""
    init_default_scope("mmdet")
    dataset = DATASETS.build(
        dict(
            type="mmdet.CocoDataset",
            data_root=str(root),
            ann_file="annotations/train.json",
            data_prefix=dict(img="train/"),
            metainfo=dict(classes=("even", "odd")),
            pipeline=[
                dict(type="hordet.LoadImageFromFile"),
                dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
            ],
        )
    )
    samples = [dataset[index] for index in range(len(dataset))]
    return {sample["img_path"].partition("train/")[2]: sample for sample in samples}


@pytest.mark.parametrize(
    ("size", "ratio", "share"), [(32, 0.25, 0.1), ((20, 37), 0.5, 0.4), (33, 0, 0)]
)
def test_patches_hold_what_their_part_of_the_image_holds(data, tmp_path, size, ratio, share):
    """Pixels, masks, classes and crowds, against crops of what mmdet loads of the large ones."""
    count = cut(data, tmp_path / "out", size, ratio, share)
    large, small = loaded(data), loaded(tmp_path / "out")
    number = dict(whole=0, parts=0, dropped=0)
    for image_id, (name, shape) in enumerate(SIZES.items(), 5):
        whole = large[name]
        for left, top, right, bottom in Tiles(size, ratio).of(*shape):
            stem = name.rpartition(".")[0]
            patch = small.pop(f"{stem}_{image_id}_{left}_{top}_{right}_{bottom}.png")
            assert np.array_equal(patch["img"], whole["img"][top:bottom, left:right])
            expected = []
            for index, mask in enumerate(whole["gt_masks"].masks):
                box = whole["gt_bboxes"].tensor[index].numpy()
                crop = mask[top:bottom, left:right]
                moved = box - np.array([left, top, left, top], dtype=np.float32)
                inside = (moved >= 0).all() and box[2] <= right and box[3] <= bottom
                reaches = box[0] < right and box[1] < bottom and box[2] > left and box[3] > top
                if inside:
                    number["whole"] += 1
                elif not reaches:
                    continue
                elif not crop.any() or crop.sum() < share * mask.sum():
                    number["dropped"] += 1
                    continue
                else:
                    number["parts"] += 1
                    rows, columns = crop.nonzero()
                    moved = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                expected.append((index, crop, moved))
            assert len(patch["gt_masks"].masks) == len(expected)
            for got, (index, crop, moved) in enumerate(expected):
                assert np.array_equal(patch["gt_masks"].masks[got], crop)
                assert patch["gt_bboxes"].tensor[got].tolist() == pytest.approx(list(moved))
                for key in ("gt_bboxes_labels", "gt_ignore_flags"):
                    assert patch[key][got] == whole[key][index]
    assert not small
    assert {key: count[key] for key in number} == number and min(number.values()) > (share > 0) - 1
    assert count["images"] == 2 and count["patches"] == sum(
        len(Tiles(size, ratio).of(*shape)) for shape in SIZES.values()
    )


def test_areas_of_parts_are_theirs_and_whole_objects_keep_their_own(data, tmp_path):
    cut(data, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert content["info"] == dict(year=1) and len(content["categories"]) == 2
    assert [image["id"] for image in content["images"]] == list(
        range(1, len(content["images"]) + 1)
    )
    polygons = 0
    for item in content["annotations"]:
        if isinstance(item["segmentation"], list):
            polygons += 1
            assert item["area"] == pytest.approx(item["bbox"][2] * item["bbox"][3] / 2)
        else:
            assert item["area"] == coco_mask.area(item["segmentation"])
    assert 5 < polygons < len(content["annotations"]) - 5


def test_a_image_that_fits_one_patch_stays_as_it_is(data, tmp_path):
    count = cut(data, tmp_path / "out", 200)
    assert count["patches"] == 2 and count["parts"] == count["dropped"] == 0
    before, after = (
        json.loads((root / "annotations" / "train.json").read_text())["annotations"]
        for root in (data, tmp_path / "out")
    )
    for one, other in zip(before, after, strict=True):
        assert {**one, "image_id": one["image_id"] - 4} == other


def test_boxes_without_masks(data, tmp_path):
    path = data / "annotations" / "train.json"
    content = json.loads(path.read_text())
    for item in content["annotations"]:
        del item["segmentation"]
    content["annotations"] = [content["annotations"][0]]
    content["annotations"][0] |= dict(bbox=[20, 10, 30, 8], area=240)
    path.write_text(json.dumps(content))
    assert cut(data, tmp_path / "out", 40, 0, 0.2)["parts"] == 2
    made = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())["annotations"]
    assert [item["bbox"] for item in made] == [[20, 10, 20, 8], [0, 10, 10, 8]]
    assert [item["area"] for item in made] == [160, 80] and "segmentation" not in made[0]


def test_what_cannot_be_cut(data, tmp_path):
    with pytest.raises(ValueError, match="min_area_ratio is 2; it must be from 0 to 1"):
        cut(data, tmp_path / "out", share=2)
    other = tmp_path / "other.json"
    other.write_bytes((data / "annotations" / "train.json").read_bytes())
    with pytest.raises(DatasetError, match="large/train is there already. Name another folder"):
        slice_coco(other, data / "train", data, Tiles(9, 0))
    cut(data, tmp_path / "out")
    with pytest.raises(DatasetError, match="out/annotations/train.json is there already"):
        cut(data, tmp_path / "out")
    (data / "train" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"no annotation file .* Correct the path\.$"):
        slice_coco(tmp_path / "absent.json", tmp_path, tmp_path / "out", Tiles(64, 0.25))
    with pytest.raises(DatasetError, match="cannot be cut:\n.*1 of 2 images .* are missing"):
        cut(data, tmp_path / "new")
    cv2.imwrite(str(data / "train" / "a.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DatasetError, match="is 9x9, but its annotations were made for 103x67"):
        cut(data, tmp_path / "new")
    assert not (tmp_path / "new" / "annotations" / "train.json").exists()


def test_the_tool(data, tmp_path):
    def run(*options):
        paths = [data / "annotations" / "train.json", data / "train", tmp_path / "out"]
        return run_words("slice", *paths, *options, folder=tmp_path)

    wrong = run("--patch-size", "0")
    assert wrong.returncode == 2 and "error: patch_size is 0; it must be" in wrong.stderr
    made = run("--patch-size", "32", "40")
    assert made.returncode == 0, made.stderr
    number = len(Tiles((32, 40), 0.25).of(67, 103)) + len(Tiles((32, 40), 0.25).of(30, 41))
    assert f"2 images -> {number} patches; annotated: " in made.stdout


def test_patches_stay_below_their_folder_whatever_the_names(tmp_path):
    """Names lead up, are absolute, or as long as the file system takes."""
    draw = np.random.default_rng(7)
    images, annotations = tmp_path / "a" / "b" / "images", tmp_path / "a" / "train.json"
    images.mkdir(parents=True)
    (images / "own").mkdir()
    words = ("..", ".", "own", "own/..", "../images", "../../b/images", "", "../..")
    names = {f"{tmp_path}/a/absolute.png": None, f"/{tmp_path}/a/b/double.png": None}
    for number in range(40):
        way = "/".join(words[k] for k in draw.integers(len(words), size=draw.integers(4)))
        place = os.path.join(images, way.lstrip("/"))
        if not os.path.isdir(place) or not Path(place).resolve().is_relative_to(tmp_path):
            continue  # not there, or above the folder of this test
        letter = "é" if number % 3 else "x"
        base = letter * int(draw.integers(1, 110)) + "..%2e" * (number % 2)
        names[f"{way.lstrip('/')}/{base}{number}.png".lstrip("/")] = None
    for size in (240, 251):
        names["z" * size + ".png"] = None
    assert len(names) > 25
    entries = []
    for number, name in enumerate(names, 1):
        cv2.imwrite(os.path.join(images, name), np.full((9, 9, 3), number, np.uint8))
        entries.append(dict(id=number, file_name=name, height=9, width=9))
    box = dict(bbox=[1, 1, 5, 5], area=25, iscrowd=0, category_id=1)
    objects = [dict(box, id=e["id"], image_id=e["id"]) for e in entries]
    content = dict(images=entries, annotations=objects, categories=[dict(id=1, name="a")])
    annotations.write_text(json.dumps(content))
    before = {*tmp_path.rglob("*")}
    out = tmp_path / "a" / "out" / "deep"
    count = slice_coco(annotations, images, out, Tiles(6, 0))
    assert count["images"] == len(names) and count["patches"] == 4 * len(names)
    made = {path for path in {*tmp_path.rglob("*")} - before if path.is_file()}
    assert len(made) == 1 + count["patches"] and all(path.is_relative_to(out) for path in made)
    for entry in json.loads((out / "annotations" / "train.json").read_text())["images"]:
        pixels = cv2.imread(str(out / "images" / entry["file_name"]))
        assert (pixels == (entry["id"] + 3) // 4).all()
