"""The stand-in for panopticapi: colors are exact, quality is what naive counting gives."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

import hordet  # noqa: F401
from hordet.ops.panoptic import OFFSET, PQStat, PQStatCat, id2rgb, rgb2id


def test_ids_and_colors():
    ids = np.array([[0, 1, 255], [256, 65_536 + 2 * 256 + 3, OFFSET - 1]])
    colors = id2rgb(ids)
    assert colors.dtype == np.uint8 and colors.shape == (2, 3, 3)
    assert colors[1, 1].tolist() == [3, 2, 1] and colors[1, 2].tolist() == [255, 255, 255]
    assert np.array_equal(rgb2id(colors), ids)
    assert rgb2id((3, 2, 1)) == 65_536 + 2 * 256 + 3
    assert np.array_equal(rgb2id(id2rgb(ids.astype(np.uint32))), ids)


def test_average_over_categories():
    categories = {
        7: dict(isthing=1),
        8: dict(isthing=1),
        9: dict(isthing=0),
    }
    stat, more = PQStat(), PQStat()
    stat[7].tp, stat[7].iou, stat[7].fp = 1, 0.8, 1
    more[7].tp, more[7].iou, more[7].fn = 2, 1.2, 2
    more[9].fn = 3
    stat += more
    assert stat[7] == PQStatCat(iou=2.0, tp=3, fp=1, fn=2)
    everything, each = stat.pq_average(categories, isthing=None)
    assert each[7] == pytest.approx(dict(pq=2 / 4.5, sq=2 / 3, rq=3 / 4.5))
    assert each[8] == each[9] == dict(pq=0.0, sq=0.0, rq=0.0)
    # Category 8 has no segment and does not count, category 9 does.
    assert everything == pytest.approx(dict(pq=1 / 4.5, sq=1 / 3, rq=1.5 / 4.5, n=2))
    things, _ = stat.pq_average(categories, isthing=True)
    assert things["n"] == 1 and things["pq"] == pytest.approx(2 / 4.5)
    nothing, _ = PQStat().pq_average(categories, isthing=False)
    assert nothing == dict(pq=0, sq=0, rq=0, n=0)


def naive_quality(truth, prediction):
    """PQ of one category by equation 1 of the paper, over all pairs of segments."""
    matched, total = 0, 0.0
    for true in truth:
        for predicted in prediction:
            overlap = (true & predicted).sum() / (true | predicted).sum()
            if overlap > 0.5:
                matched, total = matched + 1, total + overlap
    return total / (matched + (len(truth) - matched) / 2 + (len(prediction) - matched) / 2)


def test_mmdets_metric_runs_on_it(tmp_path):
    import torch
    from mmdet.evaluation import CocoPanopticMetric

    true = np.zeros((12, 16), np.int64)  # two things of category 10 on stuff of category 20
    true[1:6, 1:6], true[7:11, 4:12] = 1, 2
    true[true == 0] = 3
    folder = tmp_path / "maps"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), id2rgb(true)[..., ::-1])
    segments = [
        dict(id=k, category_id=10 if k < 3 else 20, area=int((true == k).sum()), iscrowd=0)
        for k in (1, 2, 3)
    ]
    (tmp_path / "panoptic.json").write_text(
        json.dumps(
            dict(
                images=[dict(id=5, file_name="a.jpg", height=12, width=16)],
                annotations=[dict(image_id=5, file_name="a.png", segments_info=segments)],
                categories=[
                    dict(id=10, name="thing", isthing=1),
                    dict(id=20, name="stuff", isthing=0),
                ],
            )
        )
    )
    # mmdet's map: instance * 1000 + label; a shifted thing, one too small to match, the stuff.
    predicted = np.full((12, 16), 1)
    predicted[2:7, 1:6], predicted[7:9, 4:9] = 1000, 2000
    metric = CocoPanopticMetric(str(tmp_path / "panoptic.json"), str(folder))
    metric.dataset_meta = dict(classes=("thing", "stuff"), thing_classes=("thing",))
    sample = dict(
        img_id=5,
        img_path="a.jpg",
        ori_shape=(12, 16),
        pred_panoptic_seg=dict(sem_seg=torch.from_numpy(predicted)[None]),
    )
    metric.process({}, [sample])
    numbers = metric.evaluate(1)
    things = naive_quality([true == 1, true == 2], [predicted == 1000, predicted == 2000])
    stuff = naive_quality([true == 3], [predicted == 1])
    assert 0 < things < stuff
    assert numbers["coco_panoptic/PQ_th"] == pytest.approx(100 * things)
    assert numbers["coco_panoptic/PQ_st"] == pytest.approx(100 * stuff)
    assert numbers["coco_panoptic/PQ"] == pytest.approx(50 * (things + stuff))


def test_an_installed_panopticapi_goes_first(tmp_path):
    (tmp_path / "panopticapi").mkdir()
    (tmp_path / "panopticapi" / "__init__.py").write_text("")
    (tmp_path / "panopticapi" / "utils.py").write_text("rgb2id = 'theirs'")
    code = "import hordet, panopticapi; from panopticapi import utils; print(utils.rgb2id)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout.strip() == "theirs", result.stderr
