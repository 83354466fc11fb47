"""HorUPerHead: UperNet's head with gnConv fusion."""

from typing import Any, Literal

from mmseg.models.decode_heads import UPerHead

from hordet.layers import GnFusion
from hordet.layers.gate_start import Start, require_start
from hordet.layers.gnconv import Spatial
from hordet.registry import MODELS


@MODELS.register_module()
class HorUPerHead(UPerHead):
    """UPerHead with its fusion bottleneck replaced by a gnConv (HorNet section 3.3).

    The bottleneck turns the concatenated levels (4 x `channels` at stride 4) into `channels`; as
    a 3x3 convolution it costs most of UperNet's FLOPs (Xiao et al., ECCV 2018).

    Args:
        spatial: 'dw7x7' or 'gf'.
        order: Order of each gnConv.
        kernel_size: Odd size of the depthwise kernel ('dw7x7' only).
        gf_size: (h, w) of the learned filter ('gf' only).
        proj_out: End each gnConv with a 1x1 projection, as the published configs do.
        replace: 'bottleneck' as published, or 'all' to replace the FPN's 3x3 convolutions too.
        init: 'default' starts each gnConv as a 3x3 context of full rank (`GnConv.init_context`),
            'near_linear' with every gate near 1 (the default before there was a skip), 'official'
            with torch's initialization.
        skip: Add each fusion's input to its output, the bottleneck's as the mean of the levels
            (see `hordet.layers.GnFusion`); False is the paper's form.
        kwargs: UPerHead's options: `in_channels`, `in_index`, `channels`, `num_classes`,
            `pool_scales`, `norm_cfg`, `act_cfg`, `align_corners`, `loss_decode`, ...

    Shape:
        List of (N, in_channels[i], H_i, W_i) -> logits (N, num_classes, H_0, W_0).

    Raises:
        ValueError: `replace` or `init` is unknown, or as `hordet.layers.GnConv`.
    """

    def __init__(
        self,
        spatial: Spatial = "dw7x7",
        order: int = 2,
        kernel_size: int = 7,
        gf_size: tuple[int, int] = (32, 17),
        proj_out: bool = True,
        replace: Literal["bottleneck", "all"] = "bottleneck",
        init: Start = "default",
        skip: bool = True,
        **kwargs: Any,
    ) -> None:
        """Build UPerHead and exchange its fusion convolutions."""
        if replace not in ("bottleneck", "all"):
            raise ValueError(f"got replace={replace!r}; allowed are 'bottleneck' and 'all'.")
        require_start(init)
        super().__init__(**kwargs)

        def fusion(in_channels: int) -> GnFusion:
            layer = MODELS.build(
                dict(
                    type="hordet.GnFusion",
                    in_channels=in_channels,
                    out_channels=self.channels,
                    order=order,
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                    spatial=spatial,
                    kernel_size=kernel_size,
                    gf_size=gf_size,
                    proj_out=proj_out,
                    skip=skip,
                )
            )
            if init == "default":
                layer.init_context()
            elif init == "near_linear":
                layer.init_near_linear()
            return layer

        self.fpn_bottleneck = fusion(len(self.in_channels) * self.channels)
        if replace == "all":
            for i in range(len(self.fpn_convs)):
                self.fpn_convs[i] = fusion(self.channels)
