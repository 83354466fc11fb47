"""The family of non-maximum suppression, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms, nms_match, soft_nms
from references import naive_boxes

# The example of mmcv's own tests.
BOXES = [[6, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]]
SCORES = [0.6, 0.9, 0.7, 0.2]


def crowd(count, seed=0, device="cpu", dtype=torch.float32):
    """Overlapping boxes and distinct scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 12
    size = torch.rand(count, 2, generator=generator) * 20 + 1
    scores = (torch.randperm(count, generator=generator) + 1) / (count + 1)
    boxes = torch.cat((corner, corner + size), dim=1)
    return boxes.to(device, dtype), scores.to(device, dtype)


def test_nms_example():
    dets, kept = nms(np.array(BOXES, np.float32), np.array(SCORES, np.float32), 0.3)
    assert kept.tolist() == [1, 0, 3]
    np.testing.assert_allclose(dets[:, 4], [0.9, 0.6, 0.2], rtol=1e-6)
    np.testing.assert_allclose(dets[:, :4], np.array(BOXES)[[1, 0, 3]])


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nms_against_loop(device, dtype, threshold, offset):
    boxes, scores = crowd(120, device=device, dtype=dtype)
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == naive_boxes.nms(boxes.tolist(), scores.tolist(), threshold, offset)
    assert 1 < len(kept) < 120
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), dim=1)[kept])


def test_nms_offset_counts_the_last_pixel():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])
    scores = torch.tensor([0.9, 0.8])
    # They overlap by 36 / 81 without the offset, by 50 / 100 with it.
    assert len(nms(boxes, scores, 0.47, offset=0)[1]) == 2
    assert len(nms(boxes, scores, 0.47, offset=1)[1]) == 1


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
def test_nms_keeps_a_box_exactly_at_the_threshold(device, threshold):
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, threshold * 10]], device=device).round()
    scores = torch.tensor([0.9, 0.8], device=device)
    assert len(nms(boxes, scores, threshold)[1]) == 2
    assert len(nms(boxes, scores, threshold - 0.01)[1]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nms_in_half_precision(device, dtype):
    boxes = torch.tensor(BOXES, device=device, dtype=dtype)
    dets, kept = nms(boxes, torch.tensor(SCORES, device=device, dtype=dtype), 0.3)
    assert kept.tolist() == [1, 0, 3]
    assert dets.dtype == dtype


def test_nms_of_no_boxes(device):
    dets, kept = nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long


def test_nms_filters_by_score_and_number():
    boxes, scores = crowd(60)
    dets, kept = nms(boxes, scores, 0.5, score_threshold=0.4, max_num=5)
    all_kept = naive_boxes.nms(boxes.tolist(), scores.tolist(), 0.5)
    assert kept.tolist() == [i for i in all_kept if scores[i] > 0.4][:5]
    assert len(dets) == 5


@pytest.mark.parametrize("split_thr", [10, 10000])
def test_batched_nms_keeps_classes_apart(device, split_thr):
    boxes, scores = crowd(80, device=device)
    labels = torch.arange(80, device=device) % 3
    config = dict(type="nms", iou_threshold=0.4, split_thr=split_thr)
    dets, kept = batched_nms(boxes, scores, labels, config)
    wanted = []
    for label in range(3):
        mine = (labels == label).nonzero()[:, 0].tolist()
        chosen = naive_boxes.nms(boxes[mine].tolist(), scores[mine].tolist(), 0.4)
        wanted += [mine[i] for i in chosen]
    assert kept.tolist() == sorted(wanted, key=lambda i: -scores[i])
    assert torch.equal(dets[:, :4], boxes[kept])


SOFT_EXAMPLES = {
    "linear": ([1, 0, 2, 3], [0.9, 0.6, 0.29024392, 0.2]),
    "gaussian": ([1, 0, 2, 3], [0.9, 0.59630775, 0.35275510, 0.18650459]),
    "naive": ([1, 0, 3], [0.9, 0.6, 0.2]),
}


@pytest.mark.parametrize("method", SOFT_EXAMPLES)
def test_soft_nms_example(device, method):
    boxes = torch.tensor(BOXES, device=device, dtype=torch.float32)
    scores = torch.tensor(SCORES, device=device)
    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.01, method)
    indices, decayed = SOFT_EXAMPLES[method]
    assert kept.tolist() == indices and kept.device == boxes.device
    np.testing.assert_allclose(dets[:, 4].cpu(), decayed, rtol=1e-6)
    assert torch.equal(dets[:, :4], boxes[kept])


@pytest.mark.parametrize("method", SOFT_EXAMPLES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("min_score", [1e-3, 0.2])
def test_soft_nms_against_loop(method, offset, min_score):
    boxes, scores = crowd(60, dtype=torch.float64)
    before = boxes.clone(), scores.clone()
    dets, kept = soft_nms(boxes, scores, 0.3, 0.4, min_score, method, offset)
    wanted = naive_boxes.soft_nms(
        boxes.tolist(), scores.tolist(), 0.3, 0.4, min_score, method, offset
    )
    assert kept.tolist() == wanted[0]
    np.testing.assert_allclose(dets[:, 4], wanted[1], rtol=1e-12)
    assert torch.equal(boxes, before[0]) and torch.equal(scores, before[1])


def test_soft_nms_of_no_boxes_and_of_empty_boxes():
    dets, kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5) and kept.shape == (0,)
    dets, kept = soft_nms(torch.zeros(3, 4), torch.tensor([0.5, 0.9, 0.7]), method="gaussian")
    assert kept.tolist() == [1, 2, 0] and dets.isfinite().all()


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms_match_against_loop(device, threshold):
    boxes, scores = crowd(50, device=device, dtype=torch.float64)
    groups = nms_match(torch.cat((boxes, scores[:, None]), dim=1), threshold)
    wanted = naive_boxes.nms_match(boxes.tolist(), scores.tolist(), threshold)
    assert [group.tolist() for group in groups] == wanted
    assert sorted(i for group in wanted for i in group) == list(range(50))


def test_nms_match_of_numpy_and_of_nothing():
    dets = np.array([[0, 0, 2, 2, 0.3], [0, 0, 2, 2, 0.8], [5, 5, 6, 6, 0.5]], np.float32)
    assert [group.tolist() for group in nms_match(dets, 0.5)] == [[1, 0], [2]]
    assert nms_match(np.zeros((0, 5), np.float32), 0.5) == []


def test_nms_match_leaves_boxes_without_area_alone():
    dets = torch.tensor([[1.0, 1, 1, 1, 0.3], [1, 1, 1, 1, 0.8]])
    assert [group.tolist() for group in nms_match(dets, 0.5)] == [[1], [0]]
