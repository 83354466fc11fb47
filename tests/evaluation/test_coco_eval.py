"""The figures equal pycocotools' own, on drawn and real truth, and odd truth behaves as COCO's."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from in_process import run_words
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hordet.benchmark import evaluation as coco_benchmark
from hordet.errors import EvaluationError
from hordet.evaluation import coco_eval
from hordet.evaluation.coco_eval import evaluate_coco
from hordet.evaluation.coco_results import (
    ImageResult,
    encode_masks,
    iterate_coco_items,
    read_results,
    read_truth,
    write_results,
)


def by_pycocotools(truth, items, kind, max_detections=(1, 10, 100)):
    """Score COCO's result dicts with pycocotools alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = copy.deepcopy(truth)
        true.createIndex()
        evaluation = COCOeval(true, true.loadRes(copy.deepcopy(items)), kind)
        evaluation.params.maxDets = list(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def disturbed(truth, seed=0):
    """Three guesses for each true object: moved, at times mislabeled, with many equal scores."""
    draw = np.random.default_rng(seed)
    true = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        true.dataset = copy.deepcopy(truth)
        true.createIndex()
    categories = [item["id"] for item in truth["categories"]]
    for image in truth["images"]:
        size = (image["height"], image["width"])
        boxes, labels, masks = [], [], []
        for annotation in [a for a in true.imgToAnns[image["id"]] for _ in range(3)]:
            boxes.append(np.array(annotation["bbox"]) + draw.normal(0, 2, 4))
            right = draw.random() < 0.8
            labels.append(annotation["category_id"] if right else draw.choice(categories))
            masks.append(np.roll(true.annToMask(annotation), draw.integers(-3, 4, 2), (0, 1)))
        number = len(boxes)
        dense = np.array(masks, dtype=bool).reshape(number, *size)
        yield ImageResult(
            image["id"],
            size,
            np.array(boxes).reshape(number, 4),
            draw.integers(0, 20, number) / 20,
            np.array(labels, dtype=int),
            encode_masks(dense, size, image["id"]),
        )


def small_truth(**changes):
    """Two images and two categories; three objects, one of them a crowd."""
    shape = dict(segmentation=dict(size=[32, 48], counts=[100, 5, 27, 5, 1399]), area=10)
    box = dict(bbox=[3.0, 4.0, 2.0, 5.0], **shape)
    truth = dict(
        images=[dict(id=k, file_name=f"{k}.png", height=32, width=48) for k in (7, 9)],
        categories=[dict(id=4, name="four"), dict(id=2, name="two")],
        annotations=[
            dict(box, id=1, image_id=7, category_id=2, iscrowd=0),
            dict(box, id=2, image_id=9, category_id=2, iscrowd=1),
            dict(box, id=3, image_id=9, category_id=4, iscrowd=0),
        ],
    )
    return truth | changes


def guess(image_id=7, category=2, score=0.5, number=1):
    """The detection of the first object of the small truth, once or several times."""
    mask = coco_mask.frPyObjects(dict(size=[32, 48], counts=[100, 5, 27, 5, 1399]), 32, 48)
    return ImageResult(
        image_id,
        (32, 48),
        np.array([[3.0, 4.0, 2.0, 5.0]] * number),
        np.full(number, score),
        np.full(number, category),
        [mask["counts"]] * number,
    )


@pytest.fixture(params=["shapes", "coco_mini", "nuclei"])
def truth(request, tmp_path):
    if request.param == "shapes":
        coco_benchmark._RandomData(6, 10).write_truth(tmp_path / "truth.json")
        return read_truth(tmp_path / "truth.json")
    folder = request.getfixturevalue("shared_data") / request.param / "annotations"
    name = {"coco_mini": "instances_val2017.json", "nuclei": "instances_val.json"}[request.param]
    content = read_truth(folder / name)
    images = content["images"][:8]  # pycocotools takes seconds on all of them
    ids = {image["id"] for image in images}
    kept = [item for item in content["annotations"] if item["image_id"] in ids]
    return content | dict(images=images, annotations=kept)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_all_figures_equal_those_of_pycocotools(truth, kind, monkeypatch):
    monkeypatch.setattr(coco_eval, "CHUNK", 100)  # several chunks of categories
    results = list(disturbed(truth))
    items = [item for result in results for item in iterate_coco_items(result, kind)]
    for item in items if kind == "segm" else ():
        del item["bbox"]  # pycocotools would take the area of the box for that of the mask
    expected = by_pycocotools(truth, items, kind)
    assert 0.05 < expected.stats[0] < 0.95
    for backend in coco_eval.BACKENDS:
        found = evaluate_coco(truth, results, kind, backend=backend)
        assert np.abs(found.stats - expected.stats).max() <= 1e-12
        for key in ("precision", "recall", "scores"):
            assert np.abs(getattr(found, key) - expected.eval[key]).max() <= 1e-12
        assert found.categories == sorted(item["id"] for item in truth["categories"])
    assert "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100" in found.summary


def test_classes_apart_and_together(truth):
    results = list(disturbed(truth))
    settings = dict(max_detections=(100, 300, 1000), use_categories=False)
    fast = evaluate_coco(truth, results, "bbox", **settings)
    slow = evaluate_coco(truth, results, "bbox", backend="pycocotools", **settings)
    assert np.abs(fast.stats - slow.stats).max() <= 1e-12 and fast.categories == [-1]
    apart = evaluate_coco(truth, results, "bbox")
    mean = np.nanmean([apart.summarize_category(k)["AP"] for k in range(len(apart.categories))])
    assert mean == pytest.approx(apart.stats[0], abs=1e-12)


@pytest.mark.parametrize("backend", coco_eval.BACKENDS)
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_odd_truth_and_predictions_behave_as_coco_says(backend, kind):
    score = lambda truth, results: evaluate_coco(truth, results, kind, backend=backend).stats  # noqa: E731
    # Nothing is predicted: 0 where there is truth (small objects), -1 where there is none (large).
    nothing = score(small_truth(), [])
    assert nothing[0] == 0 and nothing[3] == 0 and nothing[5] == -1
    assert (score(small_truth(annotations=[]), [guess()]) == -1).all()
    crowds = [dict(item, iscrowd=1) for item in small_truth()["annotations"]]
    assert (score(small_truth(annotations=crowds), [guess()]) == -1).all()
    # A crowd takes any number of detections, which then count neither way: 1 of category 2, and 0
    # of category 4.
    both = score(small_truth(), [guess(), guess(9, number=3)])
    assert both[0] == pytest.approx(0.5) and both[8] == pytest.approx(0.5)


def test_masks_are_encoded_as_pycocotools_does():
    draw = np.random.default_rng(0)
    masks = draw.random((8, 13, 17)) < 0.5
    masks[0], masks[1] = False, True
    masks[2:5] = False
    masks[2, 0, 0] = masks[3, -1, -1] = masks[4, :, 5] = True
    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))
    expected = [rle["counts"] for rle in coco_mask.encode(columns)]
    assert encode_masks(masks, (13, 17), 1) == expected
    assert encode_masks(masks.astype(np.uint8), (13, 17), 1) == expected
    dicts = [dict(size=[13, 17], counts=counts.decode()) for counts in expected]
    assert encode_masks(dicts, (13, 17), 1) == expected
    assert encode_masks(masks[:0], (13, 17), 1) == []


def test_masks_of_another_size_than_their_image():
    for masks in (np.zeros((2, 8, 9), bool), [dict(size=[8, 9], counts=b"04")]):
        with pytest.raises(EvaluationError, match=r"image 5: masks .* \(8, 9\), but .* \(8, 10\)"):
            encode_masks(masks, (8, 10), 5)


def test_numbers_that_cannot_be_ranked():
    with pytest.raises(EvaluationError, match="image 7: 1 of 1 scores are NaN or infinite"):
        guess(score=float("nan")).check()
    broken = guess(number=2)
    broken.boxes[1, 2] = np.inf
    with pytest.raises(EvaluationError, match="image 7: 1 of 2 boxes"):
        broken.check()
    broken = guess(number=2)
    broken.masks.pop()
    with pytest.raises(EvaluationError, match="2 boxes, 2 scores, 2 categories, 1 masks"):
        broken.check()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_result_files_keep_every_digit(truth, tmp_path, kind):
    results = list(disturbed(truth))
    write_results(tmp_path / "results.json", results, kind)
    read = read_results(tmp_path / "results.json", truth, kind)
    one, other = (evaluate_coco(truth, items, kind) for items in (results, read))
    assert (one.precision == other.precision).all() and (one.stats == other.stats).all()


def test_result_files_that_are_no_such(tmp_path):
    def read(content, kind="bbox"):
        path = tmp_path / "results.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_results(path, small_truth(), kind)

    write_results(tmp_path / "results.json", [guess(number=3)], "bbox")
    whole = (tmp_path / "results.json").read_text()
    assert len(read(whole)[0].scores) == 3
    with pytest.raises(
        EvaluationError, match="results.json is not a complete JSON file .*Fetch or export it again"
    ):
        read(whole[:-20])
    with pytest.raises(EvaluationError, match="must hold a list of detections, got dict"):
        read(small_truth())
    item = json.loads(whole)[0]
    with pytest.raises(EvaluationError, match="detection 1 lacks segmentation"):
        read([item | dict(segmentation=dict(size=[32, 48], counts="P`1")), item], "segm")
    with pytest.raises(EvaluationError, match="1 predicted images .* image ids 8"):
        read([item | dict(image_id=8)])
    with pytest.raises(EvaluationError, match=r"category ids \[0\], which .* has \[2, 4\]"):
        read([item | dict(category_id=0)])
    with pytest.raises(EvaluationError, match="Cannot read"):
        read_results(tmp_path / "nowhere.json", small_truth(), "bbox")
    with pytest.raises(EvaluationError, match="is not a COCO annotation file"):
        read_truth(tmp_path / "results.json")


def test_the_benchmark_measures_and_compares():
    rows = coco_benchmark.measure_coco_evaluation(images=4, detections=10)
    assert [row.kind for row in rows] == ["bbox", "segm"]
    assert all(row.difference <= 1e-12 and min(row.seconds) > 0 for row in rows)
    assert coco_benchmark.format_evaluation_table(rows).count("\n") == 4


def test_the_tool_scores_a_result_file(tmp_path):
    def run(*options):
        return run_words("evaluate", *options, folder=tmp_path)

    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(small_truth()))
    write_results(results, [guess(), guess(9, number=3)], "segm")
    done = run(truth, results, "--type", "segm", "--classwise")
    assert done.returncode == 0 and done.stdout.startswith(" Average Precision  (AP) @[ IoU=0.50")
    assert "= 0.500" in done.stdout.splitlines()[0] and "two AP 1.000" in done.stdout
    results.write_text(results.read_text()[:-30])
    done = run(truth, results)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and not done.stdout
    assert "is not a complete JSON file" in done.stderr


IDS = dict(
    zero=lambda k: k,
    negative=lambda k: -1 - k,
    huge=lambda k: 2**70 + k,
    huge_and_negative=lambda k: (-1) ** k * (2**64 + k),
    text=lambda k: f"{k:024x}",
    mixed=lambda k: f"{k}" if k % 2 else k,
)


@pytest.mark.parametrize("backend", coco_eval.BACKENDS)
@pytest.mark.parametrize("of", IDS)
def test_ids_of_any_kind_give_the_same_figures(truth, backend, of):
    """pycocotools takes a true object of id 0 for none, faster-coco-eval those below 0 as well."""
    results = list(disturbed(truth))
    expected = evaluate_coco(truth, results, "bbox", backend=backend)
    places = [
        {item["id"]: IDS[of](k) for k, item in enumerate(truth[part])}
        for part in ("images", "categories", "annotations")
    ]
    images, categories, objects = places
    changed = copy.deepcopy(truth)
    for part, ids in zip(("images", "categories", "annotations"), places, strict=True):
        for item in changed[part]:
            item["id"] = ids[item["id"]]
    for item in changed["annotations"]:
        item.update(image_id=images[item["image_id"]], category_id=categories[item["category_id"]])
    before = copy.deepcopy(changed)
    for result in results:
        result.image_id = images[result.image_id]
        labels = [categories[key] for key in result.categories.tolist()]
        result.categories = np.array(labels, dtype=object)
    found = evaluate_coco(changed, results, "bbox", backend=backend)
    assert found.stats == pytest.approx(expected.stats, abs=0.03)  # ties go by the order of ids
    assert found.stats[0] > 0.1 and changed == before
    assert {*found.categories} == {*categories.values()}
    assert {r.image_id for r in results} <= {*images.values()}


@pytest.mark.parametrize("backend", coco_eval.BACKENDS)
def test_the_truth_as_result_is_perfect_whatever_the_ids(backend):
    for first in (0, -3, -(2**70)):
        truth = small_truth()
        for k, item in enumerate(truth["annotations"]):
            item.update(id=first + k, iscrowd=0)
        objects = truth["annotations"]
        results = [
            ImageResult(
                key,
                (32, 48),
                np.array([a["bbox"] for a in objects if a["image_id"] == key]),
                np.array([0.9 for a in objects if a["image_id"] == key]),
                np.array([a["category_id"] for a in objects if a["image_id"] == key]),
            )
            for key in {a["image_id"] for a in objects}
        ]
        stats = evaluate_coco(truth, results, "bbox", backend=backend).stats
        assert stats[0] == stats[8] == pytest.approx(1.0)


def tray(number):
    """The truth of one image with so many objects of one category, and it as a result."""
    boxes = np.array([[20 * (k % 30), 20 * (k // 30), 12, 12] for k in range(number)], float)
    objects = [
        dict(id=k, image_id=1, category_id=1, bbox=box.tolist(), area=144, iscrowd=0)
        for k, box in enumerate(boxes, 1)
    ]
    truth = dict(
        images=[dict(id=1, file_name="a.png", height=600, width=600)],
        categories=[dict(id=1, name="bead")],
        annotations=objects,
    )
    scores = 0.9 - 1e-4 * np.arange(number)
    return truth, [ImageResult(1, (600, 600), boxes, scores, np.ones(number, int))]


@pytest.mark.parametrize("backend", coco_eval.BACKENDS)
def test_average_precision_is_at_the_largest_number_asked_for(backend):
    truth, results = tray(196)
    score = lambda *limits: evaluate_coco(  # noqa: E731
        truth, results, "bbox", max_detections=limits, backend=backend
    )
    for limits in ((100, 300, 1000), (1, 10, 196), (1, 10, 200)):
        found = score(*limits)
        assert found.stats[[0, 1, 2, 3, 8]] == pytest.approx(1.0), limits
        assert found.caution == "" and f"maxDets={limits[-1]:>3d} ] = 1.000" in found.summary
    few = score(1, 10, 100)
    assert few.stats[8] == pytest.approx(100 / 196)
    # 101 recalls of 0 to 1: precision is 1 up to 100 / 196.
    assert few.stats[0] == few.stats[1] == pytest.approx(52 / 101)
    assert "1 of 1 images have more true objects of one category (up to 196) than the 100" in (
        few.caution
    )
    assert "--max-dets 196" in few.caution


def test_the_lines_are_those_of_pycocotools(truth):
    results = list(disturbed(truth))
    items = [item for result in results for item in iterate_coco_items(result, "bbox")]
    evaluation = by_pycocotools(truth, items, "bbox")
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        evaluation.summarize()
    assert evaluate_coco(truth, results, "bbox").summary == lines.getvalue().rstrip()


def test_the_command_counts_as_many_detections_as_asked(tmp_path, capsys):
    from hordet.cli.main import main

    truth, results = tray(150)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    write_results(tmp_path / "results.json", results, "bbox")
    files = [str(tmp_path / "truth.json"), str(tmp_path / "results.json")]
    assert main(["evaluate", *files, "--max-dets", "150"]) == 0
    shown = capsys.readouterr()
    assert "maxDets=150 ] = 1.000" in shown.out.splitlines()[0] and not shown.err
    assert main(["evaluate", *files]) == 0
    shown = capsys.readouterr()
    assert "up to 150) than the 100 detections" in shown.err
    with pytest.raises(SystemExit):
        main(["evaluate", *files, "--max-dets", "0"])
