"""Bad input of every format: counted, named, with the cure; nothing is dropped in silence."""

import base64
import io
import json
import random
import re

import drawn_layouts as drawn
import pytest
from PIL import Image

from hordet.datasets.formats.image_index import normalize
from hordet.datasets.formats.recognize import choose_format, look_at, read_annotations
from hordet.datasets.formats.safe_xml import read_xml
from hordet.errors import DatasetError

BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""
OUTSIDE = """<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<annotation><filename>&a;</filename></annotation>"""


def read(root, named=None):
    """Read a folder; return the data and what is said of them. Each object is accounted for."""
    seen = look_at(root)
    data = read_annotations(seen, root, choose_format(seen, root, named))
    account = data.account
    assert account.found == data.number_of_objects + account.merged + account.number_dropped
    return data, "\n".join(data.summarize())


def change(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 1.7 0.5 0.2 0.2", "1 objects dropped: coordinates outside of 0 to 1"),
        ("0 60 40 20 20", "divide x and width by the image's width"),
        ("0 nan 0.5 0.2 0.2", "coordinates outside of 0 to 1"),
        ("2 0.5 0.5 0.2 0.2", "1 objects dropped: a class number outside of 0 to 1"),
        ("0.5 0.5 0.5 0.2 0.2", "the line is not 'class x y width height'"),
        ("bolt 0.5 0.5 0.2 0.2", "the line is not 'class x y width height'"),
        ("0 0.5 0.5 0.2", "the line is not 'class x y width height'"),
        ("0 0.5 0.5 0 0.2", "1 objects dropped: no area"),
        ("0 0.1 0.1 0.1 0.1\n0 0.1 0.1 0.1 0.1", "the line stands twice in its file"),
    ],
)
def test_lines_of_yolo(tmp_path, line, words):
    root = drawn.draw_yolo(tmp_path)
    with (root / "labels" / "train" / "b.txt").open("a") as file:
        file.write(line + "\n")
    data, said = read(root)
    assert words in said and "labels/train/b.txt:" in said
    assert data.account.number_dropped == 1


def test_a_hand_at_the_border_is_cut_and_said(tmp_path):
    root = drawn.draw_yolo(tmp_path)
    (root / "labels" / "train" / "b.txt").write_text(
        "0 0.5 1.004 0.7 0.2 0.3 -0.002\n1 0 0 0.5 0.5\n"
    )
    data, said = read(root)
    polygon, box = next(i for i in data.images if i.name.endswith("b.png")).objects
    assert polygon.outlines == [[60, 80, 84, 16, 36, 0]]
    assert box.box == (0, 0, 30, 20)  # its center is the corner
    assert "1 objects have coordinates a little outside of 0 to 1, cut there" in said
    assert "1 objects reach over the border of their image; their boxes are cut there" in said


def test_yolo_without_images_without_labels_and_empty(tmp_path):
    root = drawn.draw_yolo(tmp_path)
    (root / "labels" / "train" / "ghost.txt").write_text("0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n")
    (root / "labels" / "train" / "b.txt").write_text("")
    (root / "labels" / "val" / "c.txt").unlink()
    drawn.draw_image(root / "more" / "d.png")
    data, said = read(root)
    assert "2 objects dropped: their label files have no image (labels/train/ghost.txt)" in said
    assert "1 images have no label file; they count as images without objects" in said
    assert "1 images are in no split of data.yaml and are left out (more/d.png)" in said
    assert [len(image.objects) for image in data.images] == [2, 0, 0]


def test_lists_of_classes_that_disagree(tmp_path):
    root = drawn.draw_yolo(tmp_path)
    (root / "classes.txt").write_text("nut\nbolt\n")
    with pytest.raises(DatasetError, match=r"names the classes bolt, nut \(2\), and .* nut, bolt"):
        read(root)
    (root / "classes.txt").unlink()
    change(root / "data.yaml", ("nc: 2", "nc: 3"))
    assert "1 files have nc: 3 and 2 names of classes; the names are taken" in read(root)[1]
    change(root / "data.yaml", ("['bolt', 'nut']", "{0: bolt, 2: nut}"))
    with pytest.raises(DatasetError, match="name each number from 0 to 1"):
        read(root)
    change(root / "data.yaml", ("{0: bolt, 2: nut}", "[bolt, bolt]"))
    with pytest.raises(DatasetError, match="one name to several classes: bolt"):
        read(root)
    (root / "data.yaml").unlink()
    data, said = read(root)
    assert data.classes == ["class_0", "class_1"] and "no file of class names" in said
    (root / "labels" / "train" / "b.txt").write_text("900000000 0.5 0.5 0.1 0.1\n")
    assert "1 objects dropped: a class number outside of 0 to 9999" in read(root)[1]


def test_splits_of_yolo_that_lead_nowhere(tmp_path):
    root = drawn.draw_yolo(tmp_path)
    change(root / "data.yaml", ("val: images/val", "val: images/nowhere"))
    data, said = read(root)
    assert "1 entries of data.yaml's val lead to nothing below" in said and len(data.images) == 2
    change(root / "data.yaml", ("train: images/train", "train: ../../../etc"))
    with pytest.raises(DatasetError, match="lists no image that is there"):
        read(root)


def test_two_images_of_one_name(tmp_path):
    root = drawn.draw_labelme(tmp_path)
    drawn.draw_image(root / "other" / "x.png")
    drawn.draw_image(root / "another" / "x.png")
    drawn.write(root / "train" / "x.json", json.loads((root / "train" / "a.json").read_text()))
    change(root / "train" / "x.json", ("a.png", "x.png"))
    data, said = read(root)
    assert "2 objects dropped: several images in different folders have the name of theirs" in said
    # A folder that the file names tells them apart.
    change(root / "train" / "x.json", ('"x.png', '"C:/shots/other/x.png'))
    data, said = read(root)
    assert "other/x.png" in [image.name for image in data.images]
    assert "dropped: several" not in said


def test_images_alike_but_for_their_suffix_share_yolos_labels(tmp_path):
    root = drawn.draw_yolo(tmp_path)
    Image.new("RGB", (60, 40)).save(root / "images" / "train" / "a.jpg")
    data, said = read(root)
    assert "1 images share a label file" in said
    assert sum(len(image.objects) for image in data.images) == 8
    # Both have the objects of one file, which counts for each.
    assert data.account.found == 8


@pytest.mark.parametrize("text", [BOMB, OUTSIDE])
def test_xml_with_a_document_type_is_not_read(tmp_path, text):
    root = drawn.draw_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(text)
    data, said = read(root)
    assert re.search(r"1 XML files are left out, as each declares a document type .*a\.xml", said)
    assert len(data.images) == 2 and "1 images have no XML file and are left out" in said
    with pytest.raises(DatasetError, match="DOCTYPE"):
        read_xml(root / "Annotations" / "a.xml")


def test_xml_and_json_that_are_damaged_or_empty(tmp_path):
    voc = drawn.draw_voc(tmp_path / "voc")
    (voc / "Annotations" / "a.xml").write_text("")
    change(voc / "Annotations" / "b.xml", ("</annotation>", ""))
    change(voc / "Annotations" / "c.xml", ("<xmax>", "<xmaximum>"), ("</xmax>", "</xmaximum>"))
    data, said = read(voc)
    assert "1 XML files are left out, as each is empty" in said
    assert "1 XML files are left out, as each is not complete XML" in said
    assert "2 objects dropped: no name, or no bndbox of four numbers" in said
    labelme = drawn.draw_labelme(tmp_path / "labelme")
    (labelme / "train" / "a.json").write_text('{"shapes": [')
    (labelme / "train" / "b.json").write_text("")
    data, said = read(labelme)
    assert said.count("1 JSON files are left out (train/") == 2  # for a reason each
    assert "is not a complete JSON file" in said
    assert [image.name for image in data.images] == ["val/c.png"]


@pytest.mark.parametrize("draw", ["draw_voc", "draw_labelme", "draw_cvat", "draw_via"])
def test_annotations_whose_image_is_gone(tmp_path, draw):
    root = getattr(drawn, draw)(tmp_path)
    next(root.rglob("a.png")).unlink()
    drawn.draw_image(next(root.rglob("b.png")).with_name("new.png"))
    data, said = read(root)
    assert "2 objects dropped: their image is not there" in said
    assert re.search(r"1 images have no .* and are left out \(.*new\.png\)", said)
    assert len(data.images) == 2


@pytest.mark.parametrize("stated", ["/etc/hostname.png", "../../secret.png", "..\\..\\secret.png"])
def test_names_do_not_lead_out_of_the_data(tmp_path, stated):
    root = drawn.draw_labelme(tmp_path / "a" / "b")
    drawn.draw_image(tmp_path / "secret.png")
    drawn.draw_image(tmp_path / "a" / "secret.png")
    change(
        root / "train" / "a.json", ('"imagePath": "a.png"', json.dumps({"imagePath": stated})[1:-1])
    )
    (root / "train" / "a.json").rename(root / "train" / "z.json")
    data, said = read(root)
    assert "2 objects dropped: their image is not there" in said and len(data.images) == 2
    coco = drawn.draw_coco(tmp_path / "a" / "coco")
    file = coco / "annotations" / "instances_val.json"
    change(file, ('"c.png"', json.dumps(stated)))
    data, said = read(coco)
    assert "have no file_name, or one that leads out of the data folder" in said
    assert all(".." not in image.name for image in data.images)


def test_a_path_is_normal_or_none():
    from pathlib import PurePosixPath

    assert normalize(PurePosixPath("a/b"), "../c.png") == "a/c.png"
    assert normalize(PurePosixPath("a"), "../../c.png") is None
    assert normalize(PurePosixPath("a"), "/c.png") is None
    assert normalize(PurePosixPath("a"), "C:/c.png") is None


def test_an_image_of_another_size_or_damaged(tmp_path):
    root = drawn.draw_voc(tmp_path)
    Image.new("RGB", (80, 120)).save(root / "JPEGImages" / "a.png")
    (root / "JPEGImages" / "b.png").write_text("no image")
    data, said = read(root)
    assert "JPEGImages/a.png: 80 x 120, not 120 x 80" in said and "EXIF" in said
    assert "1 images cannot be opened and are left out (JPEGImages/b.png)" in said
    assert "2 objects dropped: their image cannot be opened (Annotations/b.xml)" in said


def test_files_that_are_damaged_or_of_nobody_are_named(tmp_path):
    root = drawn.draw_yolo(tmp_path)
    (root / "notes.json").write_text("{")
    (root / "layout.xml").write_text("<plan/>")
    said = read(root)[1]
    assert "2 JSON or XML files are damaged or of no known format" in said
    (root / "data.yaml").unlink()
    for folder in ("labels", "images"):
        for file in (root / folder).rglob("*.*"):
            file.unlink()
    with pytest.raises(DatasetError, match="is not a complete JSON file"):
        read(root)


def test_names_that_differ_in_their_spelling(tmp_path):
    root = drawn.draw_voc(tmp_path)
    change(root / "Annotations" / "a.xml", ("<name>bolt<", "<name>Bolt<"))
    data, said = read(root)
    assert data.classes == ["Bolt", "bolt", "nut"]
    assert "differ in their spelling alone (Bolt and bolt)" in said


def test_masks_that_fit_no_image(tmp_path):
    root = drawn.draw_masks(tmp_path)
    folder = root / "train" / "a" / "masks"
    Image.new("L", (9, 9), 255).save(folder / "bolt_2.png")
    Image.new("L", (drawn.WIDTH, drawn.HEIGHT)).save(folder / "bolt_3.png")
    (folder / "bolt_4.png").write_text("no image")
    data, said = read(root)
    for words in ("a mask of another size", "an empty mask", "a mask that cannot be opened"):
        assert f"1 objects dropped: {words}" in said
    assert data.account.number_dropped == 3
    # One file without a class in its name: classes are not guessed.
    (folder / "bolt_1.png").rename(folder / "0a1b.png")
    assert read(root)[0].classes == ["object"]


WEIRD = [None, "", [], {}, -1, float("inf"), 10**30, "x", True, [1], [[]], "../..", [None, None]]


def list_places(value, place=()):
    """Every place in the content of a JSON file, as keys and indices."""
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from list_places(value[key], (*place, key))


@pytest.mark.parametrize("draw", ["draw_labelme", "draw_via", "draw_supervisely", "draw_coco"])
def test_any_value_in_any_place_is_counted_or_refused(tmp_path, draw):
    root = getattr(drawn, draw)(tmp_path)
    file = sorted(root.rglob("*.json"))[0]
    text = file.read_text()
    dice = random.Random(5)
    refused = 0
    for place in [place for place in list_places(json.loads(text)) if place]:
        content = json.loads(text)
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = dice.choice(WEIRD)
        file.write_text(json.dumps(content))
        try:
            read(root)  # which adds up the objects
        except DatasetError:
            refused += 1
    assert refused < len([*list_places(json.loads(text))]) / 2


@pytest.mark.parametrize("draw", ["draw_voc", "draw_cvat", "draw_yolo"])
def test_any_damage_to_a_text_is_counted_or_refused(tmp_path, draw):
    root = getattr(drawn, draw)(tmp_path)
    files = sorted(f for f in root.rglob("*.*") if f.suffix in (".xml", ".txt", ".yaml"))
    dice = random.Random(7)
    whole = 0
    for _ in range(60):
        file = dice.choice(files)
        before = file.read_bytes()
        start = dice.randrange(len(before))
        put = dice.choice([b"", b"-", b"nan", b"\xff", b"<", b"\n", b":", b"&a;", b"1e9 "])
        file.write_bytes(before[:start] + put + before[start + dice.randrange(4) :])
        try:
            whole += bool(read(root))
        except DatasetError:
            pass
        file.write_bytes(before)
    assert whole > 10


def test_yaml_and_masks_that_grow_without_end(tmp_path):
    yolo = drawn.draw_yolo(tmp_path / "yolo")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 30):
        lines.append(f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]")
    bomb = "\n".join([*lines, "train: *a29", "val: *a29", "path: *a29", "names: [bolt, nut]"])
    (yolo / "data.yaml").write_text(bomb)
    assert len(read(yolo)[0].images) == 3  # by the folders alone
    (yolo / "data.yaml").write_text(bomb.replace("names: [bolt, nut]", "names: *a29"))
    with pytest.raises(DatasetError, match="names must be a list of names"):
        read(yolo)
    labelme = drawn.draw_labelme(tmp_path / "labelme")
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000), 1).save(buffer, "PNG")
    file = labelme / "train" / "a.json"
    content = json.loads(file.read_text())
    text = base64.b64encode(buffer.getvalue()).decode()
    content["shapes"][0] |= dict(shape_type="mask", points=[[0, 0], [9, 9]], mask=text)
    file.write_text(json.dumps(content))
    data, said = read(labelme)
    assert "1 objects dropped: a mask that is no PNG, is empty, or larger than its image" in said
