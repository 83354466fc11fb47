"""Ten layouts of annotation tools give the same objects, to the pixel."""

import json

import drawn_layouts as drawn
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from hordet.cli.arguments import DATA_FORMATS
from hordet.datasets.formats.coco_records import make_coco
from hordet.datasets.formats.recognize import FORMATS, choose_format, look_at, read_annotations
from hordet.datasets.formats.record import Account

LAYOUTS = {
    "coco": drawn.draw_coco,
    "yolo segmentation": drawn.draw_yolo,
    "yolo of roboflow": lambda root: drawn.draw_yolo(root, roboflow=True),
    "yolo boxes": lambda root: drawn.draw_yolo(root, boxes=True),
    "voc from 1": drawn.draw_voc,
    "labelme": drawn.draw_labelme,
    "cvat": drawn.draw_cvat,
    "via": drawn.draw_via,
    "supervisely": drawn.draw_supervisely,
    "masks": drawn.draw_masks,
}


def read(root, named=None, **options):
    seen = look_at(root)
    return read_annotations(seen, root, choose_format(seen, root, named), **options)


def rasterize(annotation):
    size = (drawn.HEIGHT, drawn.WIDTH)
    segmentation = annotation.get("segmentation")
    if segmentation is None:
        x, y, width, height = annotation["bbox"]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        return coco_mask.decode(coco_mask.frPyObjects([corners], *size))[..., 0]
    if isinstance(segmentation, dict):
        return coco_mask.decode(segmentation)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size)))


def add_up(data):
    """Whether each object that was found is kept, joined to another, or named as dropped."""
    account = data.account
    return account.found == data.number_of_objects + account.merged + account.number_dropped


def test_the_command_knows_the_formats():
    assert DATA_FORMATS == tuple(FORMATS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_objects(tmp_path, layout):
    root = LAYOUTS[layout](tmp_path / "data")
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    assert list(look_at(root).found) == [layout.split()[0]]
    data = read(root)
    assert data.classes == ["bolt", "nut"] and add_up(data)
    assert data.account.number_dropped == 0
    splits = {split: len(images) for split, images in data.list_splits().items()}
    assert splits == {"train": 2, "val": 1}
    boxes_alone = layout in ("yolo boxes", "voc from 1")
    seen = 0
    for number, name, split in drawn.each():
        (image,) = [i for i in data.images if f"/{i.name}".endswith(f"/{name}.png")]
        assert (image.width, image.height, image.split) == (drawn.WIDTH, drawn.HEIGHT, split)
        content = make_coco(data, [image], Account())
        objects = {o["category_id"]: o for o in content["annotations"]}
        for label, points in ((1, drawn.triangle(number)), (2, drawn.corners_of(number))):
            if layout == "yolo boxes" and label == 1:
                assert label not in objects
                continue
            item = objects[label]
            x1, y1, x2, y2 = drawn.bounds(points)
            if layout != "masks" or label == 2:  # pixels of a triangle need not reach its corners
                assert np.allclose(item["bbox"], (x1, y1, x2 - x1, y2 - y1), atol=1e-9)
            flat = [float(value) for point in points for value in point]
            if label == 1 and boxes_alone:
                assert "segmentation" not in item
                continue
            truth = coco_mask.decode(coco_mask.frPyObjects([flat], drawn.HEIGHT, drawn.WIDTH))
            assert (rasterize(item) == truth[..., 0]).all()
            seen += 1
    assert seen == (3 if boxes_alone else 6)
    assert before == {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_boxes_of_voc_count_from_0_where_one_has_a_0(tmp_path):
    root = drawn.draw_voc(tmp_path, first=0)
    assert read(root).images[0].objects[1].box == (59, 19, 31, 41)  # nothing shows it
    assert read(root, boxes_from=0).images[0].objects[1].box == (60, 20, 30, 40)
    file = root / "Annotations" / "c.xml"
    file.write_text(file.read_text().replace("<xmin>12<", "<xmin>0<"))
    data = read(root)
    assert data.images[0].objects[1].box == (60, 20, 30, 40)
    assert (
        "3 XML files have boxes that are read as counted from 0, for a coordinate is 0"
        in "\n".join(data.summarize())
    )
    assert "--boxes-from 1 reads them otherwise" in "\n".join(data.summarize())


def test_shapes_of_labelme(tmp_path):
    drawn.draw_image(tmp_path / "a.png")
    shapes = [
        dict(label="disc", points=[[40, 40], [40, 60]], shape_type="circle"),
        dict(label="nut", points=[[0, 0], [4, 0], [4, 4]], shape_type="polygon", group_id=7),
        dict(label="nut", points=[[9, 0], [14, 0], [14, 4]], shape_type="polygon", group_id=7),
        dict(label="nut", points=[[9, 9], [14, 9]], shape_type="line"),
        dict(label="_background_", points=[[9, 9], [14, 9], [14, 14]], shape_type="polygon"),
    ]
    content = dict(shapes=shapes, imagePath="..\\elsewhere\\a.png", imageData=None)
    drawn.write(tmp_path / "a.json", content)
    data = read(tmp_path)
    disc, nut = data.images[0].objects
    assert np.allclose(disc.box, (20, 20, 40, 40), atol=0.06)
    assert (
        abs(
            rasterize(make_coco(data, data.images, Account())["annotations"][0]).sum() / 400 - np.pi
        )
        < 0.05
    )
    assert len(nut.outlines) == 2 and nut.box == (0, 0, 14, 4)
    assert (data.account.found, data.account.merged, data.account.number_dropped) == (5, 1, 2)
    words = "\n".join(data.summarize())
    assert "shapes of type line" in words and "_background_, which is no class" in words


def test_shapes_of_cvat(tmp_path):
    drawn.draw_image(tmp_path / "a.png")
    shapes = (
        '<mask label="m" rle="1, 2, 1, 2" left="10" top="20" width="3" height="2"/>'
        '<box label="b" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<ellipse label="e" cx="50" cy="40" rx="20" ry="10"/>'
        '<polygon label="p" points="0,0;5,0;5,5" group_id="3"/>'
        '<polygon label="p" points="9,0;15,0;15,5" group_id="3"/>'
        '<polyline label="p" points="0,0;5,0;5,5"/>'
    )
    text = (
        f'<annotations><image name="a.png" width="120" height="80">{shapes}</image></annotations>'
    )
    drawn.write(tmp_path / "annotations.xml", text)
    data = read(tmp_path)
    annotations = make_coco(data, data.images, Account())["annotations"]
    assert [data.classes[a["category_id"] - 1] for a in annotations] == ["m", "b", "e", "p"]
    rows, columns = np.nonzero(rasterize(annotations[0]))
    assert [*zip(rows.tolist(), columns.tolist(), strict=True)] == [
        (20, 11),
        (20, 12),
        (21, 11),
        (21, 12),
    ]
    assert np.allclose(annotations[1]["bbox"], (15, 5, 10, 20))
    assert abs(rasterize(annotations[2]).sum() / 200 - np.pi) < 0.05
    assert len(annotations[3]["segmentation"]) == 2
    assert add_up(data) and "shapes of type polyline" in "\n".join(data.summarize())
    text = text.replace("<image", '<track id="0" label="p"/><image')
    drawn.write(tmp_path / "annotations.xml", text)
    with pytest.raises(ValueError, match="'CVAT for video': export the task as"):
        read(tmp_path)


def test_polygons_of_supervisely_with_holes_and_rectangles(tmp_path):
    drawn.draw_image(tmp_path / "d" / "img" / "a.png")
    exterior, interior = (
        [[10, 10], [50, 10], [50, 50], [10, 50]],
        [[20, 20], [30, 20], [30, 30], [20, 30]],
    )
    objects = [
        dict(
            classTitle="frame",
            geometryType="polygon",
            points=dict(exterior=exterior, interior=[interior]),
        ),
        dict(classTitle="bar", geometryType="rectangle", points=dict(exterior=[[60, 5], [69, 14]])),
        dict(classTitle="bar", geometryType="line", points=dict(exterior=[[60, 5], [69, 14]])),
    ]
    content = dict(size=dict(height=80, width=120), objects=objects)
    drawn.write(tmp_path / "d" / "ann" / "a.png.json", content)
    drawn.write(tmp_path / "meta.json", dict(classes=[dict(title="frame"), dict(title="bar")]))
    data = read(tmp_path)
    account = Account()
    frame, bar = make_coco(data, data.images, account)["annotations"]
    assert frame["area"] == rasterize(frame).sum() == 40 * 40 - 10 * 10
    assert bar["bbox"] == [60, 5, 10, 10]
    assert "objects have holes" in "\n".join(account.describe())
    assert add_up(data) and data.account.number_dropped == 1


def test_attributes_of_via(tmp_path):
    drawn.draw_via(tmp_path)
    file = tmp_path / "train" / "via_region_data.json"
    content = json.loads(file.read_text())
    regions = content["a.png9"]["regions"]
    regions[0]["region_attributes"] = dict(label={"bolt": True, "nut": False}, color="red")
    regions[1]["region_attributes"] = dict(label="", color="red")
    file.write_text(json.dumps(content))
    data = read(tmp_path)
    assert [o.label for o in data.images[0].objects] == ["bolt"]
    assert add_up(data) and "no value of the attribute label" in "\n".join(data.summarize())
    text = file.read_text().replace('"label"', '"kind"')
    file.write_text(text)
    other = tmp_path / "val" / "via_region_data.json"
    other.write_text(other.read_text().replace('"label"', '"kind"'))
    with pytest.raises(ValueError, match="have the attributes color, kind.*rename the one"):
        read(tmp_path)


def test_other_layouts_of_yolo(tmp_path):
    """Darknet's labels beside images and obj.names, lists of images, confidences, key points."""
    drawn.draw_image(tmp_path / "obj" / "a.png")
    drawn.draw_image(tmp_path / "obj" / "b.png")
    drawn.write(tmp_path / "obj" / "a.txt", "1 0.5 0.5 0.5 0.25 0.875\n")
    drawn.write(tmp_path / "obj" / "b.txt", "")
    drawn.write(tmp_path / "obj.names", "bolt\nnut\n")
    data = read(tmp_path)
    (item,) = data.images[0].objects
    assert (item.label, item.box, item.score) == ("nut", (30, 30, 60, 20), 0.875)
    assert [image.split for image in data.images] == [None, None]
    drawn.write(tmp_path / "data.yaml", "names: [bolt, nut]\ntrain: train.txt\nval: [val.txt]\n")
    drawn.write(tmp_path / "train.txt", "obj/a.png\n./obj/gone.png\n")
    drawn.write(tmp_path / "val.txt", "/home/me/data/obj/b.png\n")
    data = read(tmp_path)
    assert {i.name: i.split for i in data.images} == {"obj/a.png": "train", "obj/b.png": "val"}
    assert "1 lines of train.txt lead to no image" in "\n".join(data.summarize())
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("kpt_shape: [2, 3]\n")
    drawn.write(tmp_path / "obj" / "a.txt", "1 0.5 0.5 0.5 0.25 0.1 0.1 2 0.2 0.2 2\n")
    data = read(tmp_path)
    assert data.images[0].objects[0].box == (30, 30, 60, 20)
    assert "key points (kpt_shape); their boxes are read alone" in "\n".join(data.summarize())


def test_masks_and_polygons_of_voc(tmp_path):
    root = drawn.draw_voc(tmp_path)
    values = np.zeros((drawn.HEIGHT, drawn.WIDTH), np.uint8)
    values[10:30, 10:40], values[20:50, 60:80], values[5:10, 5:90] = 1, 2, 255
    (root / "SegmentationObject").mkdir()
    Image.fromarray(values).save(root / "SegmentationObject" / "a.png")
    file = root / "Annotations" / "b.xml"
    polygon = "".join(
        f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate([(2, 2), (9, 2), (9, 8)], 1)
    )
    text = file.read_text().replace("<bndbox>", f"<polygon>{polygon}</polygon><bndbox>", 1)
    file.write_text(text.replace("<difficult>0", "<difficult>1"))
    data = read(root)
    first, second, _ = data.images
    assert [
        (coco_mask.decode(o.mask) == (values == n)).all() for n, o in enumerate(first.objects, 1)
    ] == [True, True]
    assert second.objects[0].outlines == [[1, 1, 8, 1, 8, 7]]  # from 1, as the boxes
    assert second.objects[0].is_difficult and not second.objects[1].outlines


def test_masks_in_a_folder_for_each_image(tmp_path):
    for name in ("a", "b"):
        drawn.draw_image(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "masks" / name).mkdir(parents=True)
        mask = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
        mask[5:15, 20:30] = True
        Image.fromarray(mask).save(tmp_path / "masks" / name / "cell_01.png")
        Image.fromarray(mask.astype(np.uint16) * 40000).save(
            tmp_path / "masks" / name / "cell_2.png"
        )
    data = read(tmp_path)
    assert data.classes == ["cell"] and [i.name for i in data.images] == [
        "images/a.jpg",
        "images/b.jpg",
    ]
    assert [o.box for i in data.images for o in i.objects] == [(20, 5, 10, 10)] * 4


def test_a_project_of_via_with_circles_and_one_class(tmp_path):
    drawn.draw_image(tmp_path / "a.png")
    shapes = [
        dict(name="circle", cx=50, cy=40, r=20),
        dict(name="ellipse", cx=50, cy=40, rx=30, ry=10, theta=np.pi / 2),
        dict(name="point", cx=5, cy=5),
    ]
    regions = {str(i): dict(shape_attributes=s, region_attributes={}) for i, s in enumerate(shapes)}
    entry = dict(filename="a.png", size=1, regions=regions, file_attributes={})
    drawn.write(tmp_path / "p.json", {"_via_settings": {}, "_via_img_metadata": {"a.png1": entry}})
    data = read(tmp_path)
    disc, ellipse = data.images[0].objects
    assert data.classes == ["object"] and np.allclose(disc.box, (30, 20, 40, 40), atol=0.06)
    assert np.allclose(ellipse.box, (40, 10, 20, 60), atol=0.06)
    assert "regions of type point" in "\n".join(data.summarize()) and add_up(data)


def test_regions_of_via_that_are_none_are_counted(tmp_path):
    root = drawn.draw_via(tmp_path)
    whole = read(root)
    file = root / "train" / "via_region_data.json"
    content = json.loads(file.read_text())
    first, second = list(content.values())[:2]
    lost = len(second["regions"])
    first["regions"] = [*first["regions"], "x", None, 3]
    second["regions"] = 7
    file.write_text(json.dumps(content))
    data = read(root)
    assert data.account.found == whole.account.found + 3 - lost and add_up(data)
    printed = "\n".join(data.summarize())
    assert "3 objects dropped: the region is no object of JSON" in printed
    assert "1 entries' regions are int, no list" in printed and second["filename"] in printed


def test_a_file_of_a_folder_is_read_alone(tmp_path):
    root = drawn.draw_coco(tmp_path)
    data = read(root / "annotations" / "instances_val.json")
    assert [image.name for image in data.images] == ["val/c.png"] and data.root == root


def test_label_maps_in_folders_of_splits_are_no_masks_of_instances(tmp_path):
    for split in ("train", "val"):
        drawn.draw_image(tmp_path / "images" / split / "a.png")
        drawn.draw_image(tmp_path / "masks" / split / "a.png")
    assert list(look_at(tmp_path).found) == ["maps"]
    drawn.draw_image(tmp_path / "images" / "train.png")  # now masks/train holds its objects
    (tmp_path / "images" / "val" / "a.png").rename(tmp_path / "images" / "b.png")
    data = read(tmp_path)
    assert [image.name for image in data.images] == ["images/train.png"]
    assert "their image is not there (images/val)" in "\n".join(data.summarize()) and add_up(data)
