"""The generated data set: same bytes each time, whole or absent, truthful in both label forms."""

import json
from hashlib import sha256

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hordet.datasets.shapes import drawing
from hordet.datasets.shapes.files import DEFAULT_CLASSES, describe_mask, write_shapes

SETTINGS = dict(num_train=24, num_val=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", **SETTINGS)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def labels_of(root, split, name):
    return cv2.imread(str(root / "labels" / split / name), cv2.IMREAD_UNCHANGED)


def test_same_settings_give_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    again = digests(write_shapes(tmp_path / "again", **SETTINGS))
    assert again == digests(root)
    assert len(again) == 2 * 30 + 2
    other = digests(write_shapes(tmp_path / "other", **SETTINGS, seed=1))
    assert other.keys() == again.keys()
    assert all(other[name] != again[name] for name in again if "labels" not in name)


def test_an_image_does_not_depend_on_how_many_there_are(root, tmp_path):
    fewer = write_shapes(tmp_path / "fewer", num_train=2, num_val=1)
    for name in ("train/000001.png", "train/000002.png", "labels/train/000002.png"):
        assert (fewer / name).read_bytes() == (root / name).read_bytes()


@pytest.mark.parametrize("split, number, first", [("train", 24, 1), ("val", 6, 25)])
def test_masks_boxes_areas_and_maps_agree_to_the_pixel(root, split, number, first):
    coco = COCO(str(root / "annotations" / f"instances_{split}.json"))
    assert coco.getImgIds() == list(range(first, first + number))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(DEFAULT_CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = cv2.imread(str(root / split / image["file_name"]))
        labels = labels_of(root, split, image["file_name"])
        assert pixels.shape == (128, 128, 3) == (image["height"], image["width"], 3)
        annotations = coco.loadAnns(coco.getAnnIds([image["id"]]))
        assert 1 <= len(annotations) <= 6
        rebuilt = np.zeros_like(labels)
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            assert not rebuilt[mask].any(), "visible parts must not overlap"
            rebuilt[mask] = annotation["category_id"]
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == mask.sum() >= drawing.MIN_VISIBLE_PIXELS
            assert annotation["iscrowd"] == 0
        np.testing.assert_array_equal(rebuilt, labels)


def test_there_are_polygons_and_rle_all_classes_and_three_sizes(root):
    coco = json.loads((root / "annotations" / "instances_train.json").read_text())
    forms = {type(annotation["segmentation"]) for annotation in coco["annotations"]}
    assert forms == {list, dict}
    assert {a["category_id"] for a in coco["annotations"]} == set(
        range(1, len(DEFAULT_CLASSES) + 1)
    )
    areas = np.array([a["area"] for a in coco["annotations"]])
    assert (areas < 16**2).any() and (areas > 32**2).any()
    assert 2.5 < len(areas) / 24 < 5.5


def test_ground_truth_scores_ap_one_against_itself(root):
    truth = COCO(str(root / "annotations" / "instances_val.json"))
    answers = [dict(a, score=1.0) for a in truth.loadAnns(truth.getAnnIds())]
    found = truth.loadRes(answers)
    for kind in ("bbox", "segm"):
        score = COCOeval(truth, found, kind)
        score.evaluate()
        score.accumulate()
        score.summarize()
        assert score.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize("number", [3, 80, 150])
def test_any_number_of_classes_and_any_size(tmp_path, number):
    names = [f"class {index}" for index in range(number)]
    root = write_shapes(tmp_path / "any", num_train=8, num_val=1, size=(64, 96), classes=names)
    coco = json.loads((root / "annotations" / "instances_train.json").read_text())
    assert [category["name"] for category in coco["categories"]] == names
    used = {annotation["category_id"] for annotation in coco["annotations"]}
    assert used <= set(range(1, number + 1)) and max(used) > number / 2
    labels = labels_of(root, "train", "000001.png")
    assert labels.shape == (64, 96)
    shown = {a["category_id"] for a in coco["annotations"] if a["image_id"] == 1}
    assert set(np.unique(labels)) == {0} | shown


def test_hue_tells_apart_classes_that_share_a_shape():
    rng = np.random.default_rng(0)
    behind = np.full(3, 128.0)

    def mean_color(label):
        return np.mean([drawing._choose_color(rng, behind, label, 24) for _ in range(40)], axis=0)

    first, second, third = (mean_color(label) for label in (0, 8, 16))
    for one, other in ((first, second), (first, third), (second, third)):
        assert np.linalg.norm(one - other) > 60


def test_polygon_for_one_piece_rle_for_a_hole_or_two_parts():
    mask = np.zeros((20, 30), bool)
    mask[4:12, 5:16] = True
    whole = describe_mask(mask)
    assert whole["bbox"] == [5, 4, 11, 8] and whole["area"] == 88
    assert sorted(np.reshape(whole["segmentation"][0], (-1, 2)).tolist()) == [
        [5, 4],
        [5, 12],
        [16, 4],
        [16, 12],
    ]
    mask[7:9, 8:10] = False
    assert describe_mask(mask)["segmentation"]["size"] == [20, 30]
    mask[7:9, 8:10] = True
    mask[16:18, 20:25] = True
    assert isinstance(describe_mask(mask)["segmentation"], dict)


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(num_train=0), "num_train=0.*at least 1"),
        (dict(size=(16, 128)), r"size=\(16, 128\).*at least 32"),
        (dict(classes=()), "1 to 254.*got 0"),
        (dict(classes=("a", "a")), "got 2 names, 1 of them different"),
        (dict(classes=tuple(map(str, range(255)))), "got 255"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        write_shapes(tmp_path / "bad", **settings)
    assert not (tmp_path / "bad").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="name a new folder"):
        write_shapes(tmp_path, num_train=1, num_val=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
