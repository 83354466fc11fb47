"""From COCO to other formats and back, within half a pixel; predictions for annotation tools."""

import json

import drawn_layouts as drawn
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import run_words
from PIL import Image
from pycocotools import mask as coco_mask

from hordet.datasets.formats.conversion import Conversion, convert_data
from hordet.errors import ConfigError, DatasetError

WIDTH, HEIGHT = drawn.WIDTH, drawn.HEIGHT


@st.composite
def polygons(draw):
    """One or two polygons around centers of their own, whose points have any fractions."""
    rings = []
    for center in draw(st.sampled_from([[30.0], [25.0, 90.0]])):
        number = draw(st.integers(3, 9))
        radii = draw(st.lists(st.floats(2, 20), min_size=number, max_size=number))
        angles = np.arange(number) * (2 * np.pi / number)
        points = [center, 40] + np.stack([np.cos(angles), np.sin(angles)], 1) * np.c_[radii]
        rings.append(points.ravel().tolist())
    return rings


def write_truth(root, objects):
    """Write a COCO file of one image with segmentations, or boxes of four numbers."""
    drawn.draw_image(root / "train" / "a.png")
    annotations = []
    for number, segmentation in enumerate(objects, 1):
        item = dict(id=number, image_id=5, category_id=7, iscrowd=0)
        if isinstance(segmentation, dict):
            item["segmentation"] = segmentation
        elif isinstance(segmentation[0], list):
            item["segmentation"] = segmentation
        else:
            item |= dict(bbox=segmentation, area=segmentation[2] * segmentation[3])
        annotations.append(item)
    images = [dict(id=5, file_name="a.png", width=WIDTH, height=HEIGHT)]
    categories = [dict(id=7, name="bolt")]
    content = dict(images=images, annotations=annotations, categories=categories)
    drawn.write(root / "annotations" / "instances_train.json", content)
    return root


def go_round(folder, target, **options):
    """Convert COCO to a format and that to COCO; return the objects."""
    convert_data(Conversion(folder / "data", folder / "other", target, force=True, **options))
    back = folder / "back.json"
    # imagePath of LabelMe leads from its file to the image, which lies in the data.
    source = folder if target == "labelme" else folder / "other"
    named = "labelme" if target == "labelme" else None
    convert_data(Conversion(source, back, named=named, force=True))
    return json.loads(back.read_text())


def farthest(first, second):
    """Return the largest distance of a point of a ring to the nearest of another, both ways."""
    a, b = (np.array(ring).reshape(-1, 2) for ring in (first, second))
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return max(distances.min(0).max(), distances.min(1).max())


@pytest.mark.parametrize("target", ["yolo", "labelme"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(objects=st.lists(polygons(), min_size=1, max_size=3, unique_by=repr))
def test_polygons_go_round_within_half_a_pixel(tmp_path, target, objects):
    write_truth(tmp_path / "data", objects)
    found = go_round(tmp_path, target)["annotations"]
    assert len(found) == len(objects)
    for rings, item in zip(objects, found, strict=True):
        assert len(item["segmentation"]) == len(rings)
        for ring in rings:
            nearest = min(farthest(ring, other) for other in item["segmentation"])
            assert nearest < 1e-9  # half a pixel is asked for


@pytest.mark.parametrize("target", ["yolo", "labelme"])
def test_masks_with_holes_and_boxes_go_round(tmp_path, target):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:50, 10:60] = 1
    mask[20:30, 20:40] = 0
    mask[33:40, 50:55] = 0
    mask[60:70, 100:110] = 1
    runs = coco_mask.encode(np.asfortranarray(mask))
    runs = dict(size=[HEIGHT, WIDTH], counts=runs["counts"].decode())
    write_truth(tmp_path / "data", [runs, [70.25, 5.5, 20.125, 30.75]])
    first, second = go_round(tmp_path, target)["annotations"]
    assert (coco_mask.decode(first["segmentation"]) == mask).all()
    assert first["area"] == mask.sum() and first["bbox"] == [10, 10, 100, 60]
    assert np.allclose(second["bbox"], [70.25, 5.5, 20.125, 30.75], atol=1e-9)
    assert "segmentation" not in second


def test_boxes_go_to_voc_in_whole_pixels_and_back(tmp_path):
    write_truth(tmp_path / "data", [[10.0, 20.0, 30.0, 40.0], [[1.0, 1.0, 5.0, 1.0, 5.0, 9.0]]])
    content = go_round(tmp_path, "voc", boxes_from=1)
    assert [a["bbox"] for a in content["annotations"]] == [[10, 20, 30, 40], [1, 1, 4, 8]]
    text = (tmp_path / "other" / "Annotations" / "train" / "a.xml").read_text()
    assert "<xmin>11</xmin>" in text and "<xmax>40</xmax>" in text


def test_yolo_finds_the_images_by_links_and_nothing_is_copied(tmp_path):
    drawn.draw_coco(tmp_path / "data")
    before = {f: f.read_bytes() for f in (tmp_path / "data").rglob("*") if f.is_file()}
    lines = convert_data(Conversion(tmp_path / "data", tmp_path / "out", "yolo"))
    assert "YOLO: 6 objects in, 6 written, 0 dropped" in lines
    link = tmp_path / "out" / "images" / "val" / "val" / "c.png"
    assert link.is_symlink() and Image.open(link).size == (WIDTH, HEIGHT)
    settings = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert settings["names"] == {0: "bolt", 1: "nut"} and settings["val"] == "images/val"
    label = tmp_path / "out" / "labels" / "val" / "val" / "c.txt"
    assert [line.split()[0] for line in label.read_text().splitlines()] == ["0", "1"]
    assert before == {f: f.read_bytes() for f in (tmp_path / "data").rglob("*") if f.is_file()}


def test_what_a_format_cannot_hold_is_counted(tmp_path):
    root = write_truth(
        tmp_path / "data", [[10.0, 20.0, 30.0, 40.0], [[1.0, 1.0, 5.0, 1.0, 5.0, 9.0]]]
    )
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    for target in ("yolo", "voc"):
        lines = "\n".join(convert_data(Conversion(root, tmp_path / target, target)))
        assert "2 objects in, 1 written, 1 dropped" in lines and "crowds (iscrowd=1)" in lines
    assert "objects keep their box alone" in lines
    found = go_round(tmp_path, "labelme")["annotations"]
    assert [a["iscrowd"] for a in found] == [1, 0]


def test_predictions_become_pre_annotations(tmp_path):
    """results.json and images.json, as hordet infer writes them, for LabelMe."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:50, 10:60] = 1
    runs = coco_mask.encode(np.asfortranarray(mask))
    drawn.draw_image(tmp_path / "shots" / "a.png")
    common = dict(image_id=1, category_id=2, bbox=[10.0, 10.0, 50.0, 40.0])
    common["segmentation"] = dict(size=[HEIGHT, WIDTH], counts=runs["counts"].decode())
    drawn.write(tmp_path / "p" / "results.json", [common | dict(score=s) for s in (0.9, 0.2)])
    images = [dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)]
    categories = [dict(id=1, name="bolt"), dict(id=2, name="nut")]
    listing = dict(images=images, annotations=[], categories=categories)
    drawn.write(tmp_path / "p" / "images.json", listing)
    words = ["convert-data", "p", "out", "--to", "labelme", "--images", "shots"]
    result = run_words(*words, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 of 2 predictions have a score below 0.3" in result.stdout
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    (shape,) = content["shapes"]
    assert (shape["label"], shape["score"], shape["shape_type"]) == ("nut", 0.9, "mask")
    assert (tmp_path / "out" / content["imagePath"]).samefile(tmp_path / "shots" / "a.png")
    again = run_words(*words, folder=tmp_path)
    assert again.returncode == 2 and "out is there already and is kept" in again.stderr


def test_the_data_are_no_output(tmp_path):
    drawn.draw_coco(tmp_path)
    for source in (tmp_path, tmp_path / "annotations" / "instances_val.json"):
        with pytest.raises(ConfigError, match="never changed"):
            convert_data(Conversion(source, source if source.is_dir() else source.parent))
    with pytest.raises(ConfigError, match="several files: name a folder"):
        convert_data(Conversion(tmp_path, tmp_path / "x.json", "yolo"))


def test_results_of_other_programs_take_the_place_of_the_truth(tmp_path):
    root = write_truth(tmp_path / "data", [[10.0, 20.0, 30.0, 40.0]])
    result = dict(image_id=5, category_id=7, bbox=[1.5, 2.5, 8.0, 9.0], score=0.75)
    drawn.write(tmp_path / "results.json", [result, result | dict(image_id=6)])
    words = ["convert-data", root, "out.json", "--results", "results.json"]
    done = run_words(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 objects dropped: their image_id is that of no image" in done.stdout
    (item,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert (item["bbox"], item["score"], item["category_id"]) == ([1.5, 2.5, 8.0, 9.0], 0.75, 7)


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "last two numbers are a corner"),
        (lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT], "between 0 and 1"),
    ],
)
def test_boxes_of_another_form_are_refused_before_they_cannot_be_told(tmp_path, form, words):
    boxes = [form(x, 10 + x / 4, 20 + x / 9, 16) for x in (4, 30, 57, 70)]
    write_truth(tmp_path / "data", boxes)
    with pytest.raises(DatasetError, match=words) as refused:
        convert_data(Conversion(tmp_path / "data", tmp_path / "out", "yolo"))
    assert "set DATA (with --images) to it" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_outline_beyond_the_image_is_said(tmp_path):
    inside, beyond = [4, 4, 30, 4, 30, 30], [-9.5, 4, 30, 4, 30, 30]
    write_truth(tmp_path / "data", [[inside], [beyond], [[-0.9, 4, 30, 4, 30, 30]]])
    lines = convert_data(Conversion(tmp_path / "data", tmp_path / "out.json"))
    (said,) = [line for line in lines if "an outline" in line]
    assert said.startswith("1 objects have an outline that reaches over the border of their image")
    assert "object 2" in said
