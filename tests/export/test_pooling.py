"""Pooling by matrix products against torch's."""

import pytest
import torch
from torch import nn

from hordet.export.pooling import AdaptiveAveragePool


@pytest.mark.parametrize("output_size", [1, 3, 6, (2, 5), (None, 4), (3, None)])
@pytest.mark.parametrize("size", [(4, 4), (7, 12), (6, 5), (1, 2)])
def test_equals_torch(output_size, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    want = nn.AdaptiveAvgPool2d(output_size)(x)
    torch.testing.assert_close(AdaptiveAveragePool(output_size)(x), want)
