"""Masks pasted and encoded at once against mmdet's pasting and pycocotools' encoding."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from hordet.heads.mask_rle import paste_encoded
from hordet.registry import MODELS

# Inside, over every border of the image, thin, covering the whole, tiny, of no size.
BOXES = [
    [10.3, 5.2, 40.7, 60.1],
    [-8, -3.5, 20, 30],
    [50, 40, 75.5, 90],
    [12.4, 0, 13.1, 70],
    [-30, -30, 120, 150],
    [30.5, 30.5, 31, 31],
    [20, 20, 20, 20],
]
HEIGHT, WIDTH = 71, 63


def heads(num_classes=3, **kwargs):
    settings = dict(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=num_classes)
    stock = MODELS.build(dict(type="mmdet.FCNMaskHead", **settings, **kwargs))
    ours = MODELS.build(dict(type="hordet.RleMaskHead", **settings, **kwargs))
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def predict(head, boxes, scale=(1.0, 1.0), rescale=True, threshold=0.5):
    generator = torch.Generator().manual_seed(0)
    # Smooth, as masks are: with few samples at the very threshold.
    logits = torch.randn(len(boxes), 3, 5, 5, generator=generator)
    logits = 4 * torch.nn.functional.interpolate(logits, (28, 28), mode="bicubic")
    results = InstanceData(
        bboxes=torch.tensor(boxes), labels=torch.arange(len(boxes)) % 3, scores=torch.ones(7)
    )
    meta = dict(scale_factor=scale, ori_shape=(HEIGHT, WIDTH))
    config = ConfigDict(mask_thr_binary=threshold)
    return head.predict_by_feat((logits,), [results], [meta], config, rescale)[0].masks


@pytest.mark.parametrize(
    ("scale", "rescale"), [((1.0, 1.0), True), ((1.5, 2.0), True), ((2.0, 1.5), False)]
)
def test_encodings_are_those_of_mmdets_masks(scale, rescale):
    from mmdet.structures.mask import encode_mask_results

    stock, ours = heads()
    with torch.no_grad():
        want, got = predict(stock, BOXES, scale, rescale), predict(ours, BOXES, scale, rescale)
    assert isinstance(got, list) and want[:6].flatten(1).any(1).sum() >= 3
    decoded = coco_mask.decode(got).transpose(2, 0, 1)
    assert decoded.shape == want.shape
    different = (decoded[:6] != want[:6].numpy()).sum(axis=(1, 2))
    # The sixth decimal of a probability decides where it is 0.5.
    assert different.max() <= 3 and different.sum() <= 6
    same = [i for i in range(6) if not different[i]]
    assert [got[i] for i in same] == [encode_mask_results(want.numpy())[i] for i in same]


def test_runs_that_touch_across_columns_are_one():
    """A mask that fills columns to the bottom and from the top, as COCO's own encoder joins it."""
    boxes = torch.tensor([[2.0, -5.0, 9.0, 25.0]])
    got = paste_encoded(torch.ones(1, 28, 28), boxes, 20, 12, 0.5)
    full = np.zeros((20, 12), dtype=np.uint8, order="F")
    full[:, 2:9] = 1
    assert got == [coco_mask.encode(full)]


def test_a_box_outside_of_the_image_has_an_empty_mask():
    boxes = torch.tensor([[90.0, 90, 99, 99], [-9.0, -9, -5, -5]])
    got = paste_encoded(torch.ones(2, 28, 28), boxes, 20, 12, 0.5)
    assert coco_mask.decode(got).shape == (20, 12, 2) and not coco_mask.area(got).any()


def test_nothing_and_grey():
    assert paste_encoded(torch.zeros(0, 28, 28), torch.zeros(0, 4), 20, 12, 0.5) == []
    empty = paste_encoded(torch.zeros(1, 28, 28), torch.tensor([[1.0, 2, 5, 6]]), 20, 12, 0.5)
    assert coco_mask.area(empty).tolist() == [0]
    gray = predict(heads()[1], BOXES, threshold=-1)
    assert gray.dtype == torch.uint8 and gray.shape == (7, HEIGHT, WIDTH)


def test_a_hundred_masks_of_a_large_image_fit_in_little_memory():
    """100 masks of 4000 x 6000, whose bitmaps take 2.4 GB, in less than 1 GiB."""
    code = """
import resource, torch
from hordet.heads.mask_rle import paste_encoded
corner = torch.rand(100, 2) * torch.tensor([3000.0, 2000.0])
boxes = torch.cat((corner, corner + torch.tensor([3000.0, 2000.0])), dim=1)
masks = torch.rand(100, 28, 28)
paste_encoded(masks[:1], boxes[:1] / 50, 80, 120, 0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(paste_encoded(masks, boxes, 4000, 6000, 0.5)) == 100
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 1
