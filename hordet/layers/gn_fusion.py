"""gnConv in the place of a 3x3 ConvModule, as the necks and heads use it."""

import warnings
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hordet.layers.gnconv import GnConv


class GnFusion(GnConv):
    """gnConv, then an optional norm and activation (HorNet section 3.3, HorFPN).

    With `skip` the input is added in front of the activation: `act(x + norm(gnconv(x)))`. This is
    not in the paper and has no parameters; gating then starts beside a path that is the identity.

    A checkpoint says whether its fusions were trained with the skip (the version of this module in
    the state dict's metadata: 2 with it, 1 without it and in all checkpoints from before). Loading
    one sets `skip` accordingly, and warns where that differs from the config. State dicts without
    metadata leave `skip` as it is.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        order: Number of gates; 2 in HorFPN.
        norm: (name, module) as mmcv's `build_norm_layer` returns it, or None.
        act: The activation, or None.
        skip: Add the input; of more channels than the output, the mean of its groups of
            `out_channels` channels, as in UperNet's bottleneck over concatenated levels.
        kwargs: The other parameters of `GnConv`.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H, W).

    Raises:
        ValueError: `skip` with `in_channels` that are no multiple of `out_channels`, or as
            `GnConv` does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 2,
        norm: tuple[str, nn.Module] | None = None,
        act: nn.Module | None = None,
        skip: bool = False,
        **kwargs: Any,
    ) -> None:
        """Create the gnConv; the norm keeps its name so that checkpoints fit."""
        if skip and in_channels % out_channels:
            raise ValueError(
                f"got skip=True for {in_channels} channels in and {out_channels} out; the input "
                "can be added if it has a multiple of the output's channels. Set skip=False."
            )
        super().__init__(in_channels, out_channels, order, **kwargs)
        self.norm_name = None
        if norm is not None:
            self.norm_name, module = norm
            self.add_module(self.norm_name, module)
        self.activate = act
        self.out_channels = out_channels
        self._set_skip(skip)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Fuse, normalize, activate: (N, in_channels, H, W) -> (N, out_channels, H, W)."""
        fused = super().forward(x)
        if self.norm_name is not None:
            fused = getattr(self, self.norm_name)(fused)
        if self.skip:
            fused = fused + self._match_width(x)
        return fused if self.activate is None else self.activate(fused)

    def _match_width(self, x: Tensor) -> Tensor:
        """Return the mean of the groups: (N, G * out_channels, H, W) -> (N, out_channels, H, W)."""
        if x.shape[1] == self.out_channels:
            return x
        return x.unflatten(1, (-1, self.out_channels)).mean(1)

    def _set_skip(self, skip: bool) -> None:
        self.skip = skip
        self._version = 2 if skip else 1  # torch writes it into the metadata of state dicts

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        """Load the weights, and take over whether they were trained with the skip."""
        version = local_metadata.get("version")
        if version is not None and (version >= 2) != self.skip:
            self._set_skip(version >= 2)
            word = "with" if self.skip else "without"
            warnings.warn(  # the same words for each level, so that they are said once
                f"the weights were trained {word} the skip around the gnConvs of neck or head, and "
                f"are used so; skip={self.skip} in the config says the same",
                stacklevel=2,
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def switch_to_deploy(self) -> None:
        """Fold the factor on f(q) and a batch norm; for inference, not undone."""
        super().switch_to_deploy()
        norm = None if self.norm_name is None else getattr(self, self.norm_name)
        if isinstance(norm, _BatchNorm) and isinstance(self.proj_out, nn.Conv2d):
            self.proj_out = fuse_conv_bn_eval(self.proj_out, norm)
            del self._modules[str(self.norm_name)]
            self.norm_name = None
