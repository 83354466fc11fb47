"""hordet.CocoMetric beside mmdet's: the same figures, in one process and in several."""

import json
import logging

import numpy as np
import pytest
import torch
from forking import run_forked
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import METRICS

from hordet.errors import EvaluationError
from hordet.evaluation.headline import describe_metrics

CLASSES = ("round", "square")


@pytest.fixture
def truth(tmp_path):
    """The annotation file of five images of 40 x 60, seven objects."""
    draw = np.random.default_rng(3)
    images = [dict(id=10 + k, file_name=f"{k}.png", height=40, width=60) for k in range(5)]
    annotations = []
    for number, image in enumerate([0, 0, 1, 2, 2, 2, 4]):
        x, y = draw.integers(0, 20, 2).tolist()
        w, h = draw.integers(8, 20, 2).tolist()
        annotations.append(
            dict(
                id=number + 1,
                image_id=10 + image,
                category_id=int(number % 2) * 5 + 3,
                bbox=[x, y, w, h],
                area=w * h,
                iscrowd=int(number == 5),
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
            )
        )
    categories = [dict(id=3, name="round"), dict(id=8, name="square")]
    content = dict(images=images, annotations=annotations, categories=categories)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def sample(truth, image, number=3, **changes):
    """What mmdet hands a metric for one image: true objects, moved, and others."""
    draw = torch.Generator().manual_seed(image)
    content = json.loads(truth.read_text())
    items = [item for item in content["annotations"] if item["image_id"] == 10 + image]
    corners = [[x, y, x + w, y + h] for x, y, w, h in (item["bbox"] for item in items)]
    boxes = torch.tensor(corners[:number] + [[5, 5, 20, 30]] * (number - len(corners[:number])))
    boxes = boxes.reshape(-1, 4) + torch.rand(number, 4, generator=draw) * 2
    labels = [int(item["category_id"] == 8) for item in items][:number]
    labels += [1] * (number - len(labels))
    masks = torch.zeros(number, 40, 60, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    found = dict(
        bboxes=boxes,
        scores=torch.rand(number, generator=draw),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=masks,
    )
    return dict(img_id=10 + image, ori_shape=(40, 60), pred_instances=found | changes)


def metric(truth, kind="hordet.CocoMetric", **options):
    options = dict(ann_file=truth and str(truth), metric=["bbox", "segm"]) | options
    made = METRICS.build(dict(type=kind, **options))
    made.dataset_meta = dict(classes=CLASSES)
    return made


def score(made, samples):
    made.process({}, samples)
    return made.evaluate(len(samples))


@pytest.mark.parametrize("backend", ["faster-coco-eval", "pycocotools"])
def test_the_figures_are_those_of_mmdet(truth, backend):
    samples = [sample(truth, k) for k in range(5)]
    expected = score(metric(truth, "mmdet.CocoMetric"), samples)
    made = metric(truth, backend=backend)
    found = score(made, samples)
    assert found.keys() == expected.keys() and 0.1 < found["coco/bbox_mAP"] < 1
    for key, value in expected.items():  # which mmdet rounds
        assert found[key] == pytest.approx(value, abs=0.0005001)
    assert found == score(made, samples), "a second validation gives the same"
    assert MessageHub.get_current_instance().get_info("nothing_detected") is False


def test_proposals_and_chosen_items(truth):
    samples = [sample(truth, k) for k in range(5)]
    options = dict(metric="proposal", proposal_nums=(1, 2, 100))
    found = score(metric(truth, **options), samples)
    # mmdet's names do not follow its proposal_nums.
    options |= dict(metric_items=["AR@100", "AR@300", "AR@1000"])
    expected = score(metric(truth, "mmdet.CocoMetric", **options), samples)
    values = [expected[key] for key in list(expected)[:3]]
    assert [found[f"coco/AR@{n}"] for n in (1, 2, 100)] == pytest.approx(values, abs=0.0005001)
    options = dict(metric="segm", metric_items=["mAP_50", "AR@100"])
    assert set(score(metric(truth, **options), samples)) == {"coco/segm_mAP_50", "coco/segm_AR@100"}
    with pytest.raises(ValueError, match="metric_items has mAP_60; it may have mAP, mAP_50"):
        metric(truth, metric_items=["mAP_60"])
    with pytest.raises(ValueError, match="'proposal_fast' is not offered; 'proposal' gives"):
        metric(truth, metric=["bbox", "proposal_fast"])


def test_classwise(truth, caplog):
    found = score(metric(truth, classwise=True), [sample(truth, k) for k in range(5)])
    for kind in ("bbox", "segm"):
        parts = [found[f"coco/{kind}_{name}_precision"] for name in CLASSES]
        assert np.mean(parts) == pytest.approx(found[f"coco/{kind}_mAP"], abs=1e-12)


def test_truth_from_the_samples(truth):
    made, expected = metric(None, metric="bbox"), metric(None, "mmdet.CocoMetric", metric="bbox")
    samples = [sample(truth, k) for k in range(5)]
    for k, item in enumerate(samples):
        item["instances"] = [dict(bbox=[4, 4, 20, 20 + k], bbox_label=1, ignore_flag=0)]
    (values, wanted) = (score(one, samples) for one in (made, expected))
    assert values == pytest.approx(wanted, abs=0.0005001) and 0 < values["coco/bbox_mAP"]


def test_nothing_detected_is_an_average_precision_of_0(truth, caplog):
    samples = [sample(truth, k, number=0) for k in range(5)]
    with caplog.at_level(logging.WARNING):
        found = score(metric(truth), samples)
    assert found["coco/bbox_mAP"] == found["coco/segm_mAP"] == 0
    hub = MessageHub.get_current_instance()
    assert hub.get_info("nothing_detected") is True
    line = "box AP 0.000  box AP50 0.000  mask AP 0.000  mask AP50 0.000  (nothing was detected)"
    assert describe_metrics(found, hub.get_info("nothing_detected")) == line


def test_results_are_small(truth):
    made = metric(truth)
    made.process({}, [sample(truth, 0, number=100)])
    ((_, result),) = made.results
    assert all(isinstance(mask, bytes) for mask in result.masks)
    assert sum(map(len, result.masks)) + result.boxes.nbytes < 100 * 150 < 100 * 40 * 60


def test_json_files(truth, tmp_path):
    prefix = str(tmp_path / "found")
    found = score(metric(truth, outfile_prefix=prefix, format_only=True), [sample(truth, 0)])
    assert found == {}
    for kind in ("bbox", "segm"):
        items = json.loads((tmp_path / f"found.{kind}.json").read_text())
        assert [item["image_id"] for item in items] == [10] * 3
        assert ("segmentation" in items[0]) == (kind == "segm")
        assert {item["category_id"] for item in items} <= {3, 8}


def refused(truth, match, options=None, **changes):
    with pytest.raises(EvaluationError, match=match):
        item = sample(truth, 0)
        item["pred_instances"] |= changes.pop("found", {})
        score(metric(truth, **(options or {})), [item | changes])


def test_predictions_that_do_not_fit(truth):
    refused(truth, "1 predicted images are not in the annotation file: image ids 99", img_id=99)
    labels = torch.tensor([0, 1, 2])
    refused(
        truth, "a predicted label is 2, but the data set has 2 classes", found=dict(labels=labels)
    )
    scores = torch.tensor([0.5, float("nan"), 0.1])
    refused(truth, "image 10: 1 of 3 scores are NaN", found=dict(scores=scores))
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    refused(truth, r"\(20, 30\), but the image has \(40, 60\)", found=dict(masks=masks))
    with pytest.raises(EvaluationError, match="needs masks, and the model predicts none"):
        item = sample(truth, 0)
        del item["pred_instances"]["masks"]
        score(metric(truth), [item])
    made = metric(truth)
    made.dataset_meta = dict(classes=("round", "oval"))
    with pytest.raises(EvaluationError, match="2 classes and .* categories for 1 of them"):
        made.process({}, [sample(truth, 0)])
    with pytest.raises(ValueError, match="backend is 'numpy'; it must be one of faster-coco-eval"):
        metric(truth, backend="numpy")


def as_one_of_two(rank, folder, order, device):
    """Score a share of the images in a process of two, as a padded sampler deals them."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    truth = folder / "truth.json"
    made = metric(truth, collect_device=device)
    if device == "cpu":
        made.collect_dir = str(folder / "parts")
    for image in order[rank]:
        made.process({}, [sample(truth, image)])
    found = made.evaluate(5)
    (folder / f"{rank}.json").write_text(json.dumps(found))


@pytest.mark.parametrize("order", [[[0, 2, 4], [1, 3, 0]], [[0, 1, 2], [3, 4, 4]]])
def test_two_processes_give_the_figures_of_one_to_the_last_bit(truth, tmp_path, order):
    expected = score(metric(truth), [sample(truth, k) for k in range(5)])
    assert run_forked(as_one_of_two, [(k, tmp_path, order, "cpu") for k in range(2)]) == [0, 0]
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected


def test_the_configs_use_it(repository, monkeypatch, tmp_path):
    for name in ("coco_instance", "coco_detection", "nuclei_instance"):
        cfg = Config.fromfile(repository / f"configs/_base_/datasets/{name}.py")
        assert cfg.val_evaluator.type == cfg.test_evaluator.type == "hordet.CocoMetric"
