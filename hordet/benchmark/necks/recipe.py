"""The config of a training of the neck study: another neck and a smaller budget."""

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from hordet.benchmark.necks.plan import HEADS, SETTINGS, Training
from hordet.engine.runner import read_config

NECK: dict[str, Any] = dict(out_channels=64, num_outs=5, norm_cfg=dict(type="BN"))
# The names of the fusions' parameters where they are not FPN's.
FUSIONS = {"hordet.GraphFPN": ".fusion."}
# A training is one process with one thread, and writes no checkpoints.
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
ALONE: dict[str, Any] = {
    **{f"{loader}.num_workers": 0 for loader in _LOADERS},
    **{f"{loader}.persistent_workers": False for loader in _LOADERS},
    "default_hooks.checkpoint": None,
    "custom_hooks": [dict(type="hordet.FiniteLossHook")],
}


def make_config(training: Training, root: Path, tiny: bool = False) -> Config:
    """Return the config of a training.

    - Detection: the config's Mask R-CNN, with the training's neck.
    - Segmentation: the training's neck under one simple head for all necks, `hordet.ESegHead`: the
      weighted sum of the five levels at stride 4, one 3x3 convolution, and the classifier; there is
      no auxiliary head. UperNet's own heads contain an FPN, so they cannot compare necks.
    - One of `HEADS`: the config's UperNet with this head.

    Args:
        training: The training.
        root: Folder of the repository, with `configs`.
        tiny: Whether to make a dry run; see `hordet.config.tiny.make_tiny`.

    Raises:
        ConfigError: As `hordet.engine.runner.read_config`.
    """
    setting = SETTINGS[training.dataset]
    path = root / "configs" / setting.configs[training.backbone]
    cfg = read_config(path, options={**ALONE, **setting.options}, tiny=tiny)
    model = cfg.model
    if training.neck in HEADS:
        model.decode_head.update(training.options)
        _set_rate(cfg, "decode_head.fpn_bottleneck", training.rate)
        return cfg
    segmentation = "decode_head" in model
    in_channels = (model.decode_head if segmentation else model.neck).in_channels
    model.neck = ConfigDict({**NECK, **training.options, "in_channels": list(in_channels)})
    _set_rate(cfg, FUSIONS.get(model.neck.type, "neck.fpn_convs"), training.rate)
    if segmentation:
        model.decode_head = _make_simple_head(model.decode_head)
        model.auxiliary_head = None
    return cfg


def _set_rate(cfg: Config, key: str, rate: float) -> None:
    """Multiply the learning rate of the fusions alone."""
    cfg.optim_wrapper.paramwise_cfg.custom_keys = {key: dict(lr_mult=rate)}


def _make_simple_head(head: ConfigDict) -> ConfigDict:
    """Return the head that all necks share, with the classes and losses of the config's head."""
    kept = {key: head[key] for key in ("num_classes", "align_corners", "loss_decode", "norm_cfg")}
    width, levels = NECK["out_channels"], NECK["num_outs"]
    return ConfigDict(
        type="hordet.ESegHead",
        in_channels=[width] * levels,
        channels=width,
        dropout_ratio=0.0,
        **kept,
    )
