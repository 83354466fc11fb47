"""One scene in the layout of each annotation tool, drawn after the documentation of its format.

Three images of 120 x 80 pixels, two for training and one for validation; each has a triangle of the
class 'bolt' and a box of the class 'nut', at places of its own.
"""

import base64
import io
import json
import zlib

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 120, 80
NAMES = {"a": "train", "b": "train", "c": "val"}


def triangle(number):
    """Return the corners of the bolt of an image, whole pixels."""
    return [(10 + number, 10), (50 + number, 12), (24 + number, 40 + number)]


def box(number):
    """Return left, top, right, bottom of the nut of an image, whole pixels."""
    return (60, 20 + number, 90 + number, 60)


def draw_image(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (40 * number, 90, 10)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def each():
    return [(number, name, split) for number, (name, split) in enumerate(NAMES.items())]


def yolo_line(label, points):
    shares = [
        value / side for point in points for value, side in zip(point, (WIDTH, HEIGHT), strict=True)
    ]
    return f"{label} " + " ".join(map(repr, shares))


def yolo_box(label, corners):
    x1, y1, x2, y2 = corners
    sides = (WIDTH, HEIGHT, WIDTH, HEIGHT)
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return f"{label} " + " ".join(repr(v / side) for v, side in zip(values, sides, strict=True))


def corners_of(number):
    x1, y1, x2, y2 = box(number)
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def draw_yolo(root, roboflow=False, boxes=False):
    """Ultralytics' images/SPLIT and labels/SPLIT, or Roboflow's SPLIT/images and SPLIT/labels."""
    for number, name, split in each():
        folder = {"train": "train", "val": "valid"}[split] if roboflow else split
        place = (f"{folder}/images", f"{folder}/labels")
        if not roboflow:
            place = (f"images/{folder}", f"labels/{folder}")
        draw_image(root / place[0] / f"{name}.png", number)
        lines = [yolo_line(0, triangle(number)), yolo_line(1, corners_of(number))]
        if boxes:
            lines = [yolo_box(1, box(number))]
        write(root / place[1] / f"{name}.txt", "\n".join(lines) + "\n")
    text = "nc: 2\nnames: ['bolt', 'nut']\n"
    if roboflow:  # its paths begin a folder too high
        text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n" + text
    else:
        text = "path: /content/data\ntrain: images/train\nval: images/val\n" + text
    write(root / "data.yaml", text)
    return root


def voc_object(label, corners, first, extra=""):
    x1, y1, x2, y2 = corners
    return (
        f"<object><name>{label}</name><difficult>0</difficult>{extra}<bndbox><xmin>{x1 + first}"
        f"</xmin><ymin>{y1 + first}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )


def bounds(points):
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def draw_voc(root, first=1):
    """Annotations/, JPEGImages/ and ImageSets/Main; boxes alone."""
    lists = {}
    for number, name, split in each():
        draw_image(root / "JPEGImages" / f"{name}.png", number)
        objects = voc_object("bolt", bounds(triangle(number)), first)
        objects += voc_object("nut", box(number), first)
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.png</filename>{size}{objects}</annotation>"
        write(root / "Annotations" / f"{name}.xml", text)
        lists.setdefault(split, []).append(name)
    for split, names in lists.items():
        write(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(names) + "\n")
    return root


def draw_labelme(root):
    """A JSON file beside each image, in a folder of each split."""
    for number, name, split in each():
        draw_image(root / split / f"{name}.png", number)
        x1, y1, x2, y2 = box(number)
        shapes = [
            dict(label="bolt", points=triangle(number), shape_type="polygon", group_id=None),
            dict(label="nut", points=[(x1, y1), (x2, y2)], shape_type="rectangle", group_id=None),
        ]
        content = dict(version="5.4.1", flags={}, shapes=shapes, imagePath=f"{name}.png")
        content |= dict(imageData=None, imageHeight=HEIGHT, imageWidth=WIDTH)
        write(root / split / f"{name}.json", content)
    return root


def draw_cvat(root):
    """CVAT for images 1.1: annotations.xml and images/SUBSET/."""
    parts = []
    for number, name, split in each():
        draw_image(root / "images" / split / f"{name}.png", number)
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in triangle(number))
        x1, y1, x2, y2 = box(number)
        parts.append(
            f'<image id="{number}" name="{split}/{name}.png" subset="{split}" width="{WIDTH}" '
            f'height="{HEIGHT}"><polygon label="bolt" occluded="0" points="{points}" z_order="0"/>'
            f'<box label="nut" occluded="0" xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" '
            f'ybr="{y2:.2f}" z_order="0"/></image>'
        )
    labels = "".join(
        f"<label><name>{label}</name><color>#ff0000</color></label>" for label in ("bolt", "nut")
    )
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}'
    write(root / "annotations.xml", text + "".join(parts) + "</annotations>")
    return root


def draw_via(root):
    """VIA 2: a file of annotations in the folder of each split, as of the balloon data set."""
    for split in ("train", "val"):
        content = {}
        for number, name, own in each():
            if own != split:
                continue
            draw_image(root / split / f"{name}.png", number)
            xs, ys = zip(*triangle(number), strict=True)
            x1, y1, x2, y2 = box(number)
            shapes = [
                dict(name="polygon", all_points_x=xs, all_points_y=ys),
                dict(name="rect", x=x1, y=y1, width=x2 - x1, height=y2 - y1),
            ]
            regions = [
                dict(shape_attributes=shape, region_attributes=dict(label=label))
                for shape, label in zip(shapes, ("bolt", "nut"), strict=True)
            ]
            entry = dict(filename=f"{name}.png", size=9, regions=regions, file_attributes={})
            content[f"{name}.png9"] = entry
        write(root / split / "via_region_data.json", content)
    return root


def draw_supervisely(root):
    """meta.json, and ann/ beside img/ in a folder of each split; the nut is a bitmap."""
    for number, name, split in each():
        draw_image(root / split / "img" / f"{name}.png", number)
        x1, y1, x2, y2 = box(number)
        buffer = io.BytesIO()
        Image.fromarray(np.full((y2 - y1, x2 - x1), 255, np.uint8)).save(buffer, "PNG")
        data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
        points = dict(exterior=triangle(number), interior=[])
        objects = [
            dict(classTitle="bolt", geometryType="polygon", points=points),
            dict(classTitle="nut", geometryType="bitmap", bitmap=dict(data=data, origin=[x1, y1])),
        ]
        content = dict(size=dict(height=HEIGHT, width=WIDTH), objects=objects, tags=[])
        write(root / split / "ann" / f"{name}.png.json", content)
    classes = [dict(title="bolt", shape="polygon"), dict(title="nut", shape="bitmap")]
    write(root / "meta.json", dict(classes=classes, tags=[]))
    return root


def draw_masks(root):
    """SPLIT/ID/images/ID.png and SPLIT/ID/masks/, one PNG an instance, named by its class."""
    from pycocotools import mask as coco_mask

    for number, name, split in each():
        folder = root / split / name
        draw_image(folder / "images" / f"{name}.png", number)
        (folder / "masks").mkdir()
        for label, points in (("bolt", triangle(number)), ("nut", corners_of(number))):
            flat = [float(value) for point in points for value in point]
            mask = coco_mask.decode(coco_mask.frPyObjects([flat], HEIGHT, WIDTH))[..., 0]
            Image.fromarray(mask * 255).save(folder / "masks" / f"{label}_1.png")
    return root


def draw_coco(root):
    """COCO's annotations/instances_SPLIT.json and a folder of each split."""
    for split in ("train", "val"):
        images, annotations = [], []
        for number, name, own in each():
            if own != split:
                continue
            draw_image(root / split / f"{name}.png", number)
            images.append(dict(id=number + 1, file_name=f"{name}.png", width=WIDTH, height=HEIGHT))
            for label, points in ((1, triangle(number)), (2, corners_of(number))):
                flat = [float(value) for point in points for value in point]
                x1, y1, x2, y2 = bounds(points)
                item = dict(id=len(annotations) + 1, image_id=number + 1, category_id=label)
                item |= dict(bbox=[x1, y1, x2 - x1, y2 - y1], segmentation=[flat], iscrowd=0)
                annotations.append(item | dict(area=(x2 - x1) * (y2 - y1)))
        categories = [dict(id=1, name="bolt"), dict(id=2, name="nut")]
        content = dict(images=images, annotations=annotations, categories=categories)
        write(root / "annotations" / f"instances_{split}.json", content)
    return root
