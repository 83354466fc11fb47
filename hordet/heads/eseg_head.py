"""ESegHead: the segmentation head over a BiFPN that reaches up to P9."""

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from hordet.layers import WeightedSum
from hordet.layers.weighted_sum import WeightMethod
from hordet.registry import MODELS


@MODELS.register_module()
class ESegHead(BaseDecodeHead):
    """Sum of all levels at the finest one, then the classifier (Meng et al., 2022, ESeg).

    For `hordet.GraphFPN` with eight outputs, P2 to P9, as the neck ("Revisiting Multi-Scale Feature
    Fusion for Semantic Segmentation", arXiv 2203.12683, section 3): all context comes from the
    levels of the BiFPN, the coarsest of them at a stride of 512, so the head has neither atrous
    convolutions nor pyramid pooling. Each level is upsampled to P2; the sum has one weight a level.

    The paper comes without code: the kind of weights (BiFPN's) and the one convolution between sum
    and classifier are ours.

    Args:
        in_channels: Channels of each level, all equal; a config may leave them to a neck that
            declares them.
        channels: Channels in front of the classifier.
        in_index: Indices of the levels, finest first; None takes as many as `in_channels` has.
        num_convs: 3x3 convolutions with norm and activation between sum and classifier; 0 needs
            `channels` equal to those of the levels.
        weight_method: 'fast', 'softmax' or 'sum'; see `hordet.layers.WeightedSum`.
        kwargs: The other options of mmseg's BaseDecodeHead: `num_classes`, `norm_cfg`, `act_cfg`,
            `dropout_ratio`, `align_corners`, `loss_decode`, ...

    Shape:
        List of (N, in_channels[i], H_i, W_i) -> logits (N, num_classes, H_0, W_0).

    Raises:
        ValueError: The levels differ in channels, or `num_convs` and `channels` do not fit them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        in_index: Sequence[int] | None = None,
        num_convs: int = 1,
        weight_method: WeightMethod = "fast",
        **kwargs: Any,
    ) -> None:
        """Build the sum and the convolutions."""
        widths = set(in_channels)
        if len(widths) != 1:
            raise ValueError(
                f"got in_channels={list(in_channels)}; the levels are summed, so all need the "
                "out_channels of the neck, such as [64] * 8 for P2 to P9."
            )
        width = widths.pop()
        if num_convs < 0 or (num_convs == 0 and channels != width):
            raise ValueError(
                f"got num_convs={num_convs} and channels={channels}; without a convolution the "
                f"channels stay those of the levels: channels={width}, or num_convs=1."
            )
        super().__init__(
            in_channels=list(in_channels),
            channels=channels,
            in_index=list(range(len(in_channels)) if in_index is None else in_index),
            input_transform="multiple_select",
            **kwargs,
        )
        self.combine = WeightedSum(len(self.in_channels), weight_method)
        self.convs = nn.Sequential(
            *(
                ConvModule(
                    channels if i else width,
                    channels,
                    3,
                    padding=1,
                    conv_cfg=self.conv_cfg,
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                )
                for i in range(num_convs)
            )
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Classify: list of (N, in_channels[i], H_i, W_i) -> (N, num_classes, H_0, W_0)."""
        maps = self._transform_inputs(inputs)
        size = maps[0].shape[2:]
        upsampled = [
            resize(x, size=size, mode="bilinear", align_corners=self.align_corners) for x in maps
        ]
        return self.cls_seg(self.convs(self.combine(upsampled)))
