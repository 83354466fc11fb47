"""bbox_overlaps, through mmcv.ops."""

import pytest
import torch
from mmcv.ops import bbox_overlaps
from references import naive_boxes


def boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 10
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 10 + 0.1
    return torch.cat((corner, corner + size), dim=1)


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", [0, 1])
def test_against_loop(device, mode, offset):
    first, second = boxes(6, 0).to(device), boxes(6, 1).to(device)
    table = bbox_overlaps(first, second[:4], mode, offset=offset)
    pairs = bbox_overlaps(first, second, mode, aligned=True, offset=offset)
    assert table.shape == (6, 4) and pairs.shape == (6,)
    for i, a in enumerate(first.tolist()):
        for j, b in enumerate(second.tolist()):
            wanted = naive_boxes.overlap(a, b, offset, over_first=mode == "iof")
            if j < 4:
                assert table[i, j].item() == pytest.approx(wanted, abs=1e-12)
            if i == j:
                assert pairs[i].item() == pytest.approx(wanted, abs=1e-12)


def test_half_precision_is_computed_in_float32(device):
    first, second = boxes(5, 2).half().to(device), boxes(5, 3).half().to(device)
    wanted = bbox_overlaps(first.float(), second.float())
    found = bbox_overlaps(first, second)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, wanted.half(), rtol=0, atol=0)


@pytest.mark.parametrize("rows, columns", [(0, 3), (3, 0), (0, 0)])
def test_no_boxes(rows, columns):
    assert bbox_overlaps(torch.zeros(rows, 4), torch.zeros(columns, 4)).shape == (rows, columns)
