"""tools/check_dataset.py: planted faults are found, each by its name; clean data have none."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from hordet.datasets.checks.inspection import inspect_data
from hordet.datasets.shapes.files import DEFAULT_CLASSES, write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "shapes"
    return write_shapes(root, num_train=4, num_val=2, size=(64, 64))


@pytest.fixture
def root(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(shapes, tmp_path / "data")


def detection(root, classes=DEFAULT_CLASSES, folders=("train", "val"), names=("train", "val")):
    loaders = {}
    for key, folder, name in zip(("train", "val"), folders, names, strict=True):
        dataset = dict(
            type="mmdet.CocoDataset",
            data_root=str(root),
            ann_file=f"annotations/instances_{name}.json",
            data_prefix=dict(img=folder),
            metainfo=dict(classes=classes) if classes else {},
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True)],
        )
        loaders[f"{key}_dataloader"] = dict(dataset=dataset)
    return Config(loaders)


def segmentation(root, reduce_zero_label=False, ade=False):
    classes = DEFAULT_CLASSES if reduce_zero_label else ("background", *DEFAULT_CLASSES)
    loaders = {}
    for split in ("train", "val"):
        dataset = dict(
            type="mmseg.BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path=split, seg_map_path=f"labels/{split}"),
            img_suffix=".png",
            metainfo=dict(classes=classes),
            reduce_zero_label=reduce_zero_label,
            pipeline=[],
        )
        if ade:
            folder = dict(train="training", val="validation")[split]
            prefix = dict(img_path=f"images/{folder}", seg_map_path=f"annotations/{folder}")
            dataset.update(type="mmseg.ADE20KDataset", metainfo={}, data_prefix=prefix)
            dataset.update(img_suffix=".jpg", reduce_zero_label=True)
        loaders[f"{split}_dataloader"] = dict(dataset=dataset)
    return Config(loaders)


def test_classes_are_counted_as_new_config_counts_them(root):
    """Crowds, and objects without the mask that is loaded, are not learned from."""
    from hordet.new_config import measure_coco

    for split, crowds in (("train", 3), ("val", 1)):
        path = root / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        for annotation in content["annotations"][:crowds]:
            annotation["iscrowd"] = 1
        content["annotations"][crowds]["segmentation"] = []
        path.write_text(json.dumps(content))
    cfg = detection(root)
    counted = inspect_data(cfg).histograms
    assert counted["train_dataloader"] == measure_coco(root).counts
    assert sum(counted["train_dataloader"].values()) == len(read(root, "train")) - 4
    assert sum(counted["val_dataloader"].values()) == len(read(root, "val")) - 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.pipeline[0].with_mask = False
    boxes = measure_coco(root, without_mask="boxes-alone").counts
    counted = inspect_data(cfg).histograms
    assert counted["train_dataloader"] == boxes and sum(boxes.values()) == (
        len(read(root, "train")) - 3
    )


def read(root, split):
    path = root / "annotations" / f"instances_{split}.json"
    return json.loads(path.read_text())["annotations"]


def image(name, change):
    """Change an image's file."""
    return detection, lambda root: change(root / "train" / name)


def annotations(change):
    """Change the annotation file."""

    def plant(root):
        path = root / "annotations" / "instances_train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return detection, plant


def first(**values):
    return annotations(lambda content: content["annotations"][0].update(values))


def label_map(change):
    """Change a label map, (64, 64) uint8."""

    def plant(root):
        path = root / "labels" / "train" / "000001.png"
        Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return segmentation, plant


def turned(recorded_as_stored):
    """Store an image turned, as a telephone does, with an EXIF orientation."""

    def plant(root):
        path = root / "train" / "000001.png"
        pixels = Image.open(path).convert("RGB").resize((48, 64))
        exif = Image.Exif()
        exif[274] = 6 if recorded_as_stored else 3
        pixels.save(path, exif=exif)

        def record(content):
            content["images"][0].update(width=48, height=64)
            kept = [a for a in content["annotations"] if a["image_id"] > 1]
            content["annotations"] = kept

        annotations(record)[1](root)

    return detection, plant


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def copy(source, target):
    return detection, lambda root: shutil.copy(root / source, root / target)


def crowd(content):
    for annotation in content["annotations"]:
        if annotation["image_id"] == 1:
            annotation["iscrowd"] = 1


FAULTS = {
    "a missing image": (*image("000001.png", lambda p: p.unlink()), "are missing"),
    "a cut off image": (*image("000001.png", truncated), "cannot be decoded whole"),
    "no image": (*image("000001.png", lambda p: p.write_text("x")), "cannot be decoded whole"),
    "an empty image": (*image("000001.png", lambda p: p.write_bytes(b"")), "cannot be decoded"),
    "an image of another size": (
        *image("000001.png", lambda p: Image.open(p).resize((32, 40)).save(p)),
        "32x40 instead of 64x64",
    ),
    "a size recorded wrong": (
        *annotations(lambda c: c["images"][2].update(width=80)),
        "64x64 instead of 80x64",
    ),
    "an image turned by EXIF": (*turned(True), "annotated as stored"),
    "an image upside down by EXIF": (*turned(False), "turned by EXIF data, which the loading"),
    "an image id twice": (*annotations(lambda c: c["images"][1].update(id=1)), "have the same id"),
    "a file name twice": (
        *annotations(lambda c: c["images"][1].update(file_name="000001.png")),
        "have the same file_name",
    ),
    "an annotation id twice": (
        *annotations(lambda c: c["annotations"][1].update(id=1)),
        "repeat the id",
    ),
    "a category id twice": (
        *annotations(lambda c: c["categories"][1].update(id=1)),
        "several categories of one id",
    ),
    "a category spelt otherwise": (
        *annotations(lambda c: c["categories"][0].update(name="circel")),
        "not in the file: circle",
    ),
    "boxes in shares of the image": (
        *annotations(
            lambda c: [a.update(bbox=[v / 64 for v in a["bbox"]]) for a in c["annotations"]]
        ),
        r"^(\d+) of \1 objects of .* have a box between 0 and 1",
    ),
    "a box without area": (*first(bbox=[3, 3, 0, 9]), "box with no area"),
    "a box outside": (*first(bbox=[99, 3, 9, 9]), "box outside its image"),
    "a box over the border": (*first(bbox=[40, 40, 60, 60]), "reaches over the border"),
    "a box of NaN": (*first(bbox=[float("nan"), 3, 9, 9]), "hold no numbers"),
    "a box that is not its mask's": (*first(bbox=[0, 0, 3, 3]), "not the box of its mask"),
    "a polygon of two points": (*first(segmentation=[[1, 1, 9, 9]]), "three x, y pairs"),
    "a polygon of odd numbers": (*first(segmentation=[[1, 1, 9, 9, 1, 9, 4]]), "three x, y pairs"),
    "a polygon outside": (*first(segmentation=[[1, 1, 99, 9, 1, 99]]), "segmentation outside"),
    "a polygon without area": (
        *first(bbox=[1, 1, 8, 8], segmentation=[[1, 1, 9, 9, 1, 1]]),
        "mask without area",
    ),
    "an RLE of another size": (
        *first(segmentation=dict(size=[8, 8], counts=[64])),
        "RLE of another size",
    ),
    "an area that is not its mask's": (*first(area=3000.0), "not the area of its mask"),
    "crowds alone": (*annotations(crowd), "have crowds alone"),
    "an annotation of no image": (*first(image_id=77), "image_id that no image has"),
    "an annotation of no category": (*first(category_id=77), "category_id that no category has"),
    "an image in both splits": (
        *copy("val/000005.png", "train/000001.png"),
        "both in the training and in the validation",
    ),
    "an image twice": (*copy("train/000002.png", "train/000001.png"), "there twice in train"),
    "a label that is no class": (*label_map(lambda m: m * 0 + 9), "holds value 9"),
    "labels that count from 1": (
        *label_map(lambda m: np.where(m == 0, 7, m).astype(np.uint8)),
        "set reduce_zero_label=True",
    ),
    "a map of another size": (*label_map(lambda m: m[:32]), "64x32, its image"),
    "a map of colors": (*label_map(lambda m: np.stack([m] * 3, -1)), "has 3 channels"),
    "a map of ignored pixels": (*label_map(lambda m: m * 0 + 255), "every pixel is ignored"),
    "a map cut off": (
        segmentation,
        lambda root: truncated(root / "labels" / "train" / "000001.png"),
        "label map .*cannot be decoded",
    ),
    "a missing map": (
        segmentation,
        lambda root: (root / "labels" / "train" / "000001.png").unlink(),
        "have no label map",
    ),
}


def lines_of(cfg, jobs=1):
    findings = inspect_data(cfg, jobs=jobs).findings
    return findings.errors + findings.warnings


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(root, name):
    import re

    make, plant, expected = FAULTS[name]
    plant(root)
    lines = lines_of(make(root))
    assert any(re.search(expected, line) for line in lines), lines
    assert len(FAULTS) >= 30


def test_clean_shapes(root):
    result = inspect_data(detection(root), jobs=2)
    assert result.findings.errors == result.findings.warnings == [] and result.images == 6
    content = json.loads((root / "annotations" / "instances_train.json").read_text())
    assert sum(result.histograms["train_dataloader"].values()) == len(content["annotations"])
    for reduce_zero_label in (True, False):
        result = inspect_data(segmentation(root, reduce_zero_label))
        assert result.findings.errors == result.findings.warnings == []
        pixels = sum(result.histograms["train_dataloader"].values())
        assert (pixels == 4 * 64 * 64) == (not reduce_zero_label)


COCO = dict(classes=None, folders=("train2017", "val2017"), names=("train2017", "val2017"))


def test_real_data_clean_and_with_planted_faults(shared_data, tmp_path):
    root = shutil.copytree(shared_data / "coco_mini", tmp_path / "coco")
    cfg = detection(root, **COCO)
    assert lines_of(cfg, jobs=2) == []
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    images = [image["file_name"] for image in content["images"]]
    spoilt = [image["id"] for image in content["images"][:2]]
    large = [a for a in content["annotations"] if a["area"] > 9000 and not a["iscrowd"]]
    large = [a for a in large if a["image_id"] not in spoilt]
    large[0]["area"] /= 3
    large[1]["bbox"][2] /= 3
    path.write_text(json.dumps(content))
    truncated(root / "train2017" / images[0])
    shutil.copy(next((root / "val2017").iterdir()), root / "train2017" / images[1])
    lines = " ".join(lines_of(cfg, jobs=2))
    for words in ("decoded whole", "area of its mask", "box of its mask", "both in the training"):
        assert words in lines


def test_real_label_maps_clean_and_with_planted_faults(shared_data, tmp_path):
    root = shutil.copytree(shared_data / "ade_mini", tmp_path / "ade")
    cfg = segmentation(root, ade=True)
    assert lines_of(cfg) == []
    maps = sorted((root / "annotations" / "training").iterdir())
    values = np.array(Image.open(maps[0]))
    Image.fromarray(np.full_like(values, 200)).save(maps[0])
    Image.fromarray(values[:50]).save(maps[1])
    truncated(maps[2])
    lines = " ".join(lines_of(cfg))
    for words in ("holds value 200", "Both must have one size", "cannot be decoded"):
        assert words in lines


def test_the_tool_for_a_pipeline(repository, root, tmp_path):
    base = repository / "configs" / "shapes" / "mask-rcnn_hornet-nano_horfpn_7e.py"
    (tmp_path / "c.py").write_text(f"_base_ = {str(base)!r}\n")
    truncated(root / "train" / "000001.png")
    tool = [sys.executable, str(repository / "tools" / "check_dataset.py"), "c.py"]
    result = subprocess.run(
        [*tool, "--data-root", "data", "--jobs", "2", "--json", "r.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout.endswith("6 images, 1 errors, 0 warnings\n")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["images"] == 6 and "000001.png" in report["findings"]["errors"][0]
    assert report["histograms"]["train_dataloader"]["circle"] > 0


def test_counts_are_of_objects_where_objects_are_meant(root):
    """All objects of an image reach over the border: never '9 of 6 images'."""
    _, plant = annotations(lambda c: [a.update(bbox=[40, 30, 39, 60]) for a in c["annotations"]])
    plant(root)
    (line,) = [text for text in inspect_data(detection(root)).findings.warnings if "over" in text]
    count, total = (int(n) for n in line.split(" annotations ")[0].split(" of "))
    assert 6 < count == total and "reaches over the border" in line


def test_a_dark_image_and_several_files_are_counted(root):
    gray = np.full((64, 64), 4000, np.uint16)
    Image.fromarray(gray).save(root / "train" / "000001.png")
    cfg = detection(root)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[dataset, dataset])
    result = inspect_data(cfg)
    assert [text for text in result.findings.warnings if "1 of 6 images are nearly black" in text]
    content = json.loads((root / "annotations" / "instances_train.json").read_text())
    number = sum(result.histograms["train_dataloader"].values())
    assert number == 2 * len(content["annotations"])
