"""Result files of any program: what is no detection is named, no mask is read past its end."""

import json
import re

import numpy as np
import pytest
from own_data import write_coco

from hordet.cli import main
from hordet.evaluation.coco_results import read_results, read_truth
from hordet.ops.run_lengths import encode_mask, find_bad_counts

BOXES = [(10, 10, 30, 20), (60, 30, 20, 40)]


@pytest.fixture
def truth(tmp_path):
    return write_coco(tmp_path / "data", dict(val=(3, BOXES))) / "annotations" / "val.json"


def detect(truth, compressed=True):
    """The truth as detections."""
    items = []
    for annotation in json.loads(truth.read_text())["annotations"]:
        x, y, w, h = annotation["bbox"]
        mask = np.zeros((100, 200), np.uint8)
        mask[y : y + h, x : x + w] = 1
        counts = encode_mask(mask)["counts"].decode()
        if not compressed:
            flat = mask.ravel(order="F")
            edges = np.flatnonzero(np.diff(flat)) + 1
            counts = np.diff([0, *edges, flat.size]).tolist()
        items.append(
            dict(
                image_id=annotation["image_id"],
                category_id=annotation["category_id"],
                bbox=annotation["bbox"],
                score=0.5,
                segmentation=dict(size=[100, 200], counts=counts),
            )
        )
    return items


@pytest.mark.parametrize("compressed", [True, False])
def test_masks_may_be_lists_of_runs(truth, tmp_path, capsys, compressed):
    items = detect(truth, compressed)
    items[0]["image_id"] = float(items[0]["image_id"])
    (tmp_path / "r.json").write_text(json.dumps(items))
    assert main(["evaluate", str(truth), str(tmp_path / "r.json"), "--type", "segm"]) == 0
    assert "maxDets=100 ] = 1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(image_id=[1]), r"detection 2 has image_id='\[1\]'; it must be a whole number"),
        (dict(image_id="1"), "image_id='1'; it must be a whole number"),
        (dict(category_id={}), "category_id='{}'; it must be a whole number"),
        (dict(category_id=1.5), "category_id='1.5'"),
        (dict(category_id=True), "category_id='True'"),
        (dict(score="high"), "score='high'; it must be a number"),
        (dict(score=None), "score='None'; it must be a number"),
        (dict(bbox=[1, 2, 3]), r"bbox='\[1, 2, 3\]'; it must be four numbers"),
        (dict(bbox="1 2 3 4"), "bbox='1 2 3 4'"),
        (dict(bbox=[1, 2, None, 4]), "it must be four numbers"),
        (dict(segmentation=[[1, 1, 9, 1, 9, 9]]), "run lengths, .*no polygons"),
        (dict(segmentation=None), "segmentation='None'; it must be COCO's run lengths"),
        (dict(segmentation=dict(size=[100], counts="1")), "it must be COCO's run lengths"),
        (dict(segmentation=dict(size=None, counts="1")), "it must be COCO's run lengths"),
        (dict(segmentation=dict(size=[100, 200], counts=[1.5])), "it must be COCO's run lengths"),
        (dict(segmentation=dict(size=[200, 100], counts="1")), "masks of .height, width."),
        (dict(segmentation=dict(size=[100, 200], counts="~~")), "1 of 2 masks have run lengths"),
        (dict(segmentation=dict(size=[100, 200], counts="o" * 99)), "1 of 2 masks have run"),
        (dict(segmentation=dict(size=[100, 200], counts="")), "1 of 2 masks have run lengths"),
        (dict(segmentation=dict(size=[100, 200], counts="04L4")), "do not fill 100 x 200 pixels"),
        (dict(segmentation=dict(size=[100, 200], counts=[-1, 20001])), "1 of 2 masks have run"),
    ],
)
def test_what_is_no_detection_is_named(truth, tmp_path, capsys, change, words):
    items = detect(truth)
    items[2].update(change)
    (tmp_path / "r.json").write_text(json.dumps(items))
    for backend in ("faster-coco-eval", "pycocotools"):
        command = ["evaluate", str(truth), str(tmp_path / "r.json"), "--type", "segm"]
        assert main([*command, "--backend", backend]) == 2
        said = capsys.readouterr().err
        assert "r.json" in said and "not foreseen" not in said
        assert re.search(words, said), said


def decode(text):
    """Runs of a compressed text by the letter of rleFrString; None if it breaks off."""
    runs, value, shift = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 55:
            return None
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if runs and not shift else None


def test_damaged_run_lengths_are_found_among_whole_ones():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        height, width = rng.integers(1, 30, 2)
        texts = []
        for _ in range(rng.integers(1, 5)):
            mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
            text = encode_mask(mask)["counts"].decode()
            place = rng.integers(len(text))
            odd = chr(rng.integers(40, 120))
            texts.append(
                [text, text, text[:place], text[:place] + odd + text[place + 1 :], text + odd][
                    rng.integers(5)
                ]
            )
        runs = [decode(text) for text in texts]
        bad = [
            place
            for place, each in enumerate(runs)
            if each is None or min(each) < 0 or sum(each) != height * width
        ]
        assert find_bad_counts(texts, int(height * width)) == bad
        found += len(bad)
    assert 100 < found < 700


def test_whole_floats_are_whole_numbers(truth, tmp_path):
    items = detect(truth)
    for item in items:
        item["category_id"] = float(item["category_id"])
    (tmp_path / "r.json").write_text(json.dumps(items))
    results = read_results(tmp_path / "r.json", read_truth(truth), "bbox")
    assert {int(c) for result in results for c in result.categories} == {3, 7}
