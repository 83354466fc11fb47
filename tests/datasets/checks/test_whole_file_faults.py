"""Faults of a whole annotation file are said once, with a cure that works when it is followed."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import ConfigDict

from hordet.datasets.checks.box_forms import gather_objects
from hordet.datasets.checks.coco import check_coco
from hordet.datasets.formats.coco import count_objects, read_coco
from hordet.datasets.shapes.files import DEFAULT_CLASSES, write_shapes
from hordet.datasets.slicing import slice_coco
from hordet.datasets.tiles import Tiles
from hordet.errors import DatasetError, DatasetWarning, EvaluationError
from hordet.evaluation.coco_results import read_truth

FILE = "annotations/instances_train.json"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    return write_shapes(tmp_path / "data", num_train=4, num_val=1, size=(64, 80))


def content_of(root):
    return json.loads((root / FILE).read_text())


def edit(root, change):
    content = content_of(root)
    change(content)
    (root / FILE).write_text(json.dumps(content))


def check(root, with_mask=True, classes=DEFAULT_CLASSES, **changes):
    dataset = dict(data_root=str(root), ann_file=FILE, data_prefix=dict(img="train"))
    return check_coco(ConfigDict(dataset | changes), classes, with_mask=with_mask)


def each(change):
    return lambda content: [change(item) for item in content["annotations"]]


def follow(root, found):
    """Set ann_file to the copy that the one fault offers; return what the check then finds."""
    (text,) = found.errors
    copy = re.search(r"\S+cache/annotations/\S+?\.json", text)[0]
    return copy, check(root, with_mask=False, ann_file=copy)


def boxes_of(path):
    content = json.loads(Path(path).read_text())
    return np.array([a["bbox"] for a in content["annotations"]], float)


def to_shares(item):
    x, y, w, h = item["bbox"]
    item.update(bbox=[x / 80, y / 64, w / 80, h / 64], segmentation=[])


def to_centers(item):
    x, y, w, h = item["bbox"]
    item.update(bbox=[(x + w / 2) / 80, (y + h / 2) / 64, w / 80, h / 64], segmentation=[])


def to_corners(item):
    x, y, w, h = item["bbox"]
    item.update(bbox=[x, y, x + w, y + h], area=w * h, segmentation=[])


@pytest.mark.parametrize(
    "change, words",
    [
        (to_shares, r"between 0 and 1: shares .*\(x, y, width, height\)"),
        (to_centers, r"between 0 and 1: shares .*\(center x, center y"),
        (to_corners, "of x1, y1, x2, y2"),
    ],
)
def test_boxes_of_another_form(root, change, words):
    before = boxes_of(root / FILE)
    edit(root, each(change))
    found = check(root, with_mask=False)
    n = len(before)
    assert re.search(f"{n} of {n} objects of .* have a box {words}", found.errors[0])
    copy, after = follow(root, found)
    assert not after.errors
    np.testing.assert_allclose(boxes_of(copy), before, atol=1e-9)


W, H = 80, 64


def corners(x, y, w, h):
    return [x, y, x + w, y + h]


def centers(x, y, w, h):
    return [x + w / 2, y + h / 2, w, h]


def scaled(unit, make=lambda *box: list(box)):
    def change(x, y, w, h):
        return [v / s * unit for v, s in zip(make(x, y, w, h), (W, H, W, H), strict=True)]

    return change


def reorder(make, *order):
    return lambda *box: [make(*box)[i] for i in order]


FORMS = {
    "corners": (corners, "x1, y1, x2, y2"),
    "corners, y first": (reorder(corners, 1, 0, 3, 2), "y1, x1, y2, x2"),
    "both x first": (reorder(corners, 0, 2, 1, 3), "x1, x2, y1, y2"),
    "centers": (centers, "center x, center y, width, height, where"),
    "y first": (lambda x, y, w, h: [y, x, h, w], "y, x, height, width"),
    "percent": (scaled(100), r"between 0 and 100: .*\(x, y, width, height\)"),
    "centers in percent": (scaled(100, centers), r"between 0 and 100: .*\(center x"),
    "corners in percent": (scaled(100, corners), r"between 0 and 100: .*\(x1, y1"),
    "per mille": (scaled(1000), "between 0 and 1000: per mille"),
    "shares": (scaled(1), r"between 0 and 1: .*\(x, y, width, height\)"),
    "corners as shares": (scaled(1, corners), r"between 0 and 1: .*\(x1, y1, x2, y2\)"),
    "corners as shares, y first": (
        reorder(scaled(1, corners), 1, 0, 3, 2),
        r"between 0 and 1: .*\(y1, x1, y2, x2\)",
    ),
}


def require_cure(root, found, before):
    copy = re.search(r"\S+cache/annotations/\S+?\.json", found.errors[0])[0]
    np.testing.assert_allclose(boxes_of(copy), before, atol=1e-9)
    after = check(root, ann_file=copy)
    assert not after.errors and not after.warnings
    old, new = (json.loads(Path(p).read_text())["annotations"] for p in (root / FILE, copy))
    assert [a["segmentation"] for a in old] == [a["segmentation"] for a in new]


@pytest.mark.parametrize("few", [False, True], ids=["all", "a third"])
@pytest.mark.parametrize(("form", "words"), FORMS.values(), ids=FORMS.keys())
def test_masks_show_the_form_of_the_boxes(root, form, words, few):
    """Corrected for all objects, or where a part of the file has the form for these."""
    before = boxes_of(root / FILE)
    chosen = [
        i
        for i, box in enumerate(before)
        if not few or (i % 3 == 0 and box[2:].min() > 16 and abs(box[0] - box[1]) > 9)
    ]

    def change(content):
        for i in chosen:
            item = content["annotations"][i]
            item.update(bbox=form(*item["bbox"]))

    edit(root, change)
    found = check(root)
    assert re.search(f"{len(chosen)} of {len(before)} objects .*{words}", found.errors[0])
    require_cure(root, found, before)
    assert "likewise" not in found.errors[0]
    with pytest.raises(EvaluationError, match=words):
        read_truth(root / FILE)


@pytest.mark.parametrize("name", ["corners", "both x first", "centers", "percent", "per mille"])
def test_the_sizes_of_the_images_show_the_form_of_boxes_without_masks(root, name):
    """Objects lie everywhere in the image, so that some are over the border as COCO's."""
    form, words = FORMS[name]
    boxes = [[2 + 9 * i, 3 + 7 * i, 11, 9] for i in range(8)]

    def change(content):
        item = content["annotations"][0]
        content["annotations"] = [
            dict(item, id=i, bbox=form(*box), area=99, segmentation=[])
            for i, box in enumerate(boxes, 1)
        ]

    edit(root, change)
    found = check(root, with_mask=False)
    assert re.search(f"8 of 8 objects .*{words}", found.errors[0])
    copy, after = follow(root, found)
    assert not after.errors
    np.testing.assert_allclose(boxes_of(copy), boxes, atol=1e-9)


@pytest.mark.parametrize(
    "odd", [[[[1, 2], [9, 2], [9, 8]]] * 2, [[1, 2, 9, [2], 9, 8]], [["1", 2, 9, 2, 9, 8]], [[]], 5]
)
def test_odd_segmentations_are_measured_beside_right_ones(root, odd):
    """Other objects keep their masks, and the odd one is named."""
    file = read_coco(root / FILE, root)
    before = gather_objects(file)
    file.annotations[3]["segmentation"] = odd
    after = gather_objects(file)
    assert np.isnan(after.masks[3]).all() and not np.isnan(before.masks).any()
    for name in ("masks", "mask_areas", "boxes"):
        old, new = (np.delete(getattr(o, name), 3, axis=0) for o in (before, after))
        np.testing.assert_array_equal(old, new)
    edit(root, lambda c: c["annotations"][3].update(segmentation=odd))
    assert "ids 4." in " ".join((found := check(root)).errors + found.warnings)


def drop_run_lengths(content):
    kept = [a for a in content["annotations"] if isinstance(a["segmentation"], list)]
    content["annotations"] = kept


@pytest.mark.parametrize("unit", [1, 100])
def test_masks_in_the_unit_of_the_boxes_are_scaled_too(root, unit):
    edit(root, drop_run_lengths)
    before = content_of(root)["annotations"]

    def change(item):
        scale = (unit / W, unit / H)
        polygons = [[v * scale[i % 2] for i, v in enumerate(p)] for p in item["segmentation"]]
        item.update(bbox=scaled(unit)(*item["bbox"]), segmentation=polygons)

    edit(root, each(change))
    found = check(root)
    assert "the masks likewise" in found.errors[0]
    copy = re.search(r"\S+cache/annotations/\S+?\.json", found.errors[0])[0]
    for old, new in zip(before, json.loads(Path(copy).read_text())["annotations"], strict=True):
        np.testing.assert_allclose(new["bbox"], old["bbox"], atol=1e-9)
        np.testing.assert_allclose(new["segmentation"][0], old["segmentation"][0], atol=1e-9)
    assert not check(root, ann_file=copy).errors


def test_masks_between_0_and_1_beside_boxes_in_pixels(root):
    edit(root, drop_run_lengths)
    before = content_of(root)["annotations"]

    def change(item):
        scale = (W, H)
        polygons = [[v / scale[i % 2] for i, v in enumerate(p)] for p in item["segmentation"]]
        item.update(segmentation=polygons)

    edit(root, each(change))
    found = check(root)
    assert "a mask between 0 and 1" in found.errors[0]
    copy = re.search(r"\S+cache/annotations/\S+?\.json", found.errors[0])[0]
    for old, new in zip(before, json.loads(Path(copy).read_text())["annotations"], strict=True):
        assert new["bbox"] == old["bbox"] and new["area"] == old["area"]
        np.testing.assert_allclose(new["segmentation"][0], old["segmentation"][0], atol=1e-9)


def spoil(share, **values):
    """Change the last objects of a file, at least this share of them."""

    def change(content):
        items = content["annotations"]
        for item in items[int(len(items) * (1 - share)) :]:
            item.update({k: v(item) if callable(v) else v for k, v in values.items()})

    return change


@pytest.mark.parametrize(
    ("few", "many", "values", "words"),
    [
        (0.05, 0.3, dict(bbox=lambda a: [*a["bbox"][:2], 0.6, 9]), "less than one pixel"),
        (0.3, 0.7, dict(bbox=[3, 4, 40, 50]), "a box that is not the box of its mask"),
        (0.05, 0.3, dict(segmentation=[[3, 3, 9, 9, 6, 6]]), "a mask without area"),
        (1.0, None, dict(area=7e8), "an area that is not the area of its mask"),
        (0.3, None, dict(bbox=lambda a: [*a["bbox"][:2], 90, 70]), "reaches over the border"),
    ],
)
def test_every_command_has_one_verdict_on_boxes_and_masks(root, few, many, values, words):
    """What mmdet trains rightly but for a few is a warning, and too much of it an error."""
    whole = content_of(root)
    edit(root, spoil(few, **values))
    found = check(root)
    (text,) = [text for text in found.warnings if words in text]
    assert not found.errors and re.match(r"\d+ of \d+ annotations in .*: ids \d+", text)
    with pytest.warns(DatasetWarning, match=words):
        read_truth(root / FILE)
    if many is None:
        return
    (root / FILE).write_text(json.dumps(whole))
    edit(root, spoil(many, **values))
    assert words in " ".join(check(root).errors)
    with pytest.raises(EvaluationError, match=words), warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        read_truth(root / FILE)


def test_corners_are_known_by_areas_too(root):
    """All objects in the upper left: as sizes they fit the image."""

    def change(item):
        item.update(bbox=[2, 3, 12, 9], area=60, segmentation=[])

    edit(root, each(change))
    assert "x1, y1, x2, y2" in check(root, with_mask=False).errors[0]


def test_small_true_boxes_are_left_alone(root):
    edit(root, each(lambda item: item.update(bbox=[0, 0, 1, 1], area=1, segmentation=[])))
    assert not check(root, with_mask=False).errors
    edit(root, each(lambda item: item.update(bbox=[0, 0, 30, 30], area=900)))
    assert not check(root, with_mask=False).errors


@pytest.mark.parametrize(
    "spell, words",
    [
        (
            lambda name: f"/home/me/export/{name}",
            "exporter's: /home/me/export/000001.png is",
        ),
        (lambda name: f"D:\\job\\{name}", "are there by their base names alone"),
        (str.upper, "in another case: 000001.PNG is train/000001.png"),
    ],
)
def test_paths_of_another_machine(root, spell, words):
    edit(root, lambda c: [i.update(file_name=spell(i["file_name"])) for i in c["images"]])
    found = check(root)
    assert words in found.errors[0] and "4 of 4 images" in found.errors[0]
    copy, after = follow(root, found)
    assert not after.errors
    names = [image["file_name"] for image in json.loads(Path(copy).read_text())["images"]]
    assert names == [f"00000{k}.png" for k in range(1, 5)]


def test_a_prefix_is_told_where_that_is_all(root):
    (root / "labels").rename(root.parent / "labels")
    (text,) = check(root, data_prefix=dict(img="imgs")).errors
    assert "4 of 4 images" in text and "set data_prefix=dict(img='train')" in text


def test_one_missing_image_is_missing(root):
    (root / "train" / "000002.png").unlink()
    assert "1 of 4 images" in check(root).errors[0] and "labels" not in check(root).errors[0]


def test_backslashes_and_url_escapes_are_read(root):
    (root / "train" / "a b").mkdir()
    (root / "train" / "000003.png").rename(root / "train" / "a b" / "3 é.png")
    edit(root, lambda c: c["images"][2].update(file_name="a%20b\\3%20%C3%A9.png"))
    found = check(root)
    assert not found.errors and "1 of 4 images" in found.warnings[0]
    assert json.loads(Path(found.copy).read_text())["images"][2]["file_name"] == "a b/3 é.png"
    # A name that is there as it is written stays.
    (root / "train" / "000004.png").rename(root / "train" / "4%20.png")
    edit(root, lambda c: c["images"][3].update(file_name="4%20.png"))
    assert not check(root).errors


def test_objects_without_masks_are_named_and_left_out(root):
    def change(content):
        content["annotations"][0]["segmentation"] = []
        del content["annotations"][2]["segmentation"]
        content["annotations"][3]["segmentation"] = {}

    edit(root, change)
    found = check(root)
    total = len(content_of(root)["annotations"])
    assert not found.errors and f"3 of {total} objects" in found.warnings[0]
    assert "ids 1, 3, 4." in found.warnings[0] and "left out" in found.warnings[0]
    kept = json.loads(Path(found.copy).read_text())["annotations"]
    assert len(kept) == total - 3
    assert check(root, with_mask=False).copy is None
    counts = count_objects(content_of(root)["annotations"])
    assert (counts.objects, counts.with_mask, counts.crowds) == (total, total - 3, 0)
    assert counts.without_mask == [1, 3, 4]


def test_crowds_alone(root):
    edit(root, each(lambda item: item.update(iscrowd=True)))
    total = len(content_of(root)["annotations"])
    found = check(root)
    assert f"{total} of {total} objects" in found.errors[0]
    assert "iscrowd=1, which training leaves out" in found.errors[0]
    copy, after = follow(root, found)
    assert not after.errors and not after.warnings
    # To score on crowds alone gives no figure, but no crash: a warning.
    assert not check(root, test_mode=True).errors


def test_ids_as_floats_and_texts(root):
    def floats(content):
        for item in content["images"]:
            item.update(id=float(item["id"]), height=64.0, width=80.0)
        for item in content["annotations"]:
            item.update({k: float(item[k]) for k in ("id", "image_id", "category_id")})

    edit(root, floats)
    found = check(root)
    assert not found.errors and not found.warnings
    image = json.loads(Path(found.copy).read_text())["images"][0]
    assert [type(image[key]) for key in ("id", "height", "width")] == [int] * 3
    assert type(read_truth(root / FILE)["annotations"][0]["image_id"]) is int
    edit(root, lambda c: c["images"][0].update(id="x1"))
    assert "1 of 4 images" in check(root).errors[0] and "id='x1'" in check(root).errors[0]


def test_what_is_missing_is_computed_and_said_once(root):
    before = content_of(root)

    def change(content):
        for item in content["images"]:
            del item["width"], item["height"]
        for item in content["annotations"]:
            for key in ("area", "iscrowd", "bbox", "id"):
                del item[key]

    edit(root, change)
    found = check(root)
    assert not found.errors and len(found.warnings) == 5
    after = json.loads(Path(found.copy).read_text())
    assert after["images"] == before["images"]
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        np.testing.assert_allclose(new["bbox"], old["bbox"], atol=1.5)
        assert new["area"] == pytest.approx(old["area"], rel=0.25) and new["iscrowd"] == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_encodings_of_json(root, encoding):
    text = (root / FILE).read_text().replace('"circle"', '"圆"')
    (root / FILE).write_bytes(text.encode(encoding))
    classes = ("圆", *DEFAULT_CLASSES[1:])
    found = check(root, classes=classes)
    assert not found.errors and not found.warnings
    assert Path(found.copy).read_bytes().isascii()
    assert read_truth(root / FILE)["categories"][0]["name"] == "圆"


@pytest.mark.parametrize("encoding, name", [("gbk", "GBK"), ("big5", "")])
def test_encodings_that_json_lacks(root, encoding, name):
    text = (root / FILE).read_text().replace('"circle"', '"圓形"')
    (root / FILE).write_bytes(text.encode(encoding))
    words = f"is not in UTF-8.*iconv -f {name}"
    assert re.search(words, check(root).errors[0])
    with pytest.raises(EvaluationError, match=words):
        read_truth(root / FILE)
    with pytest.raises(DatasetError, match=words):
        slice_coco(root / FILE, root / "train", root / "out", Tiles(32, 0.0))


def test_slicing_reads_with_the_same_reader(root):
    text = json.dumps(content_of(root))
    (root / FILE).write_bytes(
        re.sub(r'"image_id": (\d+)', r'"image_id": \1.0', text).encode("utf-16")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatasetWarning)
        count = slice_coco(root / FILE, root / "train", root / "out", Tiles((64, 80), 0.0))
    assert count["whole"] == len(read_coco(root / FILE, root).annotations)


def test_categories_by_name(root):
    """Another order, fewer and more categories: labels are those of the classes."""

    def change(content):
        content["categories"] = content["categories"][::-1][:-1] + [dict(id=99, name="dog")]
        kept = [a for a in content["annotations"] if a["category_id"] != 1]
        kept[0]["category_id"] = 99
        content["annotations"] = kept

    edit(root, change)
    dataset = dict(data_root=str(root), ann_file=FILE, data_prefix=dict(img="train"))
    found = check_coco(dataset, DEFAULT_CLASSES, needed=())
    assert not found.errors and "dog (1 objects)" in found.warnings[0]
    names = [c["name"] for c in json.loads(Path(found.copy).read_text())["categories"]]
    assert names == [*DEFAULT_CLASSES, "dog"]
    # The one file of a training must have every class; a class spelled otherwise is no other one.
    assert "not in the file: circle" in check_coco(dataset, DEFAULT_CLASSES).errors[0]
    edit(root, lambda c: c["categories"][-1].update(name="Circle"))
    assert "Not all" in check_coco(dataset, DEFAULT_CLASSES, needed=()).errors[0]


def test_names_with_line_breaks_keep_a_message_on_one_line(root):
    names = ["circle\nsquare", "\x1b[31mred"]
    edit(root, lambda c: [k.update(name=n) for k, n in zip(c["categories"], names, strict=False)])
    (text,) = check(root).errors
    assert "circle\\nsquare, \\x1b[31mred, triangle" in text and text.isprintable()
