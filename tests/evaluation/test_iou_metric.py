"""hordet.IoUMetric beside mmseg's: the same figures, exact beyond single precision."""

import json

import cv2
import numpy as np
import pytest
import torch
from forking import run_forked
from mmengine.config import Config
from mmengine.registry import METRICS

from hordet.errors import EvaluationError
from hordet.evaluation.iou_metric import compute_boundary_areas, compute_confusion_matrix

CLASSES = ("sky", "road", "car", "never")


def sample(index, size=(24, 32), labels=None):
    """Truth of three classes and 255, and a prediction that is often right."""
    draw = torch.Generator().manual_seed(index)
    true = torch.randint(0, 3, (1, *size), generator=draw)
    guess = torch.where(torch.rand(1, *size, generator=draw) < 0.7, true, (true + 1) % 3)
    true[0, :2, :5] = 255
    return dict(
        img_path=f"{index}.png",
        pred_sem_seg=dict(data=guess),
        gt_sem_seg=dict(data=true.byte() if labels is None else labels),
    )


def metric(kind="hordet.IoUMetric", **options):
    made = METRICS.build(dict(type=kind, **options))
    made.dataset_meta = dict(classes=CLASSES)
    return made


def score(made, samples):
    made.process({}, samples)
    return made.evaluate(len(samples))


def test_the_figures_are_those_of_mmseg():
    samples = [sample(k) for k in range(5)]
    options = dict(iou_metrics=["mIoU", "mDice", "mFscore"])
    found = score(metric(**options), samples)
    assert found == pytest.approx(score(metric("mmseg.IoUMetric", **options), samples), nan_ok=True)
    assert 50 < found["mIoU"] < 60 and found["aAcc"] > found["mIoU"]
    assert score(metric(nan_to_num=0), samples)["mIoU"] == pytest.approx(
        found["mIoU"] * 3 / 4, 1e-3
    )


def test_the_matrix():
    true = torch.tensor([[0, 0, 1], [1, 2, 255]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 2]])
    made = metric()
    item = dict(img_path="a", pred_sem_seg=dict(data=predicted), gt_sem_seg=dict(data=true))
    found = score(made, [item])
    assert made.confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert made.confusion.dtype == np.int64
    assert found == dict(aAcc=60.0, mIoU=round(100 * (1 / 3 + 2 / 3 + 0) / 3, 2), mAcc=50.0)


def test_pixels_beyond_single_precision_are_counted():
    # 2^24 + 1 pixels of road, of which one is wrong: single precision cannot tell them.
    made = metric()
    made.results = [
        ("a", (np.array([5], np.uint32), np.array([2**24]), None)),
        ("b", (np.array([6], np.uint32), np.array([1]), None)),
    ]
    made.evaluate(2)
    assert made.confusion.sum() == 2**24 + 1 and made.confusion[1, 2] == 1


def test_results_are_small():
    made = metric()
    made.process({}, [sample(0, size=(512, 512))])
    ((_, (places, counts, edges)),) = made.results
    assert len(places) == len(counts) <= 9 and edges is None


def naive_boundary(predicted, true, ratio):
    """Boundary IoU as its authors' code has it: one erosion by 3 x 3 a pixel of width."""
    steps = max(1, int(round(ratio * np.sqrt(true.shape[0] ** 2 + true.shape[1] ** 2))))
    shared, either = np.zeros(len(CLASSES), int), np.zeros(len(CLASSES), int)
    for k in range(len(CLASSES)):
        edges = []
        for labels in (predicted, true):
            padded = np.pad((labels == k).astype(np.uint8), 1)
            inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
            edges.append(((labels == k) - inner).astype(bool) & (true != 255))
        shared[k], either[k] = (edges[0] & edges[1]).sum(), (edges[0] | edges[1]).sum()
    return shared, either


def test_boundary_iou(caplog):
    true = np.zeros((40, 60), np.int64)
    true[10:30, 15:45], true[:4, :4] = 1, 255
    guess = np.roll(true, 1, axis=1)
    guess[guess == 255] = 2
    for ratio in (0.001, 0.02, 0.1):
        found = compute_boundary_areas(guess, true, 4, 255, ratio)
        assert np.array_equal(found, naive_boundary(guess, true, ratio))
    maps = dict(
        pred_sem_seg=dict(data=torch.from_numpy(guess)), gt_sem_seg=dict(data=torch.tensor(true))
    )
    made = metric(iou_metrics=["mIoU", "mBoundaryIoU"])
    found = score(made, [dict(maps, img_path=str(k)) for k in range(3)])
    shared, either = naive_boundary(guess, true, 0.02)
    assert found["mBoundaryIoU"] == round(np.mean(100 * shared[:3] / either[:3]), 2)
    assert found["mBoundaryIoU"] < found["mIoU"]


def test_label_maps_are_written(tmp_path):
    made = metric(output_dir=str(tmp_path), keep_results=True)
    item = sample(3)
    assert set(score(made, [item])) == {"aAcc", "mIoU", "mAcc"}
    written = cv2.imread(str(tmp_path / "3.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, item["pred_sem_seg"]["data"][0].numpy())
    assert score(metric(output_dir=str(tmp_path), format_only=True), [item]) == {}


def test_maps_that_do_not_fit():
    with pytest.raises(EvaluationError, match=r"7.png: the prediction is \(24, 32\) .* \(12, 16\)"):
        score(metric(), [sample(7, labels=torch.zeros(1, 12, 16).byte())])
    with pytest.raises(EvaluationError, match="a true label is 9, but there are 4 classes"):
        score(metric(), [sample(7, labels=torch.full((1, 24, 32), 9).byte())])
    with pytest.raises(EvaluationError, match="a predicted label is 5"):
        compute_confusion_matrix(torch.full((2, 2), 5), torch.zeros(2, 2), 4, 255)
    nothing = compute_confusion_matrix(torch.zeros(2, 2), torch.full((2, 2), 255), 4, 255)
    assert nothing.shape == (4, 4) and not nothing.any()
    with pytest.raises(ValueError, match=r"iou_metrics is \['IoU'\]; it may have mIoU, mDice"):
        metric(iou_metrics=["IoU"])


def as_one_of_two(rank, folder):
    """Score three of five images in a process of two; one image is in both."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    made = metric(collect_dir=str(folder / "parts"), iou_metrics=["mIoU", "mBoundaryIoU"])
    found = score(made, [sample(k) for k in ([0, 2, 4], [1, 3, 0])[rank]])
    (folder / f"{rank}.json").write_text(json.dumps(found))


def test_two_processes_give_the_figures_of_one(tmp_path):
    samples = [sample(k) for k in range(5)]
    expected = score(metric(iou_metrics=["mIoU", "mBoundaryIoU"]), samples)
    assert run_forked(as_one_of_two, [(k, tmp_path) for k in range(2)]) == [0, 0]
    assert all(json.loads((tmp_path / f"{k}.json").read_text()) == expected for k in range(2))


def test_the_configs_use_it(repository):
    for name in ("ade20k", "ade20k_640", "camvid_semantic"):
        cfg = Config.fromfile(repository / f"configs/_base_/datasets/{name}.py")
        assert cfg.val_evaluator.type == cfg.test_evaluator.type == "hordet.IoUMetric"
