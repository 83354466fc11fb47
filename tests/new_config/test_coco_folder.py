"""A COCO folder's statistics, the detector they lead to, and what is refused in words."""

import json
import math
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from own_data import edit, write_coco
from PIL import Image

from hordet.benchmark.rivals.drawn import draw_data
from hordet.cli import main
from hordet.config.load import load_config
from hordet.datasets.checks.before_training import find_data_faults
from hordet.engine.runner import build_training_runner, read_config, read_last_validation
from hordet.errors import ConfigError, DatasetError
from hordet.new_config import (
    BackboneChoice,
    choose_detection,
    find_bases,
    measure_coco,
    place_held_out,
    save_config,
    write_detection_config,
)

# Sides of 10, 20 and 40 pixels; height / width of 1, 1 / 4 and 1.
BOXES = [(0, 0, 10, 10), (20, 0, 40, 10), (80, 20, 40, 40)]


@pytest.fixture
def bolts(tmp_path):
    return write_coco(tmp_path / "bolts", dict(train=(6, BOXES), val=(2, BOXES)))


def write(statistics, out, pretrained=False, **options):
    choices = choose_detection(statistics, pretrained=pretrained, **options)
    held_out = place_held_out(statistics, out)
    text = write_detection_config(
        statistics, choices, BackboneChoice(None), find_bases(statistics, out)
    )
    return save_config(statistics, text, out, held_out)


def test_figures_are_those_of_the_data(bolts):
    statistics = measure_coco(bolts)
    assert statistics.classes == ("bolt", "nut")
    assert statistics.counts == {"bolt": 9, "nut": 9}
    assert (statistics.train.num_images, statistics.val.num_images) == (6, 2)
    assert (statistics.train.images, statistics.val.ann_file) == ("train", "annotations/val.json")
    assert sorted(set(statistics.sides)) == [10, 20, 40] and set(statistics.ratios) == {1, 0.25}
    assert set(statistics.long_sides) == {200} and set(statistics.short_sides) == {100}
    assert (statistics.most_objects, statistics.median_objects, statistics.with_mask) == (
        3,
        3,
        True,
    )
    assert "18 objects with masks: side 20" in "\n".join(statistics.summarize())


def test_choices_follow_from_the_statistics(bolts):
    choices = choose_detection(measure_coco(bolts), pretrained=True)
    # Objects of 20 pixels at the middle need no enlarging; sizes are multiples of 32.
    assert choices.scale == (192, 96) and choices.crop is None
    # 10 pixels at 192 / 200 over the finest stride of 4; 40 pixels fit into its levels.
    assert choices.anchor_scales == [2]
    assert choices.anchor_ratios == [0.25, 1.0]
    assert choices.max_per_img == 100 and choices.sampled == 32
    # 1500 * sqrt(2) / 6 images is beyond 50 passes.
    assert choices.schedule.length == 50 and choices.schedule.val_interval == 17
    assert choices.schedule.learning_rate == 1.5e-3
    assert choose_detection(measure_coco(bolts), pretrained=False).schedule.length == 75
    halved = choose_detection(measure_coco(bolts), pretrained=True, batch_size=2)
    assert halved.schedule.learning_rate == 0.75e-3


def test_detector_of_tiny_images_with_one_anchor_trains(tmp_path):
    """At 64 x 64 the coarsest level is one cell of one anchor."""
    draw_data("nuclei", tmp_path)  # images of 80 x 64 with disks
    config = tmp_path / "disks.py"
    words = ["--coco", str(tmp_path), "--out", str(config), "--max-side", "64"]
    assert main(["new-config", *words]) == 0
    options = {"train_cfg.max_epochs": 1, "train_cfg.val_interval": 1}
    for loader in ("train_dataloader", "val_dataloader"):
        options |= {f"{loader}.num_workers": 0, f"{loader}.persistent_workers": False}
    cfg = read_config(config, options=options, work_dir=str(tmp_path / "work"))
    generator = cfg.model.rpn_head.anchor_generator
    assert len(generator.scales) * len(generator.ratios) == 1 and cfg.scale[0] == 64
    runner = build_training_runner(cfg, seed=0)
    runner.train()
    assert runner.iter == 1 and "val/coco/segm_mAP" in read_last_validation(runner)


def test_small_objects_enlarge_images_and_crowds_keep_more(tmp_path):
    boxes = [(x, 0, 8, 8) for x in range(150)]
    statistics = measure_coco(write_coco(tmp_path, dict(train=(2, boxes), val=(1, boxes))))
    choices = choose_detection(statistics, pretrained=True)
    # 20 / 8 is more than the double, which is the most.
    assert choices.scale == (384, 192) and math.isclose(choices.enlarged, 384 / 200)
    assert choices.crop == 128  # sqrt(200 * 100), in multiples of 32
    assert choices.max_per_img == 200 and choices.sampled == 64
    assert not choices.list_cautions(statistics)
    bound = choose_detection(statistics, pretrained=True, max_side=160)
    assert bound.scale == (160, 96) and bound.crop is None
    assert "hordet slice" in bound.list_cautions(statistics)[0]
    # Where --max-side takes nothing away, tiles would show no more of objects of 5 pixels.
    statistics.sides = statistics.sides * 5 / 8
    (caution,) = choose_detection(statistics, pretrained=True).list_cautions(statistics)
    assert "sides below 10 pixels" in caution and "hordet slice" not in caution


@pytest.mark.parametrize("named", ["absolute", "from here"])
def test_a_delivery_beside_the_data_keeps_its_own_images(tmp_path, monkeypatch, capsys, named):
    """Both have train/0.png and so on; its objects must not come to lie on the others' images."""
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "data", dict(train=(3, BOXES), val=(1, BOXES)))
    write_coco(tmp_path / "data_b", dict(train=(2, BOXES[:2])))
    for number in (0, 1):  # other pictures
        Image.new("RGB", (200, 100), "red" if number else "blue").save(
            tmp_path / f"data_b/train/train_{number}.png"
        )
    second = "data_b/annotations/train.json"
    files = ["annotations/train.json", str(tmp_path / second) if named == "absolute" else second]
    assert main(["new-config", "--coco", "data", "--train-ann", *files]) == 0
    said = capsys.readouterr().out
    assert "train 5 images" in said and "more than once" not in said
    (config,) = Path("own_configs").glob("*/*.py")
    (joined,) = Path("own_configs").glob("*/*_train.json")
    names = [image["file_name"] for image in json.loads(joined.read_text())["images"]]
    second = sorted(str((Path("data") / name).resolve()) for name in names)[3:]
    assert second == [str(tmp_path / f"data_b/train/train_{number}.png") for number in (0, 1)]
    assert main(["check", str(config)]) == 0


@pytest.mark.parametrize("roboflow", [False, True])
def test_tiles_that_are_proposed_show_more_of_the_objects(tmp_path, monkeypatch, capsys, roboflow):
    """The proposed commands run with the options given, and the tiles have no such caution."""
    monkeypatch.chdir(tmp_path)
    boxes = [(x, 3, 9, 9) for x in range(0, 180, 20)]
    write_coco(tmp_path / "my bolts", dict(train=(3, boxes), val=(2, boxes)))
    if roboflow:  # the annotation file of each split lies in its folder, under one name
        for split, folder in (("train", "train"), ("val", "valid")):
            shutil.move(tmp_path / "my bolts" / split, tmp_path / "my bolts" / folder)
            shutil.move(
                tmp_path / "my bolts/annotations" / f"{split}.json",
                tmp_path / "my bolts" / folder / "_annotations.coco.json",
            )
    options = ["--max-side", "128", "--force"]
    assert main(["new-config", "--coco", "my bolts", *options]) == 0
    said = capsys.readouterr().out
    assert "sides below 6 pixels at 128 x 64" in said and "Train on tiles of 64" in said
    commands = [shlex.split(line)[1:] for line in said.splitlines() if line.startswith("  hordet ")]
    proposed = [words for words in commands if words[0] == "slice" or "my bolts_tiles" in words]
    assert [words[0] for words in proposed] == ["slice", "slice", "new-config"]
    for words in proposed:
        assert main(words + options * (words[0] == "new-config")) == 0
    said = capsys.readouterr().out
    assert "hard to find" not in said and "warning" not in said
    files = [f"{split}/annotations/_annotations.coco.json" for split in ("train", "val")]
    named = [[file] for file in files] if roboflow else []
    tiles = measure_coco(tmp_path / "my bolts_tiles", *named)
    assert choose_detection(tiles, pretrained=True, max_side=128).enlarged == 2.0


def test_sizes_of_two_orders_get_two_anchors_a_level(bolts):
    statistics = measure_coco(bolts)
    statistics.sides = np.geomspace(8, 600, 50)
    statistics.long_sides = statistics.short_sides = np.array([600.0])
    small, large = choose_detection(statistics, pretrained=True).anchor_scales
    assert (small, large) == (3, round(np.quantile(statistics.sides, 0.95) / 64 * 608 / 600))
    assert large > 1.5 * small


def test_the_leaf_loads_and_its_data_pass(bolts, tmp_path):
    out = tmp_path / "out" / "leaf.py"
    found = write(measure_coco(bolts), out)
    assert (found.errors, found.warnings) == ([], [])
    cfg = load_config(out, safe=True)  # data alone
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.model.rpn_head.anchor_generator.scales == [2]
    assert cfg.train_dataloader.dataset.metainfo.classes == ("bolt", "nut")
    assert len(cfg.train_dataloader.dataset.metainfo.palette) == 2
    assert cfg.train_cfg.max_epochs == 75 and cfg.train_dataloader.batch_size == 4
    assert cfg.auto_scale_lr.base_batch_size == 4
    assert cfg.val_evaluator.metric == ["bbox", "segm"]
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys == {"neck.fpn_convs": dict(lr_mult=3)}


def test_weights_bring_smaller_steps_at_the_stem_and_larger_ones_in_the_neck(bolts, tmp_path):
    statistics = measure_coco(bolts)
    choices = choose_detection(statistics, pretrained=True)
    out = tmp_path / "leaf.py"
    bases = find_bases(statistics, out)
    text = write_detection_config(statistics, choices, BackboneChoice("weights.pth"), bases)
    out.write_text(text, encoding="utf-8")
    paramwise = load_config(out).optim_wrapper.paramwise_cfg
    assert paramwise.custom_keys == {"neck.fpn_convs": dict(lr_mult=6)}
    assert paramwise.decay_rate == 0.9


def test_one_class_without_masks_is_a_detector_of_boxes(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(3, BOXES), val=(1, BOXES)), [(9, "it's")])
    for split in ("train", "val"):
        edit(
            root / "annotations" / f"{split}.json",
            lambda content: [a.pop("segmentation") for a in content["annotations"]],
        )
    out = tmp_path / "leaf.py"
    assert not write(measure_coco(root), out).errors
    cfg = load_config(out)
    assert cfg.model.type == "FasterRCNN" and cfg.model.roi_head.mask_head is None
    assert cfg.train_dataloader.dataset.metainfo.classes == ("it's",)
    assert cfg.val_evaluator.metric == ["bbox"]


@pytest.mark.parametrize("name", ["{}.json", "annotations/instances_{}2017.json", "{}/_coco.json"])
def test_usual_layouts_are_found(tmp_path, name):
    root = write_coco(tmp_path, dict(train=(2, BOXES), val=(1, BOXES)), name=name)
    (root / "captions_train.json").write_text("{}")
    statistics = measure_coco(root)
    assert statistics.train.ann_file == name.format("train")
    assert (statistics.train.images, statistics.val.images) == ("train", "val")


def test_without_validation_nothing_is_guessed_and_a_share_can_be_held_out(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(10, BOXES)))
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    with pytest.raises(DatasetError, match="no validation split.*--hold-out 0.2"):
        measure_coco(root)
    with pytest.raises(DatasetError, match="leaves one side empty"):
        measure_coco(root, share=1.0)
    statistics = measure_coco(root, share=0.3)
    out = tmp_path / "leaf.py"
    assert not write(statistics, out).errors
    files = [json.loads((tmp_path / f"leaf_{s}.json").read_text()) for s in ("train", "val")]
    names = [{image["file_name"] for image in content["images"]} for content in files]
    assert [len(part) for part in names] == [7, 3] and not names[0] & names[1]
    assert [len(content["annotations"]) for content in files] == [21, 9]
    # The same images each time, and the data are as they were.
    again = measure_coco(root, share=0.3)
    assert {i["file_name"] for i in again.val.content["images"]} == names[1]
    assert before == {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    assert not find_data_faults(load_config(out)).errors


def test_no_share_is_held_out_beside_a_validation_split(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(4, BOXES), val=(1, BOXES)))
    with pytest.raises(DatasetError, match="--hold-out 0.3, but .*val.json. To val"):
        measure_coco(root, share=0.3)


def test_a_file_that_is_named_for_training_is_not_the_validation(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(4, BOXES), val=(2, BOXES)))
    files = ["annotations/train.json", "annotations/val.json"]
    with pytest.raises(DatasetError, match="no validation split"):
        measure_coco(root, train=files)
    statistics = measure_coco(root, train=files, share=0.5)
    names = [
        {i["file_name"] for i in s.content["images"]} for s in (statistics.train, statistics.val)
    ]
    assert [len(part) for part in names] == [3, 3] and not names[0] & names[1]


def test_faults_of_all_annotation_files_are_said_at_once(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(2, BOXES), val=(1, BOXES)))
    files = sorted(root.glob("annotations/*.json"))
    for file in files:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"categories": []}))
    with pytest.raises(DatasetError) as caught:
        measure_coco(root)
    said = str(caught.value).splitlines()
    assert len(said) == 2
    assert all(f"{file} has no categories" in line for file, line in zip(files, said, strict=True))


def test_what_is_there_is_kept(bolts, tmp_path):
    out = tmp_path / "leaf.py"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already.*--force"):
        write(measure_coco(bolts), out)
    assert out.read_text() == "mine"
    assert place_held_out(measure_coco(bolts), out, force=True) == []


def no_annotations(content):
    content["annotations"] = []


def no_images(content):
    content["images"] = []


def no_categories(content):
    content["categories"] = []


def one_name_twice(content):
    content["categories"][1]["name"] = "bolt"


def no_sizes(content):
    content["images"][0]["width"] = "wide"


def other_images(content):
    for image in content["images"]:
        image["file_name"] = "x" + image["file_name"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_annotations, "has 0 annotations, and none is an object"),
        (no_images, "lists no image"),
        (no_categories, "has no categories"),
        (one_name_twice, "several categories of one name: bolt"),
        (no_sizes, "1 of 6 images .* have text where width must be"),
        (other_images, "None of the 6 images"),
    ],
)
def test_bad_annotations_are_refused_in_words(bolts, change, words):
    edit(bolts / "annotations" / "train.json", change)
    with pytest.raises(DatasetError, match=words):
        measure_coco(bolts)


def test_missing_and_several_annotation_files(bolts, tmp_path):
    with pytest.raises(DatasetError, match="There is no folder"):
        measure_coco(tmp_path / "nowhere")
    file = bolts / "annotations" / "train.json"
    shutil.copy(file, bolts / "annotations" / "train_old.json")
    with pytest.raises(DatasetError, match="several annotation files for train.*--train-ann"):
        measure_coco(bolts)
    assert measure_coco(bolts, train=["annotations/train.json"]).train.num_images == 6
    shutil.rmtree(bolts / "annotations")
    with pytest.raises(DatasetError, match="no COCO annotations of training"):
        measure_coco(bolts)


def test_a_validation_file_may_have_fewer_categories(bolts, tmp_path):
    def drop(content):
        content["categories"].pop()
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 3]

    edit(bolts / "annotations" / "val.json", drop)
    found = write(measure_coco(bolts), tmp_path / "leaf.py")
    assert found.errors == []


def test_crowds_alone_are_counted(bolts):
    def crowd(content):
        for item in content["annotations"]:
            item["iscrowd"] = 1

    edit(bolts / "annotations" / "train.json", crowd)
    with pytest.raises(DatasetError, match=r"18 of 18 objects .* are iscrowd=1, which training"):
        measure_coco(bolts)


def test_faults_that_training_refuses_are_returned(bolts, tmp_path):
    (bolts / "train" / "train_0.png").unlink()
    found = write(measure_coco(bolts), tmp_path / "leaf.py")
    assert "1 of 6 images" in found.errors[0] and (tmp_path / "leaf.py").is_file()


@pytest.mark.parametrize(
    ("name", "scale", "anchors", "epochs"),
    [("nuclei", (384, 384), [3], 8), ("coco_mini", (640, 448), [3], 50)],
)
def test_real_data(shared_data, tmp_path, name, scale, anchors, epochs):
    statistics = measure_coco(shared_data / name)
    choices = choose_detection(statistics, pretrained=True)
    assert choices.scale == scale and choices.schedule.length == epochs
    assert choices.anchor_scales == anchors
    assert not write(statistics, tmp_path / "leaf.py", pretrained=True).errors


def test_objects_without_a_mask_are_named_and_the_user_chooses(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(4, BOXES), val=(2, BOXES)))

    def take_masks(content):
        for annotation in content["annotations"][:2]:
            annotation["segmentation"] = []

    edit(root / "annotations" / "train.json", take_masks)
    seen = measure_coco(root)
    assert seen.with_mask and seen.choice == "leave-out" and len(seen.sides) == 10
    words = seen.explain_choice()
    assert "2 in annotations/train.json (ids " in words
    assert "They are left out. Choose otherwise" in words
    assert "--without-mask box-as-mask or boxes-alone" in words
    found = write(seen, tmp_path / "out.py")
    assert not found.errors and load_config(tmp_path / "out.py").val_evaluator.metric == [
        "bbox",
        "segm",
    ]
    boxes = measure_coco(root, without_mask="boxes-alone")
    assert not boxes.with_mask and len(boxes.sides) == 12
    filled = measure_coco(root, without_mask="box-as-mask")
    assert filled.with_mask and len(filled.sides) == 12
    found = write(filled, tmp_path / "filled.py")
    assert (found.errors, found.warnings) == ([], [])
    copied = json.loads((tmp_path / "filled_train.json").read_text())
    x, y, w, h = copied["annotations"][0]["bbox"]
    assert copied["annotations"][0]["segmentation"] == [[x, y, x + w, y, x + w, y + h, x, y + h]]
    cfg = load_config(tmp_path / "filled.py")
    assert cfg.train_dataloader.dataset.ann_file == str(tmp_path / "filled_train.json")
    assert cfg.val_evaluator.ann_file == str(tmp_path / "filled_val.json")


def test_where_most_objects_have_no_mask_all_are_boxes_and_it_is_said(tmp_path):
    root = write_coco(tmp_path / "d", dict(train=(4, BOXES), val=(2, BOXES)))
    for split in ("train", "val"):
        edit(
            root / "annotations" / f"{split}.json",
            lambda content: [a.pop("segmentation") for a in content["annotations"][1:]],
        )
    seen = measure_coco(root)
    assert not seen.with_mask and "No mask is trained, all objects are boxes" in (
        seen.explain_choice()
    )
    assert measure_coco(root, without_mask="leave-out").with_mask


def put_in_two_files(root):
    """Move half of the images of training to a second file: other ids, other order, a class more.

    Objects are `bolt` (3) and `nut` (7) in the first file, `pin` (1), `nut` (2) and `bolt` (5) in
    the second, of which `pin` has one.
    """
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    second = {image["id"] for image in content["images"][3:]}
    (root / "more").mkdir()
    parts = [[], []], [[], []]
    for image in content["images"]:
        parts[image["id"] in second][0].append(image)
        if image["id"] in second:
            shutil.move(root / "train" / image["file_name"], root / "more" / image["file_name"])
    for annotation in content["annotations"]:
        parts[annotation["image_id"] in second][1].append(annotation)
    for number, annotation in enumerate(parts[1][1]):
        annotation.update(id=number + 1, category_id={3: 5, 7: 2}[annotation["category_id"]])
        annotation["image_id"] = 1 + [i["id"] for i in parts[1][0]].index(annotation["image_id"])
    for number, image in enumerate(parts[1][0], 1):
        image["id"] = number
    parts[1][1][0]["category_id"] = 1
    kinds = content["categories"], [(1, "pin"), (2, "nut"), (5, "bolt")]
    kinds = kinds[0], [dict(id=key, name=name) for key, name in kinds[1]]
    for name, (images, annotations), categories in zip(
        ("train_a", "train_b"), parts, kinds, strict=True
    ):
        joined = dict(images=images, annotations=annotations, categories=categories)
        (root / "annotations" / f"{name}.json").write_text(json.dumps(joined))
    file.unlink()
    return ["annotations/train_a.json", "annotations/train_b.json"]


def test_several_files_are_joined_by_the_names_of_their_classes(bolts, tmp_path):
    before = measure_coco(bolts)
    counts = dict(before.counts)
    files = put_in_two_files(bolts)
    with pytest.raises(DatasetError, match=rf"(?s)matched by their names.*--train-ann {files[0]}"):
        measure_coco(bolts)
    seen = measure_coco(bolts, train=files)
    first = json.loads((bolts / files[1]).read_text())["annotations"][0]
    assert first["category_id"] == 1  # an object that was a bolt or a nut is now a pin
    assert seen.classes == ("bolt", "nut", "pin") and seen.counts["pin"] == 1
    assert sum(seen.counts.values()) == sum(counts.values()) == 18
    assert abs(seen.counts["bolt"] - counts["bolt"]) + abs(seen.counts["nut"] - counts["nut"]) == 1
    assert sorted(seen.sides) == sorted(before.sides)
    assert f"train 6 images ({files[0]} and {files[1]}), val 2" in seen.summarize()[0]
    out = tmp_path / "out" / "joined.py"
    found = write(seen, out)
    # Validation has no object of the class that the second file adds; that is no fault.
    assert (found.errors, found.warnings) == ([], [])
    cfg = load_config(out, safe=True)
    assert cfg.train_dataloader.dataset.ann_file == str(out.with_name("joined_train.json"))
    assert cfg.val_dataloader.dataset.ann_file == "annotations/val.json"
    written = json.loads(out.with_name("joined_train.json").read_text())
    names = {item["id"]: item["name"] for item in written["categories"]}
    image_of = {image["id"]: image["file_name"] for image in written["images"]}
    assert {Path(name).parent.name for name in image_of.values()} == {"train", "more"}
    assert all((bolts / name).is_file() for name in image_of.values())
    kinds = {3: "bolt", 7: "nut"}, {1: "pin", 2: "nut", 5: "bolt"}
    wanted = []
    for file, folder, kind in zip(files, ("train", "more"), kinds, strict=True):
        content = json.loads((bolts / file).read_text())
        path = {i["id"]: f"{folder}/{i['file_name']}" for i in content["images"]}
        wanted += [
            (path[a["image_id"]], kind[a["category_id"]], a["bbox"]) for a in content["annotations"]
        ]
    assert wanted == [
        (image_of[a["image_id"]], names[a["category_id"]], a["bbox"])
        for a in written["annotations"]
    ]
    assert len({a["id"] for a in written["annotations"]}) == 18


def test_a_share_of_joined_files_can_be_held_out(bolts, tmp_path):
    files = put_in_two_files(bolts)
    (bolts / "annotations" / "val.json").unlink()
    seen = measure_coco(bolts, train=files, share=0.4)
    assert (seen.train.num_images, seen.val.num_images) == (4, 2)
    out = tmp_path / "leaf.py"
    assert not write(seen, out).errors
    parts = [json.loads(out.with_name(f"leaf_{s}.json").read_text()) for s in ("train", "val")]
    assert [len(part["categories"]) for part in parts] == [3, 3]
    assert sum(len(part["annotations"]) for part in parts) == 18


def test_what_two_files_share_is_said(bolts):
    """Two annotators of the same images: all objects of an image, and those of both once."""
    file = bolts / "annotations" / "train.json"

    def change(content):
        content["images"] = content["images"][:2]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept][1:]
        content["annotations"][0]["bbox"] = [1, 1, 9, 9]
        content["categories"][0]["name"] = "Bolt"

    shutil.copy(file, bolts / "annotations" / "other.json")
    edit(bolts / "annotations" / "other.json", change)
    seen = measure_coco(bolts, train=["annotations/train.json", "annotations/other.json"])
    # 18 and 5 objects, of which 5 - 1 changed - 2 of the other spelling are the same.
    assert seen.train.num_images == 6 and sum(seen.counts.values()) == 21
    shared, twins = seen.train.notes
    assert "2 images are listed more than once" in shared
    assert "of 23 objects 2 are there twice and count once" in shared
    assert "differ in their spelling alone: bolt and Bolt" in twins
    cautions = choose_detection(seen, pretrained=True).list_cautions(seen)
    assert cautions[:2] == [shared, twins]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][0].update(image_id=999), "1 of 6 annotations .* image_id that"),
        (lambda c: c["annotations"][0].update(category_id=9), "1 of 6 .* category_id that"),
        (lambda c: c["annotations"][0].update(category_id=[1]), "1 of 6 .* lack one of id, image_"),
        (lambda c: c["images"][1].update(id=c["images"][0]["id"]), "have the same id: 1"),
        (lambda c: c["categories"][0].update(id="a"), "1 of 2 categories .* have text as id"),
    ],
)
def test_files_whose_ids_lead_nowhere_are_not_joined(tmp_path, change, words):
    root = write_coco(tmp_path, dict(train=(2, BOXES), val=(2, BOXES)))
    edit(root / "annotations" / "val.json", change)
    with pytest.raises(DatasetError, match=words):
        measure_coco(root, train=["annotations/train.json", "annotations/val.json"], share=0.5)


ODD_NAMES = {
    "code": 'a"); import os; os.mkdir("made"); x = ("',
    "a line break": "a\nimport os",
    "a carriage return": "a\rimport os",
    "a NUL": "a\0b",
    "half a pair": "a\ud800b",
    "a separator of lines": "a\u2028b",
    "a blank that is no space": "a\u00a0b\u3000c",
    "a backslash at the end": "a\\",
    "three quotes": '"""',
    "a variable": "{{ $HOME:1 }}",
    "a value of a base": "{{ _base_.model.type }} {{_base_.nothing}}",
    "a place of mmengine": "{{{{ fileDirname }}",
}


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_odd_names_of_classes_stay_names(tmp_path, monkeypatch, kind):
    """They stand in a config that is executed, and in its docstring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    categories = [(3, ODD_NAMES[kind]), (7, "nut")]
    root = write_coco(
        tmp_path / "d {{ $HOME:1 }}", dict(train=(3, BOXES), val=(2, BOXES)), categories
    )
    out = tmp_path / "leaf.py"
    found = write(measure_coco(root), out)
    assert (found.errors, found.warnings) == ([], [])
    cfg = load_config(out)
    assert cfg.train_dataloader.dataset.metainfo.classes == (ODD_NAMES[kind], "nut")
    assert cfg.data_root == str(root) and not (tmp_path / "made").exists()


def test_one_files_habit_is_told_before_files_are_joined(tmp_path):
    root = write_coco(tmp_path, dict(train=(4, BOXES), val=(4, BOXES)))

    def normalize(content):
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["bbox"] = [x / 200, y / 100, w / 200, h / 100]

    edit(root / "annotations" / "val.json", normalize)
    files = ["annotations/train.json", "annotations/val.json"]
    with pytest.raises(DatasetError, match=r"12 of 12 objects of .*val.json have a box between 0"):
        measure_coco(root, train=files, share=0.5)


def test_a_category_needs_a_name(bolts):
    edit(bolts / "annotations" / "train.json", lambda c: c["categories"][0].update(name=" "))
    with pytest.raises(DatasetError, match="lack an id .* or a name"):
        measure_coco(bolts)


@pytest.mark.parametrize("place", ["train alone", "one of two", "held out"])
def test_an_odd_value_is_told_wherever_it_stands(tmp_path, place):
    draw = np.random.default_rng(3)
    values = (True, [1], {}, "x", "9" * 400, 10**400, float("nan"), [10**400, 1, 1, 1], 10**30)
    keys = ("image_id", "category_id", "bbox", "iscrowd", "segmentation", "area", "id")
    splits = dict(train=(2, BOXES), val=(2, BOXES))
    if place == "held out":
        del splits["val"]
    root = write_coco(tmp_path, splits)
    file = root / "annotations" / "train.json"
    whole = file.read_text()
    train = ["annotations/train.json"]
    if place == "one of two":
        shutil.copy(file, root / "annotations" / "more.json")
        train.append("annotations/more.json")
    told = 0
    for key in keys:
        for value in values:
            content = json.loads(whole)
            content["annotations"][draw.integers(4)][key] = value
            file.write_text(json.dumps(content))
            try:
                measure_coco(root, train, share=0.5 if place == "held out" else None)
            except DatasetError as error:
                told += 1
                assert "train.json" in str(error), (key, value)
    assert told >= 0.8 * len(keys) * len(values)
