"""LRASPPHead: mmseg's Lite R-ASPP for images of any size."""

from typing import Any

from mmseg.models.decode_heads import LRASPPHead as MmsegLRASPPHead
from torch import nn

from hordet.registry import MODELS


@MODELS.register_module()
class LRASPPHead(MmsegLRASPPHead):
    """Lite R-ASPP whose gate looks at the whole image (Howard et al., MobileNetV3, ICCV 2019).

    mmseg's head pools windows of 49 x 49 cells, made for Cityscapes, and fails on smaller maps:
    below images of 392 pixels a side at stride 8. Here the mean is global, as in torchvision's
    Lite R-ASPP. The parameters are mmseg's.

    Args:
        kwargs: The options of mmseg's LRASPPHead: `in_channels`, `in_index`, `channels`,
            `branch_channels`, `input_transform='multiple_select'`, `num_classes`, ...

    Shape:
        List of (N, in_channels[i], H_i, W_i), finest first -> logits (N, num_classes, H_0, W_0).
    """

    def __init__(self, **kwargs: Any) -> None:
        """Build mmseg's head and exchange its pooling."""
        super().__init__(**kwargs)
        self.image_pool[0] = nn.AdaptiveAvgPool2d(1)
