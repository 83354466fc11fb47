"""The models that can be timed: components by name and any config, in several forms and dtypes."""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from hordet.config.names import find_config
from hordet.engine.amp import PREDICTIONS, keep_float32
from hordet.engine.modes import compile_regions, switch_to_deploy
from hordet.errors import ConfigError
from hordet.layers.layout import use_channels_last
from hordet.registry import MODELS

Pass = Literal["forward", "training", "pipeline"]
FORMS = ("eager", "channels-last", "deployed", "compiled", "naive", "naive-malloc")
DTYPES = ("float32", "tf32", "bfloat16", "float16")
# An image that COCO's recipes resize to 800 x 1088, and its four levels of 256 channels each.
IMAGE, STRIDES, CHANNELS = (800, 1088), (4, 8, 16, 32), 256
CROP = (512, 512)


@dataclass(frozen=True)
class Candidate:
    """A model to time, in one form and dtype.

    Attributes:
        name: A key of `COMPONENTS`, or a config: its path, or its name in hordet.
        form: 'eager'; 'channels-last' (the weights of all convolutions); 'deployed' (scales and
            batch norms folded); 'compiled' (its regions by torch.compile); 'naive' (the published
            equations, channels first); 'naive-malloc' (the same with torch's default
            allocator).
        dtype: 'float32'; 'tf32', float32 whose products a GPU rounds to TF32; 'bfloat16' or
            'float16' for autocast.
    """

    name: str
    form: str = "eager"
    dtype: str = "float32"

    @classmethod
    def parse(cls, word: str) -> "Candidate":
        """Read `NAME[:FORM][:DTYPE]`.

        Raises:
            ValueError: A part is unknown; the message lists what is allowed.
        """
        name, *parts = word.split(":")
        options = {}
        for part in parts:
            key = "form" if part in FORMS else "dtype" if part in DTYPES else None
            if key is None:
                raise ValueError(
                    f"{word!r}: {part!r} is neither a form ({', '.join(FORMS)}) nor a dtype "
                    f"({', '.join(DTYPES)})."
                )
            options[key] = part
        if name not in COMPONENTS:
            try:
                find_config(name)
            except ConfigError as error:
                raise ValueError(
                    f"{word!r}: no component or config is named {name!r}; components are "
                    f"{', '.join(COMPONENTS)}, and {error}"
                ) from error
        return cls(name, **options)

    def __str__(self) -> str:
        """Return the word that `parse` reads."""
        return f"{self.name}:{self.form}:{self.dtype}"

    @property
    def is_naive(self) -> bool:
        """Whether it computes the published equations literally."""
        return self.form.startswith("naive")

    def autocast(self, device: str) -> AbstractContextManager:
        """Return the context in which its forward pass runs."""
        if self.dtype in ("bfloat16", "float16"):
            return torch.autocast(device, getattr(torch, self.dtype))
        return nullcontext()


class Levels(nn.Module):
    """One layer for each level: list of (N, C, H_i, W_i) -> the same shapes."""

    def __init__(self, layers: list[nn.Module]) -> None:
        """Keep the layers."""
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Apply each layer to its level."""
        return [layer(x) for layer, x in zip(self.layers, levels, strict=True)]


def _build_fusions(spatial: str | None) -> Levels:
    """Build the four output layers of a neck: gnConvs, or the 3x3 convolutions of FPN."""
    from hordet.layers import GnFusion

    if spatial is None:
        return Levels([nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in STRIDES])
    layers: list[nn.Module] = []
    for _ in STRIDES:
        layer = GnFusion(CHANNELS, CHANNELS, spatial=spatial, gf_size=(32, 17))
        layer.init_near_linear()
        layers.append(layer)
    return Levels(layers)


def _build_hornet(arch: str, spatial: str) -> nn.Module:
    return MODELS.build(dict(type="hordet.HorNet", arch=arch, spatial=spatial))


def _build_convnext() -> nn.Module:
    import timm

    return timm.create_model("convnext_tiny", features_only=True)


def _build_block() -> nn.Module:
    from hordet.hornet import Block

    return Block(256, order=4)


def _build_torchvision_detector() -> nn.Module:
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    return maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)


def _make_levels(batch: int) -> list[Tensor]:
    height, width = IMAGE
    return [torch.randn(batch, CHANNELS, height // s, width // s) for s in STRIDES]


def _make_image(batch: int) -> Tensor:
    return torch.randn(batch, 3, *CROP)


COMPONENTS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "fpn": (lambda: _build_fusions(None), _make_levels),
    "horfpn-7x7": (lambda: _build_fusions("dw7x7"), _make_levels),
    "horfpn-gf": (lambda: _build_fusions("gf"), _make_levels),
    "hornet-tiny-7x7": (lambda: _build_hornet("tiny", "dw7x7"), _make_image),
    "hornet-tiny-gf": (lambda: _build_hornet("tiny", "gf"), _make_image),
    "convnext-tiny": (_build_convnext, _make_image),
    "block": (_build_block, lambda batch: torch.randn(batch, 256, 32, 32)),
    "torchvision-mask-rcnn": (
        _build_torchvision_detector,
        lambda batch: [torch.rand(3, *IMAGE) for _ in range(batch)],
    ),
}


def read_candidate_config(
    candidate: Candidate, options: dict[str, Any], data_root: str | None
) -> Any:
    """Read the config of a candidate, without pretrained weights.

    Naive detectors use the mask head and the metric of mmdet, the others those of hordet.

    Args:
        candidate: A candidate that is a config.
        options: Dotted keys that override the config's.
        data_root: Folder of the data, in place of the config's.
    """
    from hordet.engine.runner import read_config

    cfg = read_config(find_config(candidate.name), options=options, data_root=data_root)
    for part in (cfg.model, cfg.model.get("backbone", {})):
        part.pop("init_cfg", None)
    mask_head = (cfg.model.get("roi_head") or {}).get("mask_head", {})
    for part, stock, ours in (
        (mask_head, "FCNMaskHead", "hordet.RleMaskHead"),
        (cfg.test_evaluator, "mmdet.CocoMetric", "hordet.CocoMetric"),
    ):
        if part.get("type") in (stock, ours):
            part["type"] = stock if candidate.is_naive else ours
    return cfg


def build_candidate(candidate: Candidate, cfg: Any, naive_file: Path | None) -> nn.Module:
    """Build the model of a candidate, with the same random weights in every form.

    Args:
        candidate: The candidate.
        cfg: Its config; None for a component.
        naive_file: A Python file with a function `naive(model)`, for the naive forms.

    Raises:
        ValueError: The form is naive and there is no file.
    """
    torch.manual_seed(0)
    if cfg is None:
        model = COMPONENTS[candidate.name][0]()
    else:
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
            model = MODELS.build(cfg.model)
    if candidate.is_naive:
        if naive_file is None:
            raise ValueError("a naive form needs the file of the published equations.")
        spec = importlib.util.spec_from_file_location("naive_reference", naive_file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.naive(model)
    # `Levels` is part of a neck, but its modules are not named `neck`.
    keep_float32(model, (*PREDICTIONS, "layers.*.proj_out"))
    if candidate.form == "channels-last":
        use_channels_last(model)
    if candidate.form == "deployed":
        return switch_to_deploy(model)
    if candidate.form == "compiled" and not compile_regions(model):
        model.compile(dynamic=True)  # a model without HorNet blocks or gnConv fusions
    return model


def make_input(candidate: Candidate, batch: int) -> Any:
    """Make the input of a component: channels first for naive forms, otherwise channels-last."""
    torch.manual_seed(1)
    x = COMPONENTS[candidate.name][1](batch)
    if candidate.is_naive or candidate.name == "torchvision-mask-rcnn":
        return x
    if isinstance(x, list):
        return [level.contiguous(memory_format=torch.channels_last) for level in x]
    return x.contiguous(memory_format=torch.channels_last)
