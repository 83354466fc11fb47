"""HorNet as a feature pyramid, in torch alone.

Paper: "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions",
Rao et al., NeurIPS 2022, arXiv 2207.14284. Module names are the authors', so that their weights
load without a remap. Differences from their code: it builds without a checkpoint, stages and norms
that no output needs are not built (DistributedDataParallel rejects unused parameters), stages can
be frozen, and a checkpoint that does not fit is an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hordet.hornet.architectures import architecture, check_stages
from hordet.hornet.block import Block
from hordet.hornet.folder import read_folder, write_folder
from hordet.layers import GnConv, LayerNorm2d
from hordet.layers.gnconv import Spatial
from hordet.layers.layout import to_channels_last

Model = TypeVar("Model", bound="HorNet")


class HorNet(nn.Module):
    """HorNet backbone (section 3.3, table 1 of the appendix).

    Args:
        arch: 'tiny', 'small', 'base' or 'large' of the paper, 'nano' (not in the paper, for work
            on a CPU), or dict(base_channels=C, depths=, orders=) with one number a stage; the
            stages have C, 2C, 4C, 8C channels.
        spatial: 'dw7x7' for every stage, or 'gf' for the global filter in the last two.
        gf_sizes: (h, w) of the filters of the last two stages. Published: ((14, 8), (7, 4)) for
            224 pixels; ((24, 13), (12, 7)) for the 384-pixel, L detection and ADE20K models.
        in_channels: Channels of the image.
        drop_path_rate: Drop probability of the last block; the others grow linearly up to it.
        layer_scale_init_value: Start of the layer scales; 0 builds none.
        out_indices: Ascending stages to return, 0 to the last. Later stages are not built.
        frozen_stages: -1 trains all; k freezes the stem and the first k stages, their
            downsampling and output norms included.
        init: 'official' is the authors' truncated normal of std 0.02, which long training outgrows;
            'near_linear' starts awake, for training from scratch in minutes: each convolution
            keeps the variance and each gnConv starts nearly linear.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.

    Attributes:
        depths: Blocks of each built stage.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.
        feature_info: What timm says of its models: a dict(num_chs=, reduction=, module=) a stage.
        settings: The arguments it was built with, for `save_pretrained`.

    Shape:
        (N, in_channels, H, W) -> one (N, C * 2^i, H / (4 * 2^i), W / (4 * 2^i)) a stage i of
        `out_indices`; sizes round down.

    Raises:
        ValueError: Unknown arch, an index outside the stages, a width that the order cannot
            split; at forward, an image smaller than the last stride.
    """

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
    ) -> None:
        """Create the stages up to the last that `out_indices` asks for."""
        super().__init__()
        settings = architecture(arch)
        depths, orders = tuple(settings["depths"]), settings["orders"]
        check_stages(depths, out_indices, frozen_stages, gf_sizes)
        num_stages = max(out_indices) + 1
        channels = self.declare_channels(arch, range(num_stages))
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.depths = depths[:num_stages]
        self.out_channels = tuple(channels[i] for i in out_indices)
        self.out_strides = tuple(4 * 2**i for i in out_indices)
        self.feature_info = [
            dict(num_chs=width, reduction=4 * 2**i, module=f"stages.{i}")
            for i, width in enumerate(channels)
        ]
        self.settings = dict(
            arch=arch,
            spatial=spatial,
            gf_sizes=gf_sizes,
            in_channels=in_channels,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            out_indices=self.out_indices,
        )

        first_gf = len(depths) - 2 if spatial == "gf" else len(depths)
        drop_step = drop_path_rate / max(sum(depths) - 1, 1)
        self.downsample_layers: Any = nn.ModuleList()
        self.stages: Any = nn.ModuleList()
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
    def declare_channels(
        cls,
        arch: str | dict[str, Any] = "tiny",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **others: Any,
    ) -> tuple[int, ...]:
        """Return the channels of each output of a model of these options; none is built.

        Args:
            arch: As of the class.
            out_indices: As of the class.
            others: The options of the class that have no say in it.

        Raises:
            ValueError: Unknown arch.
        """
        return tuple(architecture(arch)["base_channels"] * 2**i for i in out_indices)

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

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, as models of Hugging Face do.

        Args:
            folder: Made if it is not there; the two files are replaced.
        """
        write_folder(folder, self.settings, self.state_dict())

    @classmethod
    def from_pretrained(cls: type[Model], folder: str | Path, **options: Any) -> Model:
        """Build the model of a local folder; nothing is downloaded and no code of it is run.

        Args:
            folder: With `config.json` and `model.safetensors`.
            options: Arguments that differ, such as `out_indices` or `frozen_stages`.

        Returns:
            The model in eval mode.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file is damaged or of another kind, or the weights do not fit the options.
        """
        settings, weights = read_folder(folder)
        model = cls(**{**settings, **options})
        # What an output that is left out needed.
        built = tuple(name.split(".")[0] for name in model.state_dict() if name[:4] == "norm")
        stages = len(model.stages)
        kept = {
            name: tensor
            for name, tensor in weights.items()
            if not _is_left_out(name, stages, built)
        }
        try:
            model.load_state_dict(kept)
        except RuntimeError as error:
            raise ValueError(f"the weights in {folder} do not fit {options}: {error}") from error
        return model.eval()

    def train(self: Model, mode: bool = True) -> Model:
        """Switch the mode; frozen stages stay in eval mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, in_channels, H, W) -> one map an output stage."""
        stride = 4 * 2 ** (len(self.stages) - 1)
        if min(x.shape[-2:]) < stride:
            raise ValueError(
                f"got an image of {x.shape[-2]} x {x.shape[-1]} pixels; the last stage has stride "
                f"{stride}, so each side needs at least {stride}: pad or enlarge the image."
            )
        x = to_channels_last(x)
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


def _is_left_out(name: str, stages: int, norms: tuple[str, ...]) -> bool:
    """Tell whether a tensor is of a stage beyond the built ones, or of an output not asked for."""
    part, _, rest = name.partition(".")
    if part.startswith("norm"):
        return part not in norms
    return part in ("stages", "downsample_layers") and int(rest.partition(".")[0]) >= stages
