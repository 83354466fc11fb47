"""Small data sets, drawn by a seed, with what exporters, editors and disks do to them.

`draw_set` writes images of 32 to 64 pixels with boxes, masks or label maps, does none to three
things to them, and writes a config, `config.py`, of a detector or segmentor of a few
thousand weights.
"""

import json
import math
import random

import numpy as np
from PIL import Image

NAMES = ("plain", "two words", "sub/deep", "ümläut", "a#b", "100%", "a%20b", "Upper", "漂", "x;y&z")
CLASS_NAMES = [
    ("bolt", "nut"),
    ("圆", "$x^$ \\frac{"),
    ("it's", 'a "b"'),
    ("a/b", "__"),
    ("0", "1"),
]
# Objects, numbers and texts that stand where they should not.
ODD = [
    0,
    -1,
    1.0,
    0.5,
    1e300,
    -1e9,
    math.nan,
    math.inf,
    "1",
    None,
    True,
    [1],
    {},
    2**70,
    "",
    [[[]]],
]


def draw_set(seed, folder):
    """Write a data set and `config.py` into a folder; return what was done to them."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    done = []
    kind = rng.choice(["boxes", "masks", "masks", "maps"])
    names = rng.sample(NAMES, rng.randint(2, 4))
    (Maps if kind == "maps" else Objects)(rng, folder, names, kind == "masks", done).write()
    return [kind, *done]


def save_image(rng, path, pixels, done):
    """Write an image in one of the forms that images come in, and at times damage it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, gray = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    # Seldom those that are refused, or that annotations may not fit.
    form = rng.choice(list(FORMS) if rng.random() < 0.1 else ["PNG"] * 4 + READ)
    if form == "PNG":
        image.save(path, "PNG")
    else:
        FORMS[form](path, image, gray)
        done.append(f"{path.name} as {form}")
    if rng.random() < 0.02:
        damage = rng.choice(list(DAMAGES))
        DAMAGES[damage](path)
        done.append(f"{path.name} {damage}")


def _save_turned(path, image, gray):
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, "JPEG", exif=exif)


FORMS = {
    "JPEG": lambda path, image, gray: image.save(path, "JPEG"),
    "gray": lambda path, image, gray: gray.save(path, "PNG"),
    "1 bit": lambda path, image, gray: gray.convert("1").save(path, "PNG"),
    "palette": lambda path, image, gray: image.quantize(16).save(path, "PNG"),
    "alpha": lambda path, image, gray: image.convert("RGBA").save(path, "PNG"),
    "gray and alpha": lambda path, image, gray: gray.convert("LA").save(path, "PNG"),
    "CMYK": lambda path, image, gray: image.convert("CMYK").save(path, "JPEG"),
    "BMP": lambda path, image, gray: image.save(path, "BMP"),
    "GIF": lambda path, image, gray: image.save(
        path, "GIF", save_all=True, append_images=[image.rotate(90)]
    ),
    "WebP": lambda path, image, gray: image.save(path, "WEBP"),
    "TIFF": lambda path, image, gray: image.save(path, "TIFF", compression="tiff_lzw"),
    "16 bits": lambda path, image, gray: Image.fromarray(
        np.asarray(gray).astype(np.uint16) * 257
    ).save(path, "PNG"),
    "12 of 16 bits": lambda path, image, gray: Image.fromarray(
        np.asarray(gray).astype(np.uint16) * 16
    ).save(path, "TIFF"),
    "float": lambda path, image, gray: Image.fromarray(
        np.asarray(gray).astype(np.float32) / 255
    ).save(path, "TIFF"),
    "float to 255": lambda path, image, gray: Image.fromarray(
        np.asarray(gray).astype(np.float32)
    ).save(path, "TIFF"),
    "32 bits": lambda path, image, gray: Image.fromarray(
        np.asarray(gray).astype(np.int32) * 300
    ).save(path, "TIFF"),
    "turned": _save_turned,
}
READ = [form for form in FORMS if form not in ("float to 255", "32 bits", "turned")]
DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404</html>"),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere.png")),
    "with zeros inside": lambda path: path.write_bytes(
        path.read_bytes()[:60] + bytes(40) + path.read_bytes()[100:]
    ),
}


class Objects:
    """A COCO data set of boxes or masks."""

    def __init__(self, rng, folder, names, masks, done):
        self.rng, self.folder, self.masks, self.done = rng, folder, masks, done
        self.names = names
        self.classes = rng.choice(CLASS_NAMES)

    def write(self):
        rng = self.rng
        contents = {split: self.draw(split) for split in ("train", "val")}
        config = self.configure()
        for _ in range(rng.choice([0, 0, 1, 1, 1, 2])):
            split = rng.choice(["train", "train", "val"])
            change = rng.choice(list(CHANGES))
            try:
                CHANGES[change](rng, contents[split], config)
            except (TypeError, KeyError, IndexError, ValueError, AttributeError):
                continue  # what it is about was taken away by the one before
            self.done.append(f"{split}: {change}")
        for split, content in contents.items():
            path = self.folder / f"{split}.json"
            form = rng.choice(["plain"] * 40 + list(SPELLINGS))
            if form != "plain":
                self.done.append(f"{split}.json {form}")
            path.write_bytes(SPELLINGS.get(form, lambda c: json.dumps(c).encode())(content))
        write_config(self.folder / "config.py", config)

    def draw(self, split):
        rng = self.rng
        images, annotations = [], []
        for number, name in enumerate(self.names, 1):
            height, width = rng.randint(32, 64), rng.randint(32, 64)
            noise = np.random.default_rng(rng.randrange(2**32))
            pixels = noise.integers(0, 90, (height, width, 3), dtype=np.uint8)
            for _ in range(rng.randint(0 if number > 1 else 1, 4)):
                w, h = rng.randint(5, 20), rng.randint(5, 20)
                x, y = rng.randint(0, width - w), rng.randint(0, height - h)
                pixels[y : y + h, x : x + w] = noise.integers(100, 256, 3)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=rng.randint(1, 2),
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=self.outline(x, y, w, h, (height, width)),
                    )
                )
            file = f"{name}.{'png' if split == 'val' else 'jpg'}"
            images.append(dict(id=number, file_name=file, width=width, height=height))
            before = len(self.done)
            save_image(rng, self.folder / split / file, pixels, self.done)
            if any("turned" in word for word in self.done[before:]):
                images[-1].update(width=height, height=width)
                if rng.random() < 0.5:
                    images[-1].update(width=width, height=height)
        categories = [dict(id=k, name=name) for k, name in enumerate(self.classes, 1)]
        return dict(images=images, annotations=annotations, categories=categories)

    def outline(self, x, y, w, h, size):
        if not self.masks:
            return []
        if self.rng.random() < 0.3:
            mask = np.zeros(size, np.uint8)
            mask[y : y + h, x : x + w] = 1
            flat = mask.ravel(order="F")
            edges = np.flatnonzero(np.diff(flat)) + 1
            runs = np.diff([0, *edges, flat.size]).tolist()
            return dict(size=list(size), counts=([0] if flat[0] else []) + runs)
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]

    def configure(self):
        load = dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=self.masks)
        steps = [
            dict(type="hordet.LoadImageFromFile"),
            load,
            dict(type="mmdet.Resize", scale=(64, 64), keep_ratio=True),
        ]
        end = dict(type="mmdet.PackDetInputs")
        common = dict(type="mmdet.CocoDataset", data_root=str(self.folder))
        common["metainfo"] = dict(classes=list(self.classes))
        flip = dict(type="mmdet.RandomFlip", prob=0.5)
        train = dict(common, ann_file="train.json", data_prefix=dict(img="train"))
        train.update(pipeline=[*steps, flip, end], filter_cfg=dict(filter_empty_gt=True))
        val = dict(common, ann_file="val.json", data_prefix=dict(img="val"), test_mode=True)
        val["pipeline"] = [*steps, end]
        metric = dict(type="hordet.CocoMetric", ann_file=str(self.folder / "val.json"))
        metric["metric"] = ["bbox", "segm"] if self.masks else ["bbox"]
        return make_config(make_detector(len(self.classes), self.masks), train, val, metric)


def _each(rng, items):
    """All items, or one."""
    return items if rng.random() < 0.4 else [rng.choice(items)] if items else []


def _set_odd(part, keys):
    def change(rng, content, config):
        key, value = rng.choice(keys), rng.choice(ODD)
        for item in _each(rng, content[part]):
            item[key] = value

    return change


def _drop(part, keys):
    def change(rng, content, config):
        key = rng.choice(keys)
        for item in _each(rng, content[part]):
            item.pop(key, None)

    return change


def _set_shape(rng, content, config):
    shape = rng.choice(
        [[], None, "", "text", 5, [[]], [1, 2, 3, 4], [[1, 2, 9, 8]], [None], {}, [[1] * 7]]
        + [[[1, 2, 30, 2, 30, 30], [0, 0]], [[-60, -48, -59, -51, -78, -52]], [[1e9] * 6]]
        + [dict(size=[4, 4], counts=[16]), dict(size=[32, 32], counts="o0~~~")]
        + [dict(size=[40, 40], counts=[1e9]), dict(counts="abc"), [["a"] * 6], [[math.nan] * 6]]
    )
    for item in _each(rng, content["annotations"]):
        item["segmentation"] = shape


def _set_box(rng, content, config):
    box = rng.choice(
        [[0, 0, 0, 0], [-5, -5, 9, 9], [0, 0, 1e6, 1e6], [5, 5, -3, 4], [1, 2, 3], [1, 2, 3, 4, 5]]
        + [[100, 100, 5, 5], ["1", "2", "3", "4"], [math.nan, 0, 5, 5], [[1, 2, 3, 4]], 7]
        + [[0, 0, 0.2, 0.2], [0, 0, 32, 32], [30.5, 30.5, 40, 40], [1e-9, 1e-9, 1e-9, 1e-9]]
    )
    for item in _each(rng, content["annotations"]):
        item["bbox"] = box


def _change_name(rng, content, config):
    changes = [
        lambda name: name.replace("/", "\\"),
        lambda name: f"C:\\export\\{name}",
        lambda name: f"images/train/{name}",
        lambda name: f"./{name}",
        lambda name: f"../train/{name}",
        lambda name: name.swapcase(),
        lambda name: name.replace(" ", "%20").replace("#", "%23"),
        lambda name: "",
        lambda name: "a\0b.png",
        lambda name: "\ud800.png",
        lambda name: "n" * 300 + ".png",
        lambda name: "/etc/passwd",
        lambda name: f"{name}/",
        lambda name: ".",
        lambda name: f"http://example.org/{name}",
    ]
    change = rng.choice(changes)
    for image in _each(rng, content["images"]):
        image["file_name"] = change(image["file_name"])


def _turn_numbers(rng, content, config):
    change = rng.choice([float, str, lambda v: -v, lambda v: v + 2**63, lambda v: v - 1])
    parts = (("images", ("id",)), ("annotations", ("id", "image_id")))
    for part, keys in parts:
        for item in content[part]:
            for key in keys:
                item[key] = change(item[key])


def _change_boxes(rng, content, config):
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    which = rng.choice(["shares", "corners", "centers", "halves"])
    for item in content["annotations"]:
        x, y, w, h = item["bbox"]
        width, height = sizes[item["image_id"]]
        item["bbox"] = {
            "shares": [x / width, y / height, w / width, h / height],
            "corners": [x, y, x + w, y + h],
            "centers": [x + w / 2, y + h / 2, w, h],
            "halves": [x + 0.5, y + 0.5, w - 0.25, h - 0.25],
        }[which]


def _change_categories(rng, content, config):
    rng.choice(
        [
            lambda c: c.reverse(),
            lambda c: c.pop(),
            lambda c: c.clear(),
            lambda c: c.append(dict(id=9, name="other")),
            lambda c: c.append(dict(id=1, name="other")),
            lambda c: c.append(dict(c[0], id=9)),
            lambda c: c[0].update(id=0),
            lambda c: c[0].update(id=2**70),
            lambda c: c[0].update(name=c[0]["name"].upper() + " "),
            lambda c: c[0].update(name=None),
            lambda c: c[0].update(name=["x"]),
            lambda c: c[0].update(supercategory=5, keypoints=[[]]),
            lambda c: c.append("text"),
        ]
    )(content["categories"])


def _repeat(rng, content, config):
    part = rng.choice(["images", "annotations", "categories"])
    content[part].append(dict(rng.choice(content[part])))


def _empty(rng, content, config):
    content[rng.choice(["images", "annotations", "categories"])].clear()


def _replace_list(rng, content, config):
    key = rng.choice(["images", "annotations", "categories"])
    content[key] = rng.choice([None, {}, "x", [[]], {"1": {}}, [1, 2]])


def _crowds(rng, content, config):
    for item in _each(rng, content["annotations"]):
        item["iscrowd"] = rng.choice([1, True, 1.0, "1", 2, 0.5])


def _add_keys(rng, content, config):
    for item in content["annotations"]:
        item.update(score=math.nan, ignore=1, attributes=dict(occluded=True), keypoints=[0] * 9)
    content.update(info=None, licenses={}, extra=[[]] * 3)


CHANGES = {
    "an odd number in an object": _set_odd(
        "annotations", ["id", "image_id", "category_id", "area", "iscrowd"]
    ),
    "an odd number in an image": _set_odd("images", ["id", "width", "height"]),
    "an odd number in a category": _set_odd("categories", ["id", "name"]),
    "a key of objects is missing": _drop(
        "annotations", ["id", "image_id", "category_id", "area", "iscrowd", "bbox", "segmentation"]
    ),
    "a key of images is missing": _drop("images", ["id", "width", "height", "file_name"]),
    "a key of categories is missing": _drop("categories", ["id", "name"]),
    "a shape": _set_shape,
    "a box": _set_box,
    "file names": _change_name,
    "numbers as ids": _turn_numbers,
    "all boxes": _change_boxes,
    "categories": _change_categories,
    "an item twice": _repeat,
    "a list without items": _empty,
    "a list that is none": _replace_list,
    "crowds": _crowds,
    "more keys": _add_keys,
}


def _nest(content):
    text = json.dumps(content)
    return (text[:-1] + ', "deep": ' + "[" * 5000 + "]" * 5000 + "}").encode()


SPELLINGS = {
    "with BOM": lambda c: json.dumps(c, ensure_ascii=False).encode("utf-8-sig", "replace"),
    "UTF-8": lambda c: json.dumps(c, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    "UTF-16": lambda c: json.dumps(c, ensure_ascii=False).encode("utf-16", "surrogatepass"),
    "UTF-32": lambda c: json.dumps(c).encode("utf-32-be"),
    "GBK": lambda c: json.dumps(c, ensure_ascii=False).encode("gbk", "replace"),
    "cut": lambda c: json.dumps(c).encode()[:-20],
    "empty": lambda c: b"",
    "of binary": lambda c: bytes(range(256)),
    "a list": lambda c: json.dumps([c]).encode(),
    "with a key twice": lambda c: (json.dumps(c)[:-1] + ', "images": []}').encode(),
    "with deep lists": _nest,
    "with a huge number": lambda c: (json.dumps(c)[:-1] + ', "n": ' + "9" * 5000 + "}").encode(),
    "with a comment": lambda c: json.dumps(c).encode() + b" // by hand",
    "zipped": lambda c: b"PK\x03\x04" + json.dumps(c).encode(),
    "lines": lambda c: json.dumps(c, indent=1).replace("\n", "\r\n").encode(),
}


class Maps:
    """Images with label maps."""

    def __init__(self, rng, folder, names, masks, done):
        self.rng, self.folder, self.names, self.done = rng, folder, names, done
        self.classes = rng.choice(CLASS_NAMES)

    def write(self):
        rng = self.rng
        for split in ("train", "val"):
            for name in self.names:
                height, width = rng.randint(32, 64), rng.randint(32, 64)
                noise = np.random.default_rng(rng.randrange(2**32))
                labels = np.zeros((height, width), np.uint8)
                labels[: height // 2] = 1
                pixels = noise.integers(0, 90, (height, width, 3), dtype=np.uint8)
                pixels[: height // 2] += 120
                save_image(rng, self.folder / "images" / split / f"{name}.jpg", pixels, self.done)
                path = self.folder / "maps" / split / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                form = rng.choice(["plain"] * 200 + list(LABELS))
                if form != "plain":
                    self.done.append(f"map of {name}: {form}")
                LABELS.get(form, lambda v, p, r: Image.fromarray(v).save(p, "PNG"))(
                    labels, path, rng
                )
        config = self.configure()
        if rng.random() < 0.15:
            config["train_dataloader"]["dataset"]["ann_file"] = "list.txt"
            names = rng.sample([*self.names, "", "no such"], len(self.names))
            text = "\n".join(names) + "\n"
            (self.folder / "list.txt").write_bytes(
                text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
            )
            self.done.append(f"a list of names {names}")
        if rng.random() < 0.2:
            (self.folder / "labelmap.txt").write_text(
                rng.choice(["a:0,0,0::\nb:1,1,1::\n", "broken\n", "a:1,2::\n", ""])
            )
            self.done.append("labelmap.txt")
        write_config(self.folder / "config.py", config)

    def configure(self):
        number = len(self.classes)
        steps = [
            dict(type="hordet.LoadImageFromFile"),
            dict(type="hordet.LoadSegAnnotations", num_classes=number),
        ]
        resize = dict(type="Resize", scale=(64, 64), keep_ratio=False)
        end = dict(type="mmseg.PackSegInputs")
        common = dict(type="mmseg.BaseSegDataset", data_root=str(self.folder))
        common.update(metainfo=dict(classes=list(self.classes)), img_suffix=".jpg")
        common["seg_map_suffix"] = ".png"
        prefix = lambda split: dict(img_path=f"images/{split}", seg_map_path=f"maps/{split}")  # noqa: E731
        train = dict(common, data_prefix=prefix("train"), pipeline=[*steps, resize, end])
        val = dict(common, data_prefix=prefix("val"), test_mode=True)
        val["pipeline"] = [steps[0], resize, steps[1], end]
        metric = dict(type="hordet.IoUMetric", iou_metrics=["mIoU"])
        return make_config(make_segmentor(number), train, val, metric, "mmseg")


def _save_values(kind, mode="PNG"):
    def save(labels, path, rng):
        values = labels.astype(kind)
        Image.fromarray(values).save(path, mode)

    return save


def _put(kind, values, mode="TIFF"):
    def save(labels, path, rng):
        changed = labels.astype(kind)
        changed[:3, :4] = rng.choice(values)
        Image.fromarray(changed).save(path, mode)

    return save


LABELS = {
    "16 bits": _save_values(np.uint16),
    "float": _save_values(np.float32, "TIFF"),
    "32 bits": _save_values(np.int32, "TIFF"),
    "ignored": _put(np.uint8, [255], "PNG"),
    "beyond": _put(np.uint8, [2, 7, 254], "PNG"),
    "beyond 8 bits": _put(np.uint16, [256, 65535], "PNG"),
    "below 0": _put(np.int32, [-1, -9999]),
    "fractions": _put(np.float32, [0.5, math.nan, math.inf, -3]),
    "all ignored": lambda v, p, r: Image.fromarray(np.full_like(v, 255)).save(p),
    "colors": lambda v, p, r: Image.fromarray(np.dstack([v] * 3)).save(p),
    "alpha": lambda v, p, r: Image.fromarray(np.dstack([v, v])).save(p),
    "palette": lambda v, p, r: Image.fromarray(v).convert("P").save(p),
    "1 bit": lambda v, p, r: Image.fromarray(v.astype(bool)).save(p),
    "another size": lambda v, p, r: Image.fromarray(v[:-3]).save(p),
    "turned": lambda v, p, r: Image.fromarray(v.T.copy()).save(p),
    "cut": lambda v, p, r: (Image.fromarray(v).save(p), DAMAGES["cut"](p)),
    "empty": lambda v, p, r: p.write_bytes(b""),
    "missing": lambda v, p, r: None,
    "JPEG": lambda v, p, r: Image.fromarray(v).save(p, "JPEG"),
    "animated": lambda v, p, r: Image.fromarray(v).save(
        p, "GIF", save_all=True, append_images=[Image.fromarray(1 - v)]
    ),
}


def write_config(path, config):
    """Write a config as a Python file of data."""
    lines = [f"{key} = {value!r}\n" for key, value in config.items()]
    path.write_text("".join(lines), encoding="utf-8")


def make_config(model, train, val, metric, scope="mmdet"):
    """A whole config of one epoch without workers."""
    load = dict(batch_size=2, num_workers=0, persistent_workers=False)
    return dict(
        default_scope=scope,
        model=model,
        train_dataloader=dict(
            load, sampler=dict(type="DefaultSampler", shuffle=True), dataset=train
        ),
        val_dataloader=dict(
            load, batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False), dataset=val
        ),
        test_dataloader=dict(
            load, batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False), dataset=val
        ),
        val_evaluator=metric,
        test_evaluator=metric,
        train_cfg=dict(type="hordet.EpochBasedTrainLoop", max_epochs=1, val_interval=1),
        val_cfg=dict(type="ValLoop"),
        test_cfg=dict(type="TestLoop"),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-4)),
        default_hooks=dict(checkpoint=dict(type="hordet.CheckpointHook", interval=1)),
        custom_hooks=[dict(type="hordet.PredictionSheetHook", num_images=2)],
        randomness=dict(seed=0),
    )


def _make_backbone():
    return dict(
        type="hordet.HorNet",
        arch=dict(base_channels=8, depths=[1, 1, 1, 1], orders=[1, 1, 1, 1]),
    )


def make_detector(classes, masks):
    """The config of a Faster or Mask R-CNN of some thousand weights."""
    pool = dict(type="SingleRoIExtractor", out_channels=8, featmap_strides=[8, 16])
    roi = dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(pool, roi_layer=dict(type="RoIAlign", output_size=3)),
        bbox_head=dict(
            type="Shared2FCBBoxHead",
            in_channels=8,
            fc_out_channels=8,
            roi_feat_size=3,
            num_classes=classes,
            loss_bbox=dict(type="L1Loss"),
        ),
    )
    if masks:
        roi["mask_roi_extractor"] = dict(pool, roi_layer=dict(type="RoIAlign", output_size=4))
        roi["mask_head"] = dict(
            type="FCNMaskHead", num_convs=1, in_channels=8, conv_out_channels=8, num_classes=classes
        )
    assigner = dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.3)
    sampler = dict(type="RandomSampler", num=16, pos_fraction=0.5, add_gt_as_proposals=True)
    nms = dict(type="nms", iou_threshold=0.7)
    part = dict(assigner=assigner, sampler=sampler, pos_weight=-1, debug=False)
    proposals = dict(nms_pre=32, max_per_img=16, nms=nms, min_bbox_size=0)
    return dict(
        type="mmdet.MaskRCNN" if masks else "mmdet.FasterRCNN",
        data_preprocessor=dict(
            type="mmdet.DetDataPreprocessor",
            mean=[100, 100, 100],
            std=[60, 60, 60],
            pad_mask=masks,
            pad_size_divisor=32,
        ),
        backbone=_make_backbone(),
        neck=dict(
            type="mmdet.FPN",
            in_channels=[8, 16, 32, 64],
            out_channels=8,
            num_outs=2,
            start_level=1,
            end_level=2,
        ),
        rpn_head=dict(
            type="mmdet.RPNHead",
            in_channels=8,
            feat_channels=8,
            anchor_generator=dict(
                type="AnchorGenerator", scales=[2], ratios=[1.0], strides=[8, 16]
            ),
            loss_bbox=dict(type="L1Loss"),
        ),
        roi_head=roi,
        train_cfg=dict(
            rpn=dict(part, sampler=dict(sampler, add_gt_as_proposals=False), allowed_border=-1),
            rpn_proposal=proposals,
            rcnn=dict(part, mask_size=8),
        ),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(score_thr=0.0, nms=nms, max_per_img=8, mask_thr_binary=0.5),
        ),
    )


def make_segmentor(classes):
    """The config of an FCN of some thousand weights."""
    return dict(
        type="mmseg.EncoderDecoder",
        data_preprocessor=dict(
            type="mmseg.SegDataPreProcessor",
            mean=[100, 100, 100],
            std=[60, 60, 60],
            bgr_to_rgb=True,
            pad_val=0,
            seg_pad_val=255,
            size=[64, 64],
            test_cfg=dict(size_divisor=32),
        ),
        backbone=_make_backbone(),
        decode_head=dict(
            type="mmseg.FCNHead",
            in_channels=16,
            in_index=1,
            channels=8,
            num_convs=1,
            num_classes=classes,
            norm_cfg=dict(type="BN"),
        ),
        train_cfg={},
        test_cfg=dict(mode="whole"),
    )
