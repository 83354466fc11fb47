"""Views of a detector are merged, with masks, and the tools run it."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn

import hordet.registry  # noqa: F401
from hordet.ops.run_lengths import encode_mask

SIZE = (20, 30)
FLIPS = {"horizontal": [2], "vertical": [1], "diagonal": [1, 2]}


class Told(BaseModel):
    """A detector that answers with the next prediction it was told."""

    def __init__(self, answers):
        super().__init__()
        self.answers = list(answers)
        self.weight = nn.Parameter(torch.zeros(1))

    def test_step(self, data):
        return [self.answers.pop(0) for _ in data["inputs"]]

    def forward(self, inputs, data_samples=None, mode="tensor"):
        raise NotImplementedError


def answer(objects, flip=None, with_masks=True):
    """A prediction of (left, top, right, bottom, score, label) seen through a flip."""
    boxes = torch.tensor([item[:4] for item in objects], dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(objects), *SIZE, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    if flip in ("horizontal", "diagonal"):
        boxes[:, [0, 2]] = SIZE[1] - boxes[:, [2, 0]]
    if flip in ("vertical", "diagonal"):
        boxes[:, [1, 3]] = SIZE[0] - boxes[:, [3, 1]]
    found = InstanceData(
        bboxes=boxes,
        scores=torch.tensor([item[4] for item in objects]),
        labels=torch.tensor([item[5] for item in objects], dtype=torch.long),
    )
    if with_masks:
        found.masks = masks.flip(FLIPS[flip]) if flip else masks
    if with_masks == "run lengths":
        found.masks = [encode_mask(mask) for mask in found.masks.byte().numpy()]
    sample = DetDataSample(
        metainfo=dict(ori_shape=SIZE, flip=flip is not None, flip_direction=flip, img_id=1)
    )
    sample.pred_instances = found
    return sample


def merge(*answers, most=100):
    tta_cfg = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=most)
    model = MODELS.build(dict(type="hordet.DetTTAModel", tta_cfg=tta_cfg, module=Told(answers)))
    views = len(answers)
    (sample,) = model.test_step(dict(inputs=[[None]] * views, data_samples=[[None]] * views))
    return sample.pred_instances


@pytest.mark.parametrize("kind", ["dense", "run lengths"])
@pytest.mark.parametrize("flip", ["horizontal", "vertical", "diagonal"])
def test_masks_are_flipped_back_and_vote(flip, kind):
    first = [(2, 3, 12, 9, 0.9, 0), (14, 10, 28, 18, 0.6, 1)]
    second = [(2, 3, 13, 9, 0.8, 0), (2, 3, 12, 9, 0.5, 1)]
    third = [(2, 3, 13, 9, 0.3, 0)]
    found = merge(answer(first, None, kind), answer(second, flip, kind), answer(third, None, kind))
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.5])
    assert found.labels.tolist() == [0, 1, 1]
    assert found.bboxes[0].tolist() == [2, 3, 12, 9]
    # 0.8 + 0.3 vote for the column at 12, 0.9 against it.
    assert found.masks.dtype == torch.bool and found.masks.shape == (3, *SIZE)
    expected = answer([second[0], first[1], second[1]]).pred_instances.masks
    assert torch.equal(found.masks, expected)


def test_the_best_are_kept_and_nothing_may_be_found():
    three = [(2, 3, 12, 9, 0.2, 0), (14, 10, 28, 18, 0.6, 1), (0, 0, 5, 5, 0.4, 0)]
    found = merge(answer(three), answer([], "horizontal"), most=2)
    assert found.scores.tolist() == pytest.approx([0.6, 0.4]) and len(found.masks) == 2
    found = merge(answer([]), answer([], "horizontal"))
    assert len(found) == 0 and found.masks.shape == (0, *SIZE)


def test_boxes_alone_are_merged_by_mmdet():
    views = [[(2, 3, 12, 9, 0.9, 0)], [(2, 3, 13, 9, 0.8, 0)]]
    found = merge(
        answer(views[0], with_masks=False), answer(views[1], "horizontal", with_masks=False)
    )
    assert found.scores.tolist() == pytest.approx([0.9]) and "masks" not in found


def test_views_of_one_size_go_through_the_network_together():
    objects = [(2, 3, 12, 9, 0.9, 0)]
    told = Told([answer(objects), answer(objects, "horizontal"), answer(objects)])
    sizes = []
    step = told.test_step
    told.test_step = lambda data: sizes.append(len(data["inputs"])) or step(data)
    tta_cfg = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=9)
    build = dict(type="hordet.DetTTAModel", tta_cfg=tta_cfg, module=told)
    model = MODELS.build(dict(build, views_at_once=4))
    images = [[torch.zeros(3, *size)] for size in (SIZE, SIZE, (40, 60))]
    (sample,) = model.test_step(dict(inputs=images, data_samples=[[None]] * 3))
    assert sizes == [2, 1]  # an image with its flip, and the larger one
    found = sample.pred_instances
    assert found.scores.tolist() == pytest.approx([0.9]) and found.masks[0].sum() == 60
    with pytest.raises(ValueError, match="views_at_once is 0; it must be 1 or more"):
        MODELS.build(dict(build, views_at_once=0))
