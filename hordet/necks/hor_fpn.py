"""HorFPN: a feature pyramid network whose fusion convolutions are gnConvs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mmdet.models.necks import FPN
from torch import Tensor, nn

from hordet.layers import GnFusion
from hordet.layers.gate_start import Start, require_start
from hordet.layers.gnconv import Spatial
from hordet.layers.layout import to_channels_last
from hordet.registry import MODELS

NEAREST = MappingProxyType(dict(mode="nearest"))
XAVIER = dict(type="Xavier", layer="Conv2d", distribution="uniform")


@MODELS.register_module()
class HorFPN(FPN):
    """FPN with each 3x3 fusion convolution replaced by a gnConv (HorNet section 3.3).

    Laterals and top-down path are FPN's (Lin et al., CVPR 2017). A level added by
    `add_extra_convs` is a 3x3 convolution of stride 2 and a gnConv after it; the authors' code has
    no working form of this.

    The options of mmdet's FPN come first and in its order.

    Args:
        in_channels: Channels of each input; a config may leave them to a backbone that declares
            them.
        out_channels: Channels of every output; a multiple of 2^(order-1), for 'gf' of 2^order.
        num_outs: Number of outputs.
        start_level: Index of the first input that is used.
        end_level: Index of the last input that is used; -1 is the last there is.
        add_extra_convs: False pools extra levels; True or 'on_output', 'on_input' and
            'on_lateral' compute them from there.
        relu_before_extra_convs: Put a ReLU in front of the convolutions of extra levels.
        no_norm_on_lateral: Leave the norm out on laterals.
        conv_cfg: Convolution of laterals and extra levels.
        norm_cfg: Norm of laterals and fusions.
        act_cfg: Activation of laterals and fusions.
        upsample_cfg: Keywords of `torch.nn.functional.interpolate`.
        init_cfg: Given, it is applied on top, for instance dict(type='Pretrained', ...).
        spatial: 'dw7x7' or 'gf'.
        order: Order of each gnConv.
        kernel_size: Odd size of the depthwise kernel ('dw7x7' only).
        gf_size: (h, w) of the learned filter ('gf' only).
        init: 'default' starts each gnConv as a 3x3 context of full rank, fitted to the standard
            deviation of its level (`GnConv.init_context`). 'near_linear' starts every gate near 1,
            the default before there was a skip. 'official' is the authors': Xavier for every
            convolution, which leaves the 7x7 form with outputs near zero.
        skip: Add each fusion's input to its output (see `hordet.layers.GnFusion`); False is the
            paper's form.

    Shape:
        List of (N, in_channels[i], H_i, W_i) -> tuple of `num_outs` (N, out_channels, H_i, W_i);
        extra levels halve the last size, rounding up.

    Raises:
        ValueError: `init` is unknown, or as `hordet.layers.GnConv`.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: dict[str, Any] | None = None,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        upsample_cfg: Mapping[str, Any] = NEAREST,
        init_cfg: dict[str, Any] | None = None,
        *,
        spatial: Spatial = "dw7x7",
        order: int = 2,
        kernel_size: int = 7,
        gf_size: tuple[int, int] = (32, 17),
        init: Start = "default",
        skip: bool = True,
    ) -> None:
        """Build FPN and exchange its fusion convolutions."""
        require_start(init)
        if init_cfg is None and init == "official":
            init_cfg = XAVIER
        super().__init__(
            # FPN insists on a list; configs also hand over tuples.
            in_channels=list(in_channels),
            out_channels=out_channels,
            num_outs=num_outs,
            start_level=start_level,
            end_level=end_level,
            add_extra_convs=add_extra_convs,
            relu_before_extra_convs=relu_before_extra_convs,
            no_norm_on_lateral=no_norm_on_lateral,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            upsample_cfg=dict(upsample_cfg),
            init_cfg=init_cfg,
        )
        num_fusions = len(self.lateral_convs)
        for i, conv in enumerate(self.fpn_convs):
            fusion = MODELS.build(
                dict(
                    type="hordet.GnFusion",
                    in_channels=out_channels,
                    out_channels=out_channels,
                    order=order,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                    spatial=spatial,
                    kernel_size=kernel_size,
                    gf_size=gf_size,
                    skip=skip,
                )
            )
            # FPN's convolution of an extra level has stride 2: it stays, and the gnConv follows.
            self.fpn_convs[i] = fusion if i < num_fusions else nn.Sequential(conv, fusion)
        if init != "official":
            self._init_gnconvs(near_linear=init == "near_linear")

    @classmethod
    def declare_channels(cls, out_channels: int, num_outs: int, **others: Any) -> tuple[int, ...]:
        """Return the channels of each output of a neck of these options; none is built.

        Args:
            out_channels: As of the class.
            num_outs: As of the class.
            others: The options of the class that have no say in it.
        """
        return (out_channels,) * num_outs

    def _init_gnconvs(self, near_linear: bool) -> None:
        """Xavier where FPN has it, nearly linear gnConvs in place of its fusion convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        stds = self._estimate_stds()
        for fusions, std in zip(self.fpn_convs, stds, strict=True):
            for module in fusions.modules():
                if isinstance(module, GnFusion):
                    if near_linear:
                        module.init_near_linear()
                    else:
                        module.init_context(std)

    def _estimate_stds(self) -> list[float]:
        """Return the standard deviation of what enters each fusion, for inputs of std 1.

        A level is the sum of its lateral and of all above it, taken as independent: with a norm,
        of variance 1 each, else as Xavier's 1x1 convolutions leave it. What enters the fusion of
        an extra level is taken as 1.
        """
        variances = [
            1.0 if lateral.with_norm else 2 * width / (width + self.out_channels)
            for lateral, width in zip(
                self.lateral_convs, self.in_channels[self.start_level :], strict=False
            )
        ]
        sums = [sum(variances[level:]) for level in range(len(variances))]
        return [std**0.5 for std in sums] + [1.0] * (len(self.fpn_convs) - len(sums))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid: list of (N, in_channels[i], H_i, W_i) -> `num_outs` maps."""
        return super().forward([to_channels_last(x) for x in inputs])
