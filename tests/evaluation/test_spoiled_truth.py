"""`hordet evaluate` reads spoiled truth as the check does; no fault passes in silence."""

import json
import re

import numpy as np
import pytest
from own_data import write_coco

from hordet.cli import main
from hordet.errors import DatasetWarning

HUGE = 10**400
ODD = (
    *(None, True, -1, 0, 1.5, HUGE, -HUGE, float("nan"), float("inf"), 2**63, 10**30),
    *("x", "", "\ud800", "1" * 400, [], [1], [[1]], {}, {"a": 1}, [None] * 4, ["a"] * 4),
    *([["a"] * 6], [[1, 2, 3, 4, 5, HUGE]], [[1, 2, 3, 4]], [1, 2, 3, HUGE]),
    *(dict(size=[100, 200], counts=c) for c in ("\ud800", "é", "", None, [1], [HUGE], "~", 5)),
    *(dict(size=s, counts="1") for s in ("x", None, [1], [HUGE, 1], [[1], 2])),
)
KEYS = dict(
    images=("id", "width", "height", "file_name"),
    annotations=("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"),
    categories=("id", "name"),
)


@pytest.fixture
def truth(tmp_path):
    boxes = [(10, 10, 30, 20), (60, 30, 20, 40)]
    return write_coco(tmp_path / "data", dict(val=(3, boxes))) / "annotations" / "val.json"


def write_results(truth, path):
    """The boxes of the truth as detections."""
    keys = ("image_id", "category_id", "bbox")
    items = [
        dict({k: a[k] for k in keys}, score=0.5, segmentation=dict(size=[100, 200], counts=[20000]))
        for a in json.loads(truth.read_text())["annotations"]
    ]
    path.write_text(json.dumps(items))
    return path


def evaluate(truth, results, kind, capsys):
    code = main(["evaluate", str(truth), str(results), "--type", kind])
    return code, capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::hordet.errors.DatasetWarning")
@pytest.mark.parametrize("part", KEYS)
def test_any_odd_value_of_the_truth_is_read_or_told(truth, tmp_path, capsys, part):
    draw = np.random.default_rng(list(KEYS).index(part))
    results, whole = write_results(truth, tmp_path / "r.json"), truth.read_text()
    refused = 0
    for key in KEYS[part]:
        for place in draw.permutation(len(ODD))[:14]:
            value = ODD[place]
            content = json.loads(whole)
            content[part][draw.integers(len(content[part]))][key] = value
            truth.write_text(json.dumps(content))
            code, said = evaluate(truth, results, draw.choice(["bbox", "segm"]), capsys)
            assert code in (0, 2) and "not foreseen" not in said, (key, value, said)
            refused += code == 2
            assert code == 0 or truth.name in said or results.name in said, (key, value, said)
    assert refused > 0.5 * len(KEYS[part]) * 14


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("images", None, r"Several images of .* have the same id: \d+\."),
        ("annotations", dict(image_id=99), "1 of 6 annotations .* an image_id that no image has"),
        ("annotations", dict(category_id=99), "1 of 6 .* a category_id that no category has"),
        ("annotations", None, "1 of 6 annotations .* repeat the id of another"),
    ],
)
def test_ids_that_lead_to_nothing_or_to_two_things(truth, tmp_path, capsys, part, change, words):
    results = write_results(truth, tmp_path / "r.json")
    content = json.loads(truth.read_text())
    content[part][0].update(change or dict(id=content[part][1]["id"]))
    truth.write_text(json.dumps(content))
    code, said = evaluate(truth, results, "bbox", capsys)
    assert code == 2
    assert re.search(words, said), said


def test_what_is_left_out_or_computed_is_said(truth, tmp_path, capsys):
    results = write_results(truth, tmp_path / "r.json")
    content = json.loads(truth.read_text())
    content["annotations"][0]["segmentation"] = []
    for annotation in content["annotations"]:
        del annotation["area"]
    for image in content["images"]:
        del image["width"]
    truth.write_text(json.dumps(content))
    with pytest.warns(DatasetWarning, match="6 of 6 objects .* have no area"):
        assert evaluate(truth, results, "bbox", capsys)[0] == 0
    code, said = evaluate(truth, results, "segm", capsys)
    assert code == 2 and "3 of 3 images" in said and "lack one of id, height, width, or" in said
    for image in content["images"]:
        image["width"] = 200
    truth.write_text(json.dumps(content))
    with pytest.warns(DatasetWarning, match="1 of 6 objects .* They are left out"):
        assert evaluate(truth, results, "segm", capsys)[0] == 0
