"""The check before a run: each fault of the data is named, all at once, and good data pass."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from hordet.datasets.checks.before_training import check_datasets
from hordet.datasets.shapes.files import DEFAULT_CLASSES, write_shapes
from hordet.errors import DatasetError, DatasetWarning

ANNOTATIONS = "annotations/instances_train.json"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    return write_shapes(tmp_path / "shapes", num_train=4, num_val=1, size=(64, 64))


def detection(root, **changes):
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(root),
        ann_file=ANNOTATIONS,
        data_prefix=dict(img="train/"),
        metainfo=dict(classes=DEFAULT_CLASSES),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True)],
    )
    return Config(dict(train_dataloader=dict(dataset=dataset | changes)))


def segmentation(root, **changes):
    dataset = dict(
        type="mmseg.BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="train", seg_map_path="labels/train"),
        img_suffix=".png",
        metainfo=dict(classes=("background", *DEFAULT_CLASSES)),
        pipeline=[dict(type="hordet.LoadSegAnnotations", num_classes=7)],
    )
    return Config(dict(train_dataloader=dict(dataset=dataset | changes)))


def faults(cfg):
    with pytest.raises(DatasetError) as caught:
        check_datasets(cfg)
    return str(caught.value)


def edited(root, edit):
    path = root / ANNOTATIONS
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return detection(root)


def test_good_data_pass_in_silence(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatasetWarning)
        check_datasets(detection(root))
        check_datasets(segmentation(root))


def test_real_data_pass_in_silence(shared_data):
    mini = dict(metainfo=dict(), data_prefix=dict(img="train2017/"))
    coco = detection(
        shared_data / "coco_mini", ann_file="annotations/instances_train2017.json", **mini
    )
    nuclei = detection(shared_data / "nuclei", metainfo=dict(classes=("nucleus",)))
    ade = dict(
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        img_suffix=".jpg",
        type="mmseg.ADE20KDataset",
        metainfo={},
        pipeline=[],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatasetWarning)
        for cfg in (coco, nuclei, segmentation(shared_data / "ade_mini", **ade)):
            check_datasets(cfg)


def test_all_faults_come_at_once_and_each_once(root, tmp_path):
    cfg = detection(tmp_path / "nowhere")
    cfg.val_dataloader = detection(root, ann_file="annotations/none.json").train_dataloader
    cfg.test_dataloader = cfg.val_dataloader
    text = faults(cfg)
    assert text.startswith("The data have 2 faults:\n- There is no folder")
    assert "nowhere" in text and "HORDET_DATA" in text and "--data-root" in text
    assert text.count("none.json") == 1 and "annotations/instances_val.json" in text


def test_wrapped_data_sets_are_checked_and_strange_ones_left_alone(root):
    leaf = detection(root, ann_file="annotations/none.json").train_dataloader.dataset
    wrapped = dict(
        type="RepeatDataset",
        times=2,
        dataset=dict(type="ConcatDataset", datasets=[leaf, dict(type="mmdet.LVISV1Dataset")]),
    )
    assert "none.json" in faults(dict(train_dataloader=dict(dataset=wrapped)))
    check_datasets(dict(train_dataloader=dict(dataset=dict(type="Fake"))))
    check_datasets(detection(root, data_root="s3://bucket/coco"))


def test_an_unscoped_type_belongs_to_the_default_scope(root):
    cfg = detection(root, type="CocoDataset", ann_file="annotations/none.json")
    cfg.default_scope = "mmdet"
    assert "none.json" in faults(cfg)


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"images": [', "is not a complete JSON file"),
        ("[1, 2]", "is not a COCO annotation file.*images, categories, annotations, got list"),
        ('{"shapes": [], "imagePath": "a"}', "got shapes, imagePath"),
        ('{"images": [1], "categories": [], "annotations": []}', "is not a COCO annotation file"),
    ],
)
def test_files_that_are_no_coco_annotations(root, content, words):
    (root / ANNOTATIONS).write_text(content)
    with pytest.raises(DatasetError, match=words):
        check_datasets(detection(root))


def test_classes_that_match_no_category_show_both_lists(root):
    text = faults(detection(root, metainfo=dict(classes=("cat", "dog"))))
    assert "None of the classes match" in text
    assert "cat, dog" in text and ", ".join(DEFAULT_CLASSES) in text and "metainfo" in text


def test_classes_that_match_in_part_or_in_another_order(root):
    text = faults(detection(root, metainfo=dict(classes=("circle", "dog"))))
    assert "Not all of the classes" in text and "not in the file: dog" in text
    with pytest.warns(DatasetWarning, match="none of the classes: triangle .*add them"):
        copies = check_datasets(detection(root, metainfo=dict(classes=("square", "circle"))))
    content = json.loads(Path(copies["train_dataloader 0"]).read_text())
    assert [item["name"] for item in content["categories"]][:2] == ["square", "circle"]


def test_a_missing_image_is_found_without_reading_images(root):
    (root / "train" / "000002.png").unlink()
    (root / "train" / "000003.png").write_bytes(b"")
    text = faults(detection(root))
    assert "1 of 4 images" in text and "000002.png" in text and "000003.png" not in text
    assert "4 of 4 images" in faults(detection(root, data_prefix=dict(img="images/")))


FIRST_ANNOTATION = {
    "no area": (dict(bbox=[5, 5, 0, 7]), "1 of .* a box with no area: ids 1"),
    "box outside": (dict(bbox=[70, 5, 4, 7]), "a box outside its image: ids 1"),
    "polygon outside": (
        dict(segmentation=[[1, 1, 90, 1, 90, 9]]),
        "a segmentation outside its image: ids 1",
    ),
    "short polygon": (dict(segmentation=[[1, 1, 9, 1]]), "at least three x, y pairs: ids 1"),
    "rle size": (
        dict(segmentation=dict(size=[32, 64], counts="abc")),
        "an RLE of another size than its image: ids 1",
    ),
    "rle counts": (
        dict(segmentation=dict(size=[64, 64], counts=[100, 10])),
        r"run lengths \(counts\) that are damaged or do not fill their image: ids 1",
    ),
    "unknown image": (dict(image_id=99), "an image_id that no image has: ids 1"),
    "unknown category": (dict(category_id=99), "a category_id that no category has: ids 1"),
    "text as box": (dict(bbox="1 2 3 4"), "lack one of .* or hold no numbers: ids 1"),
    "no number": (dict(bbox=[1, 2, float("nan"), 4]), "hold no numbers: ids 1"),
    "no polygon list": (
        dict(segmentation=[["a"] * 6]),
        "nor run lengths: ids 1",
    ),
    "id of another kind": (dict(id=[1]), "hold no numbers"),
    "id twice": (dict(id=2), "repeat the id of another annotation: ids 2"),
}


STOPS_MMDET = {
    "rle size",
    "rle counts",
    "text as box",
    "no number",
    "no polygon list",
    "id of another kind",
    "id twice",
}


@pytest.mark.parametrize("changes, words", FIRST_ANNOTATION.values(), ids=FIRST_ANNOTATION)
def test_one_wrong_annotation_of_few_is_an_error(root, changes, words):
    cfg = edited(root, lambda content: content["annotations"][0].update(changes))
    with pytest.raises(DatasetError, match=words):
        check_datasets(cfg)


@pytest.mark.parametrize("name", FIRST_ANNOTATION)
def test_one_wrong_annotation_of_thousands_is_a_warning_if_mmdet_survives_it(root, name):
    changes, words = FIRST_ANNOTATION[name]

    def edit(content):
        good = content["annotations"]
        copies = [dict(good[i % len(good)], id=1000 + i) for i in range(1200)]
        good[0].update(changes)
        good += copies

    cfg = edited(root, edit)
    if name in STOPS_MMDET:
        with pytest.raises(DatasetError, match=words):
            check_datasets(cfg)
    else:
        with pytest.warns(DatasetWarning, match=words):
            check_datasets(cfg)


def test_annotations_without_masks_serve_a_detector_of_boxes(root):
    cfg = edited(root, lambda content: [a.pop("segmentation") for a in content["annotations"]])
    cfg.train_dataloader.dataset.pipeline = [dict(type="mmdet.LoadAnnotations", with_bbox=True)]
    check_datasets(cfg)


def test_nothing_left_after_filtering(root):
    text = faults(detection(root, filter_cfg=dict(filter_empty_gt=True, min_size=65)))
    assert "None of the 4 images" in text and "min_size" in text
    text = faults(edited(root, lambda content: content["annotations"].clear()))
    assert "no annotation of the classes on any of its 4 images" in text
    text = faults(edited(root, lambda content: content["images"].clear()))
    assert "lists no image" in text


def test_categories_without_their_keys(root):
    text = faults(edited(root, lambda content: content["categories"][1].pop("id")))
    assert "Some categories" in text and "lack an id" in text


def test_images_without_their_keys(root):
    text = faults(edited(root, lambda content: content["images"][1].pop("id")))
    assert "1 of 4 images" in text and "height, width" in text and "number 1" in text
    text = faults(edited(root, lambda content: content["images"][1].update(id=2, height=64.5)))
    assert "1 of 4 images" in text and "no whole number of pixels: 2" in text


def test_a_test_set_without_annotations_passes_only_if_it_is_not_scored(root):
    cfg = edited(root, lambda content: content.pop("annotations"))
    cfg.test_dataloader = cfg.pop("train_dataloader")
    cfg.test_evaluator = dict(type="mmdet.CocoMetric")
    assert "is not a COCO annotation file" in faults(cfg)
    cfg.test_evaluator.format_only = True
    check_datasets(cfg)


def test_an_evaluator_must_score_what_its_loader_reads(root):
    cfg = detection(root)
    cfg.val_dataloader = cfg.pop("train_dataloader")
    cfg.val_evaluator = dict(type="mmdet.CocoMetric", ann_file=str(root / ANNOTATIONS))
    check_datasets(cfg)
    cfg.val_evaluator.ann_file = str(root / "annotations" / "instances_val.json")
    text = faults(cfg)
    assert "instances_train.json, but its evaluator scores against" in text


def test_missing_label_maps_and_folders(root):
    (root / "labels" / "train" / "000003.png").unlink()
    text = faults(segmentation(root))
    assert "1 of 4 images" in text and "have no label map" in text and "000003" in text
    (root / "labels" / "train" / "000003.png").symlink_to("nothing.png")
    assert "1 of 4 images" in faults(segmentation(root))
    prefix = dict(img_path="images", seg_map_path="labels/train")
    text = faults(segmentation(root, data_prefix=prefix))
    assert "There is no folder" in text and "holds annotations, labels, train, val" in text


def test_no_image_with_the_suffix(root):
    text = faults(segmentation(root, img_suffix=".jpg"))
    assert "names no image that ends in '.jpg'" in text


def test_a_list_of_images(root):
    (root / "split.txt").write_text("000001\n000009\n")
    text = faults(segmentation(root, ann_file="split.txt"))
    assert "1 images" in text and "000009" in text and "000002" not in text
    assert "no list of images" in faults(segmentation(root, ann_file="none.txt"))


def test_classes_of_the_loading_and_of_the_data_set_agree(root):
    pipeline = [dict(type="hordet.LoadSegAnnotations", num_classes=6)]
    text = faults(segmentation(root, pipeline=pipeline))
    assert "num_classes=6" in text and "7 classes" in text


@pytest.mark.parametrize(("value", "reduce"), [(255, False), (0, True)])
def test_label_maps_without_any_class_are_refused(root, value, reduce):
    """One with a class is enough, wherever it is."""
    folder = root / "labels" / "train"
    cfg = segmentation(root, reduce_zero_label=reduce)
    paths = sorted(folder.iterdir())
    for path in paths:
        Image.fromarray(np.full((64, 64), value, np.uint8)).save(path)
    text = faults(cfg)
    assert f"Every pixel of the 4 label maps in {folder} is 255" in text
    assert ("or 0 (reduce_zero_label)" in text) == reduce
    labeled = np.full((64, 64), value, np.uint8)
    labeled[5, 7] = 1
    Image.fromarray(labeled).save(paths[2])
    check_datasets(cfg)
