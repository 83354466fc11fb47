"""An evaluation without any detection counts as 0, in mmdet's own metric and in the log's order."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

import hordet  # noqa: F401  (before mmdet, which imports mmcv.ops)
from hordet.hooks import NothingDetectedHook
from hordet.run import last_validation, summary


@pytest.fixture
def evaluate(tmp_path, caplog):
    """Score detections of one picture with one true box; return the metrics and the runner."""
    from mmdet.evaluation import CocoMetric

    box = dict(id=1, image_id=1, category_id=1, bbox=[8, 8, 16, 16], area=256, iscrowd=0)
    (tmp_path / "truth.json").write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name="a.png", height=64, width=64)],
                annotations=[dict(box, segmentation=[[8, 8, 24, 8, 24, 24, 8, 24]])],
                categories=[dict(id=1, name="thing")],
            )
        )
    )

    def run(boxes, moment="val", **options):
        metric = CocoMetric(str(tmp_path / "truth.json"), **options)
        metric.dataset_meta = dict(classes=("thing",))
        number = len(boxes)
        found = dict(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            scores=torch.full((number,), 0.9),
            labels=torch.zeros(number, dtype=torch.long),
            masks=torch.zeros(number, 64, 64, dtype=torch.bool),
        )
        metric.process({}, [dict(img_id=1, ori_shape=(64, 64), pred_instances=found)])
        metrics = metric.evaluate(1)
        loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=[metric]))
        runner = SimpleNamespace(
            message_hub=MessageHub("nothing_detected"),
            logger=logging.getLogger("test"),
            **{f"{moment}_loop": loop},
        )
        getattr(NothingDetectedHook(), f"after_{moment}_epoch")(runner, metrics)
        return metrics, runner

    return run


@pytest.mark.parametrize("moment", ["val", "test"])
def test_no_detection_is_an_average_precision_of_0(evaluate, moment, caplog):
    metrics, runner = evaluate([], moment, metric=["bbox", "segm"])
    names = ("mAP", "mAP_50", "mAP_75")
    assert metrics == {f"coco/{kind}_{name}": 0.0 for kind in ("bbox", "segm") for name in names}
    assert runner.message_hub.get_info("nothing_detected") is True
    assert "Nothing was detected in any picture" in caplog.text
    line = "box AP 0.000  box AP50 0.000  mask AP 0.000  mask AP50 0.000  (nothing was detected)"
    assert summary(metrics, runner) == line


def test_a_run_logs_it_as_the_last_validation(toy_run, caplog):
    from mmdet.evaluation import CocoMetric

    class Empty(CocoMetric):
        """mmdet's metric where no picture has a detection."""

        def process(self, data_batch, data_samples):
            self.results += [1] * len(data_samples)

        def compute_metrics(self, results):
            return {}

    runner = toy_run([NothingDetectedHook()])
    runner.val_loop.evaluator.metrics = [Empty(metric="bbox")]
    runner.train()
    numbers = {f"val/coco/bbox_{name}": 0.0 for name in ("mAP", "mAP_50", "mAP_75")}
    assert last_validation(runner) == numbers
    assert summary(last_validation(runner), runner).endswith("(nothing was detected)")


def test_only_what_was_asked_for(evaluate, tmp_path):
    metrics, _ = evaluate([], metric="bbox", metric_items=["mAP_50"], prefix="mine")
    assert metrics == {"mine/bbox_mAP_50": 0.0}
    assert (
        evaluate([], metric="bbox", format_only=True, outfile_prefix=str(tmp_path / "x"))[0] == {}
    )


def test_a_detection_keeps_its_numbers(evaluate, caplog):
    metrics, runner = evaluate([[8.0, 8.0, 24.0, 24.0]], metric="bbox")
    assert metrics["coco/bbox_mAP"] == 1.0 and "coco/bbox_mAP_s" in metrics
    assert runner.message_hub.get_info("nothing_detected") is False
    assert summary(metrics, runner) == "box AP 1.000  box AP50 1.000" and not caplog.text
