"""new-config on the formats of annotation tools: recognized, converted, ready to train."""

import json

import drawn_layouts as drawn
import pytest
from in_process import run_words

from hordet.config.load import load_config
from hordet.datasets.checks.before_training import find_data_faults

DRAW = dict(
    yolo=drawn.draw_yolo,
    voc=drawn.draw_voc,
    labelme=drawn.draw_labelme,
    cvat=drawn.draw_cvat,
    via=drawn.draw_via,
    supervisely=drawn.draw_supervisely,
    masks=drawn.draw_masks,
    coco=drawn.draw_coco,
)


@pytest.mark.parametrize("name", DRAW)
def test_a_config_is_written_and_its_data_are_whole(tmp_path, name):
    root = DRAW[name](tmp_path / "parts")
    result = run_words("new-config", "--data", root, "--out", "c.py", folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    # Boxes among polygons are left out by default, and said.
    mixed = name in ("labelme", "cvat", "via")
    words = dict(voc="4 objects with boxes").get(name, f"{2 if mixed else 4} objects with masks")
    assert ("some objects have no mask while others have" in result.stdout) == mixed
    assert words in result.stdout and "2 classes: " in result.stdout
    assert "saw " in result.stdout
    if name != "coco":
        assert "objects: 6 in, 6 out" in result.stdout and ", 0 dropped" in result.stdout
        made = {
            split: json.loads((tmp_path / f"c_{split}.json").read_text())
            for split in ("train", "val")
        }
        assert [len(content["annotations"]) for content in made.values()] == [4, 2]
    found = find_data_faults(load_config(tmp_path / "c.py"))
    assert found.errors == [] and len(found.warnings) == 2 * mixed


def test_a_share_is_held_out_and_test_images_are_named(tmp_path):
    root = drawn.draw_labelme(tmp_path / "parts")
    words = ["new-config", "--data", root, "--out", "c.py"]
    refused = run_words(*words, "--hold-out", "0.5", folder=tmp_path)
    assert refused.returncode == 2 and "but there is a validation split: 1 images" in refused.stderr
    (root / "val").rename(root / "test")
    lacking = run_words(*words, folder=tmp_path)
    assert lacking.returncode == 2 and "no validation split" in lacking.stderr
    result = run_words(*words, "--hold-out", "0.5", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (
        "1 images of test are used neither to train nor to validate (test/c.png)" in result.stdout
    )
    content = json.loads((tmp_path / "c_val.json").read_text())
    assert len(content["images"]) == 1 and len(content["annotations"]) == 2


def test_several_formats_are_asked_about(tmp_path):
    root = drawn.draw_voc(tmp_path / "parts")
    drawn.draw_yolo(root)
    words = ["new-config", "--data", root, "--out", "c.py"]
    asked = run_words(*words, folder=tmp_path)
    assert asked.returncode == 2
    assert (
        "several formats: Pascal VOC (" in asked.stderr and "--format voc or yolo" in asked.stderr
    )
    result = run_words(*words, "--format", "voc", folder=tmp_path)
    assert result.returncode == 0 and "4 objects with boxes" in result.stdout
    wrong = run_words(*words, "--format", "cvat", folder=tmp_path)
    assert wrong.returncode == 2 and "holds no annotations of CVAT for images" in wrong.stderr


def test_label_maps_and_options_of_others(tmp_path):
    from own_data import write_maps

    root = write_maps(tmp_path / "fields", dict(training=2, validation=1))
    result = run_words("new-config", "--data", root, "--out", "c.py", folder=tmp_path)
    assert result.returncode == 0 and "saw label maps (annotations/" in result.stdout
    wrong = run_words("new-config", "--data", root, "--train-ann", "a.json", folder=tmp_path)
    assert wrong.returncode == 2 and "are for COCO files" in wrong.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = run_words("new-config", "--data", empty, folder=tmp_path)
    assert nothing.returncode == 2 and "no annotations of a known format" in nothing.stderr


def test_one_annotation_file_may_be_named(tmp_path):
    root = drawn.draw_coco(tmp_path / "parts")
    file = root / "annotations" / "instances_train.json"
    words = ["new-config", "--data", file, "--out", "c.py", "--hold-out", "0.5"]
    (root / "annotations" / "instances_val.json").unlink()
    result = run_words(*words, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "saw COCO (annotations/instances_train.json)" in result.stdout
    assert "2 objects with masks" in result.stdout
