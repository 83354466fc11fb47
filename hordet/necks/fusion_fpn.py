"""FusionFPN: a feature pyramid network whose fusion convolutions are any registered operator."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.models.necks import FPN
from torch import Tensor, nn

from hordet.errors import ConfigError, did_you_mean
from hordet.necks.hor_fpn import NEAREST, XAVIER, HorFPN
from hordet.neighbours import FUSIONS, load_fusion
from hordet.registry import MODELS

NAMES = ("conv3x3", "gnconv", *FUSIONS)


@MODELS.register_module()
class FusionFPN(HorFPN):
    """FPN with each 3x3 fusion convolution replaced by an operator of the literature.

    - `fusion='conv3x3'` is mmdet's FPN: the same keys, numbers and start.
    - `fusion='gnconv'` is HorFPN: the same keys, numbers and start, so checkpoints fit both ways.
    - Any name of `hordet.neighbours.FUSIONS`: that operator, with norm and activation after it as
      FPN's own convolution has them. Its parameters are `fpn_convs.LEVEL.conv.*`. A level added by
      `add_extra_convs` is a 3x3 convolution of stride 2 and the fusion after it, as in HorFPN.

    The options of mmdet's FPN come first and in its order.

    Args:
        in_channels: Channels of each input; a config may leave them to a backbone that declares
            them.
        out_channels: Channels of every output.
        num_outs: Number of outputs.
        start_level: Index of the first input that is used.
        end_level: Index of the last input that is used; -1 is the last there is.
        add_extra_convs: False pools extra levels; True or 'on_output', 'on_input' and
            'on_lateral' compute them from there.
        relu_before_extra_convs: Put a ReLU in front of the convolutions of extra levels.
        no_norm_on_lateral: Leave the norm out on laterals.
        conv_cfg: Convolution of laterals and extra levels, with 'conv3x3' of fusions, too.
        norm_cfg: Norm of laterals and fusions.
        act_cfg: Activation of laterals and fusions.
        upsample_cfg: Keywords of `torch.nn.functional.interpolate`.
        init_cfg: Given, it is applied on top, for instance dict(type='Pretrained', ...); Xavier for
            `layer='Conv2d'` would also set the convolutions within fusions. None is FPN's Xavier
            for FPN's convolutions, and each fusion's own start.
        fusion: A name, or a dict of `type` (the name) and options: of 'gnconv' those that HorFPN
            has beyond FPN's, of the others those of its class.

    Shape:
        List of (N, in_channels[i], H_i, W_i) -> tuple of `num_outs` (N, out_channels, H_i, W_i);
        extra levels halve the last size, rounding up.

    Raises:
        ConfigError: There is no such fusion, or it has no such option.
        ValueError: As the class of the fusion.
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
        fusion: str | Mapping[str, Any] = "conv3x3",
    ) -> None:
        """Build FPN and exchange its fusion convolutions."""
        name, options = read_fusion(fusion)
        settings: dict[str, Any] = dict(
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
        if name == "gnconv":
            super().__init__(**settings, **options)
        else:  # not HorFPN's: no gnConv is built
            if name == "conv3x3" and init_cfg is None:
                settings["init_cfg"] = XAVIER
            FPN.__init__(self, **settings)
        self.fusion = name
        if name in FUSIONS:
            self._exchange_fusions(load_fusion(name), options, norm_cfg, act_cfg)

    def _exchange_fusions(
        self,
        kind: type[nn.Module],
        options: dict[str, Any],
        norm_cfg: dict[str, Any] | None,
        act_cfg: dict[str, Any] | None,
    ) -> None:
        """Start FPN's convolutions as FPN does, and put a fusion in the place of each 3x3 one."""
        self.fpn_convs: Any
        extra = self.fpn_convs[len(self.lateral_convs) :]
        for module in [*self.lateral_convs.modules(), *extra.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for i, conv in enumerate(self.fpn_convs):
            # A ConvModule is convolution, norm and activation; its 1x1 convolution is exchanged.
            module = ConvModule(
                self.out_channels, self.out_channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg
            )
            module.conv = kind(self.out_channels, **options)
            # FPN's convolution of an extra level has stride 2: it stays, and the fusion follows.
            extra_level = i >= len(self.lateral_convs)
            self.fpn_convs[i] = nn.Sequential(conv, module) if extra_level else module

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid: list of (N, in_channels[i], H_i, W_i) -> `num_outs` maps."""
        if self.fusion == "gnconv":
            return super().forward(inputs)
        return FPN.forward(self, tuple(inputs))


def read_fusion(fusion: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a fusion, checked; imports no other fusion.

    Args:
        fusion: As of `FusionFPN`.

    Raises:
        ConfigError: As `FusionFPN`.
    """
    options = dict(type=fusion) if isinstance(fusion, str) else dict(fusion)
    name = options.pop("type", None)
    if name not in NAMES:
        raise ConfigError(
            f"got fusion={fusion!r}{did_you_mean(str(name), NAMES)}; allowed is one of "
            f"{', '.join(NAMES)}, or a dict of it as type and of its options."
        )
    if name == "conv3x3":
        known = []
    else:
        kind = HorFPN if name == "gnconv" else load_fusion(name)
        signature = inspect.signature(kind).parameters.values()
        of_fpn = inspect.signature(FPN).parameters if name == "gnconv" else {"channels"}
        known = [parameter.name for parameter in signature if parameter.name not in of_fpn]
    for option in options:
        if option not in known:
            allowed = f"allowed are {', '.join(known)}" if known else "it has none"
            raise ConfigError(
                f"got {option!r} for fusion {name!r}{did_you_mean(option, known)}; {allowed}."
            )
    return name, options
