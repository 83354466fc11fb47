"""The models that come with hordet: small, described, and as good as their cards say."""

import hashlib
import json
import re
from collections import Counter

import numpy as np
import pytest

from hordet.checkpoints import list_shipped
from hordet.checkpoints.weights import SHIPPED
from hordet.cli import main
from hordet.datasets.shapes.cache import ensure_shapes
from hordet.inference import Predictor
from hordet.inference.prediction import Instances

NAMES = [row.name for row in list_shipped()]


@pytest.fixture(autouse=True)
def elsewhere(cache_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_they_are_small_together():
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert NAMES and sum(sizes) <= 12e6


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_it_is(name):
    card = (SHIPPED / f"{name}.md").read_text()
    digest = hashlib.sha256((SHIPPED / f"{name}.safetensors").read_bytes()).hexdigest()
    assert digest in card
    for word in ("data", "result", "training", "--seed", "license", f"hordet test hordet://{name}"):
        assert word in card
    assert len([*(SHIPPED / "examples" / name).iterdir()]) == 3


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_its_examples(name):
    """Parts of the network that load but compute otherwise (a changed default) would show here."""
    predictor = Predictor.from_config(f"hordet://{name}")
    wanted = json.loads((SHIPPED.parents[2] / "tests/inference/shipped.json").read_text())[name]
    for path in sorted((SHIPPED / "examples" / name).iterdir()):
        found = predictor(path)
        assert isinstance(found, Instances)
        names = Counter(found.select(score_threshold=0.5).names)
        kinds = Counter(wanted[path.name])
        assert sum(((names - kinds) + (kinds - names)).values()) <= 0.1 * sum(kinds.values()) + 1


def test_the_shapes_model_finds_the_shapes():
    """Of the 39 objects of ten validation images 38 were found, by class, among 45 answers."""
    root = ensure_shapes()
    truth = json.loads((root / "annotations/instances_val.json").read_text())
    kinds = {item["id"]: item["name"] for item in truth["categories"]}
    predictor = Predictor.from_config("hordet://shapes-hornet-nano")
    found, there, common = Counter(), Counter(), Counter()
    for image in truth["images"][:10]:
        boxes = [item for item in truth["annotations"] if item["image_id"] == image["id"]]
        wanted = Counter(kinds[item["category_id"]] for item in boxes)
        names = Counter(predictor(root / "val" / image["file_name"]).select(0.5).names)
        found, there, common = found + names, there + wanted, common + (names & wanted)
    assert common.total() >= 0.9 * there.total() and common.total() >= 0.75 * found.total()


def test_the_command_needs_a_name_and_an_image(capsys):
    image = sorted((SHIPPED / "examples" / NAMES[0]).iterdir())[0]
    assert main(["infer", f"hordet://{NAMES[0]}", str(image)]) == 0
    printed = capsys.readouterr()
    assert re.search(rf"^note: {NAMES[0]}: .*MB, license", printed.err, re.MULTILINE)
    assert re.search(r"1 predicted; .* \(predictions\)", printed.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hordet://shapes-hornt-nano", "a.png"], "did you mean 'shapes-hornet-nano'"),
        (["hordet://resnet-50", "a.png"], "has the weights of a backbone"),
        (["mask-rcnn_hornet-nano_horfpn_7e", "a.png"], "no CHECKPOINT is given, and none is publ"),
        (["mask-rcnn_hornet-nano_horfpn_7e", "a.pth"], "no INPUT is given"),
        (["hordet://shapes", "a.png"], "names drawn images, not weights"),
    ],
)
def test_what_is_missing_is_said(words, message, capsys):
    image = sorted((SHIPPED / "examples" / NAMES[0]).iterdir())[0]
    words = [str(image) if word == "a.png" else word for word in words]
    assert main(["infer", *words]) == 2
    assert message in capsys.readouterr().err


def test_published_weights_of_a_config_are_taken_and_may_be_far_away(capsys):
    """Offline, as tests are: the note, then what to do by hand."""
    image = sorted((SHIPPED / "examples" / NAMES[0]).iterdir())[0]
    assert main(["infer", "cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x", str(image)]) == 2
    said = capsys.readouterr().err
    assert "using cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x: Cascade Mask R-CNN, HorNet-T" in said
    assert "about 320 MB, license MIT" in said
    assert "https://cloud.tsinghua.edu.cn/f/98fe75fe5d544c409852/?dl=1" in said


def test_tiles_find_the_small_shapes_of_a_large_image():
    """Sixteen validation images in one: their own answers are found again, each at its place."""
    root = ensure_shapes()
    paths = sorted((root / "val").iterdir())[:16]
    predictor = Predictor.from_config("hordet://shapes-hornet-nano")
    images = [predictor.read(path) for path in paths]
    side = images[0].shape[0]
    large = np.concatenate([np.concatenate(images[i : i + 4], 1) for i in range(0, 16, 4)])
    tiled = Predictor.from_config("hordet://shapes-hornet-nano", tile=side, overlap=0.5)
    found = tiled(large).select(0.5)
    assert found.size == large.shape[:2]
    wanted = []
    for number, image in enumerate(images):
        single = predictor(image).select(0.5)
        top, left = (side * k for k in divmod(number, 4))
        wanted += [
            (label, *(box + [left, top, left, top]))
            for label, box in zip(single.labels, single.boxes, strict=True)
        ]

    def count_found(boxes, labels):
        return sum(
            any(
                label == other and compute_iou(box, place) > 0.7
                for other, place in zip(labels, boxes, strict=True)
            )
            for label, *box in wanted
        )

    whole = predictor(large).select(0.5)
    assert count_found(found.boxes, found.labels) >= 0.95 * len(wanted) > 40
    assert count_found(whole.boxes, whole.labels) < 0.5 * len(wanted)


def compute_iou(one, other):
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = sides.clip(0).prod()
    areas = [np.prod(np.subtract(box[2:], box[:2])) for box in (one, other)]
    return common / (sum(areas) - common)
