"""gnConv in the place of a 3x3 ConvModule, as the necks and heads use it."""

import warnings
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hordet.layers.gnconv import GnConv
from hordet.layers.norm import layer_norm_2d

# (skip, pre_norm) by the version of `GnFusion`, from 1; checkpoints of before the skip have 1.
VERSIONS = ((False, False), (True, False), (False, True), (True, True))
WORDS = dict(skip="the skip around", pre_norm="the norm in front of")


class GnFusion(GnConv):
    """gnConv, then an optional norm and activation (HorNet section 3.3, HorFPN).

    With `skip` the input is added in front of the activation: `act(x + norm(gnconv(x)))`. This is
    not in the paper and has no parameters; gating then starts beside a path that is the identity.

    With `pre_norm` the gnConv gets each pixel normalized over its channels, as HorNet's own blocks
    do by their layer norm (section 3.2); it has no weights, since the first projection would absorb
    them. Products square what is large: of stacked gnConvs with batch norms alone, a few pixels
    hold nearly all of the variance, and all others end near 0.

    A checkpoint says how its fusions were trained (the version of this module in the state dict's
    metadata, see `VERSIONS`). Loading one sets `skip` and `pre_norm` accordingly, and warns where
    that differs from the config. State dicts without metadata leave both as they are.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        order: Number of gates; 2 in HorFPN.
        norm: (name, module) as mmcv's `build_norm_layer` returns it, or None.
        act: The activation, or None.
        skip: Add the input; of more channels than the output, the mean of its groups of
            `out_channels` channels, as in UperNet's bottleneck over concatenated levels.
        pre_norm: Normalize each pixel in front of the gnConv.
        kwargs: The other parameters of `GnConv`.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H, W).

    Raises:
        ValueError: `skip` with `in_channels` that are no multiple of `out_channels`, or as
            `GnConv` does. In `load_state_dict`: the weights are of an unknown form.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 2,
        norm: tuple[str, nn.Module] | None = None,
        act: nn.Module | None = None,
        skip: bool = False,
        pre_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        """Create the gnConv; the norm keeps its name so that checkpoints fit."""
        super().__init__(in_channels, out_channels, order, **kwargs)
        self.norm_name = None
        if norm is not None:
            self.norm_name, module = norm
            self.add_module(self.norm_name, module)
        self.activate = act
        self.in_channels, self.out_channels = in_channels, out_channels
        self._set_form(skip, pre_norm)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Fuse, normalize, activate: (N, in_channels, H, W) -> (N, out_channels, H, W)."""
        fused = super().forward(layer_norm_2d(x) if self.pre_norm else x)
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

    def _set_form(self, skip: bool, pre_norm: bool) -> None:
        if skip and self.in_channels % self.out_channels:
            raise ValueError(
                f"got skip=True for {self.in_channels} channels in and {self.out_channels} out; "
                "the input can be added if it has a multiple of the output's channels. Set "
                "skip=False."
            )
        self.skip, self.pre_norm = skip, pre_norm
        # torch writes it into the metadata of state dicts.
        self._version = 1 + VERSIONS.index((skip, pre_norm))

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        """Load the weights, and take over how they were trained."""
        version = local_metadata.get("version")
        if version is not None and version != self._version:
            if version not in range(1, len(VERSIONS) + 1):
                raise ValueError(
                    f"got weights of a gnConv fusion in form {version!r}; this hordet knows the "
                    f"forms 1 to {len(VERSIONS)}. Update hordet, or save the weights with this one."
                )
            trained = VERSIONS[version - 1]
            for name, was, own in zip(
                ("skip", "pre_norm"), trained, (self.skip, self.pre_norm), strict=True
            ):
                if was != own:
                    word = "with" if was else "without"
                    warnings.warn(  # the same words for each level, so that they are said once
                        f"the weights were trained {word} {WORDS[name]} the gnConvs of neck or "
                        f"head, and are used so; {name}={was} in the config says the same",
                        stacklevel=2,
                    )
            self._set_form(*trained)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def switch_to_deploy(self) -> None:
        """Fold the factor on f(q) and a batch norm; for inference, not undone."""
        super().switch_to_deploy()
        norm = None if self.norm_name is None else getattr(self, self.norm_name)
        if isinstance(norm, _BatchNorm) and isinstance(self.proj_out, nn.Conv2d):
            self.proj_out = fuse_conv_bn_eval(self.proj_out, norm)
            del self._modules[str(self.norm_name)]
            self.norm_name = None
