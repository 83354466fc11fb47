"""HorNet as a backbone for dense prediction.

Paper: "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions",
Rao et al., NeurIPS 2022, arXiv 2207.14284. Module names are the authors', so that their weights
load without a remap. Differences from their code: it builds without a checkpoint, stages and norms
that no output needs are not built (DistributedDataParallel rejects unused parameters), stages can
be frozen, and a checkpoint that does not fit is an error.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hordet.backbones.hornet_block import Block
from hordet.checkpoints import load_weights
from hordet.layers import GnConv, LayerNorm2d
from hordet.layers.gnconv import Spatial
from hordet.layers.layout import channels_last
from hordet.registry import MODELS


@MODELS.register_module()
class HorNet(BaseModule):
    """HorNet backbone (section 3.3, table 1 of the appendix).

    Args:
        arch: 'tiny', 'small', 'base' or 'large' of the paper, 'nano' (not in the paper, for work
            on a CPU), or dict(base_channels=C, depths=, orders=) with one number a stage; the
            stages have C, 2C, 4C, 8C channels.
        spatial: 'dw7x7' for every stage, or 'gf' for the global filter in the last two.
        gf_sizes: (h, w) of the filters of the last two stages. Published: ((14, 8), (7, 4)) for
            224 pixels; ((24, 13), (12, 7)) for the 384-pixel, L detection and ADE20K models.
        in_channels: Channels of the picture.
        drop_path_rate: Drop probability of the last block; the others grow linearly up to it.
        layer_scale_init_value: Start of the layer scales; 0 builds none.
        out_indices: Ascending stages to return, 0 to the last. Later stages are not built.
        frozen_stages: -1 trains all; k freezes the stem and the first k stages, their
            downsampling and output norms included.
        init: 'official' is the authors' truncated normal of std 0.02, which long training outgrows;
            'near_linear' starts awake, for training from scratch in minutes: each convolution
            keeps the variance and each gnConv starts nearly linear.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a file of the authors, of
            mmengine or a bare state dict; a classification head is ignored and the output norms,
            which classification files lack, stay as they are.

    Attributes:
        depths: Blocks of each built stage.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the picture.

    Shape:
        (N, in_channels, H, W) -> one (N, C * 2^i, H / (4 * 2^i), W / (4 * 2^i)) a stage i of
        `out_indices`; sizes round down.

    Raises:
        ValueError: Unknown arch, an index outside the stages, a width that the order cannot
            split; at forward, a picture smaller than the last stride.
        hordet.checkpoints.CheckpointError: The file cannot be read or is of another model.
    """

    arch_settings: dict[str, dict[str, Any]] = {
        # name: channels of the first stage, blocks a stage, order of the gnConv a stage
        "nano": dict(base_channels=32, depths=(2, 2, 4, 2), orders=(2, 3, 4, 5)),
        "tiny": dict(base_channels=64, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
        "small": dict(base_channels=96, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
        "base": dict(base_channels=128, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
        "large": dict(base_channels=192, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
    }

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        spatial: Spatial = "dw7x7",
        gf_sizes: Sequence[tuple[int, int]] = ((14, 8), (7, 4)),
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool = False,
        init: Literal["official", "near_linear"] = "official",
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Create the stages up to the last that `out_indices` asks for."""
        super().__init__(init_cfg=init_cfg)
        settings = self._settings(arch)
        depths, orders = tuple(settings["depths"]), settings["orders"]
        self._check(depths, out_indices, frozen_stages, gf_sizes)
        num_stages = max(out_indices) + 1
        channels = [settings["base_channels"] * 2**i for i in range(num_stages)]
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.depths = depths[:num_stages]
        self.out_channels = tuple(channels[i] for i in out_indices)
        self.out_strides = tuple(4 * 2**i for i in out_indices)

        first_gf = len(depths) - 2 if spatial == "gf" else len(depths)
        drop_step = drop_path_rate / max(sum(depths) - 1, 1)
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, width in enumerate(channels):
            if i == 0:
                down = [nn.Conv2d(in_channels, width, 4, stride=4), LayerNorm2d(width)]
            else:
                narrow = channels[i - 1]
                down = [LayerNorm2d(narrow), nn.Conv2d(narrow, width, 2, stride=2)]
            self.downsample_layers.append(nn.Sequential(*down))
            is_gf = i >= first_gf
            blocks = [
                Block(
                    width,
                    orders[i],
                    spatial="gf" if is_gf else "dw7x7",
                    gf_size=gf_sizes[i - first_gf] if is_gf else (14, 8),
                    drop_path=drop_step * (sum(depths[:i]) + j),
                    layer_scale_init_value=layer_scale_init_value,
                )
                for j in range(depths[i])
            ]
            self.stages.append(nn.Sequential(*blocks))
        for i in self.out_indices:
            self.add_module(f"norm{i}", LayerNorm2d(channels[i]))
        self._init_parameters(init)
        self._freeze_stages()

    @classmethod
    def _settings(cls, arch: str | dict[str, Any]) -> dict[str, Any]:
        """Look up a named architecture, or check a dict."""
        if isinstance(arch, str):
            if arch not in cls.arch_settings:
                raise ValueError(
                    f"got arch={arch!r}; allowed are {', '.join(cls.arch_settings)}, or "
                    "dict(base_channels=, depths=, orders=)."
                )
            return cls.arch_settings[arch]
        expected = {"base_channels", "depths", "orders"}
        if set(arch) != expected or len(arch["depths"]) != len(arch["orders"]):
            raise ValueError(
                f"got arch={arch}; a dict needs exactly the keys {', '.join(sorted(expected))}, "
                "with as many depths as orders."
            )
        return arch

    @staticmethod
    def _check(
        depths: tuple[int, ...],
        out_indices: Sequence[int],
        frozen_stages: int,
        gf_sizes: Sequence[tuple[int, int]],
    ) -> None:
        """Reject indices outside the stages."""
        last = len(depths) - 1
        if not out_indices or list(out_indices) != sorted({*out_indices} & {*range(last + 1)}):
            raise ValueError(
                f"got out_indices={tuple(out_indices)}; allowed are ascending stages of 0 to "
                f"{last}, such as {tuple(range(last + 1))}."
            )
        if not -1 <= frozen_stages <= len(depths):
            raise ValueError(
                f"got frozen_stages={frozen_stages}; allowed are -1 (train all) to {len(depths)} "
                "(freeze all)."
            )
        if len(gf_sizes) != 2:
            raise ValueError(
                f"got gf_sizes={gf_sizes}; the last two stages take one (h, w) each, such as "
                "((14, 8), (7, 4))."
            )

    def _init_parameters(self, init: str) -> None:
        """Fill convolutions and linear layers by truncated normals, biases by zeros."""
        if init not in ("official", "near_linear"):
            raise ValueError(f"got init={init!r}; allowed are 'official' and 'near_linear'.")
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                std = 0.02 if init == "official" else fan_in**-0.5
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if init == "near_linear":
            # Padding is zero, and a norm over channels that are all zero has a gradient of 1,000;
            # with layer scales of 1 these multiply from block to block until they overflow.
            nn.init.normal_(self.downsample_layers[0][0].bias, std=0.5)
            for module in self.modules():
                if isinstance(module, GnConv):
                    module.init_near_linear()

    def init_weights(self) -> None:
        """Load `init_cfg`'s file and report its coverage; without one, keep the initialisation.

        Raises:
            ValueError: `init_cfg` is of a type other than 'Pretrained'.
            hordet.checkpoints.CheckpointError: The file cannot be read or is of another model.
        """
        if not self.init_cfg or self._is_init:
            return
        if self.init_cfg.get("type") != "Pretrained":
            raise ValueError(
                f"got init_cfg={self.init_cfg}; allowed is dict(type='Pretrained', "
                "checkpoint=PATH), or None for the authors' initialisation."
            )
        load_weights(self, self.init_cfg["checkpoint"], minimum_share=0.9)
        self._is_init = True

    def _freeze_stages(self) -> None:
        """Take the stem and the first `frozen_stages` stages out of training."""
        if self.frozen_stages < 0:
            return
        frozen = [self.downsample_layers[0]]
        for i in range(min(self.frozen_stages, len(self.stages))):
            frozen += [self.downsample_layers[i], self.stages[i]]
            frozen += [getattr(self, f"norm{i}")] if i in self.out_indices else []
        for module in frozen:
            module.eval()  # no drop path
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "HorNet":
        """Switch the mode; frozen stages stay in eval mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, in_channels, H, W) -> one map an output stage."""
        stride = 4 * 2 ** (len(self.stages) - 1)
        if min(x.shape[-2:]) < stride:
            raise ValueError(
                f"got a picture of {x.shape[-2]} x {x.shape[-1]} pixels; the last stage has stride "
                f"{stride}, so each side needs at least {stride}: pad or enlarge the picture."
            )
        x = channels_last(x)
        outs = []
        for i, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = down(x)
            for block in stage:
                if self.with_cp and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if i in self.out_indices:
                outs.append(getattr(self, f"norm{i}")(x))
        return tuple(outs)
