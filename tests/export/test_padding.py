"""Padding in whole numbers against timm's."""

import pytest
import torch
from timm.layers import Conv2dSame

from hordet.export.padding import SamePaddedConv


@pytest.mark.parametrize("size", [(32, 64), (7, 12), (5, 5), (1, 2)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 1), (3, 2, 2), (1, 2, 1)]
)
def test_equals_timm(size, kernel, stride, dilation):
    torch.manual_seed(0)
    conv = Conv2dSame(2, 4, kernel, stride=stride, dilation=dilation, groups=2)
    x = torch.randn(2, 2, *size)
    torch.testing.assert_close(SamePaddedConv(conv)(x), conv(x))
