"""The config of one training of the neck study: a leaf, its neck exchanged, the budget cut."""

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from hordet.benchmark.necks.plan import HEADS, NECKS, SETTINGS, STARTS, Training
from hordet.engine.runner import read_config

NECK = dict(out_channels=64, num_outs=5, norm_cfg=dict(type="BN"))
# A training is one process of one thread, and leaves its figures alone.
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
ALONE: dict[str, Any] = {
    **{f"{loader}.num_workers": 0 for loader in _LOADERS},
    **{f"{loader}.persistent_workers": False for loader in _LOADERS},
    "default_hooks.checkpoint": None,
    "custom_hooks": [dict(type="hordet.FiniteLossHook")],
}


def make_config(training: Training, root: Path, tiny: bool = False) -> Config:
    """Return the config of a training.

    - Detection: the leaf's Mask R-CNN, with the training's neck.
    - Segmentation: the training's neck under one simple head for all, `hordet.ESegHead`: the
      weighted sum of the five levels at stride 4, one 3x3 convolution, the classifier; no auxiliary
      head.
      UperNet's own heads have an FPN inside, so a neck cannot be exchanged in front of them.
    - One of `HEADS`: the leaf's UperNet with this head.

    Args:
        training: Which.
        root: The repository, which has `configs`.
        tiny: A dry run; see `hordet.config.tiny.make_tiny`.

    Raises:
        ConfigError: As `hordet.engine.runner.read_config`.
    """
    setting = SETTINGS[training.dataset]
    path = root / "configs" / setting.leaves[training.backbone]
    cfg = read_config(path, options={**ALONE, **setting.options}, tiny=tiny)
    model = cfg.model
    if training.neck in HEADS:
        model.decode_head.update(HEADS[training.neck])
        return cfg
    segmentation = "decode_head" in model
    in_channels = (model.decode_head if segmentation else model.neck).in_channels
    neck = {**NECK, **(NECKS | STARTS)[training.neck], "in_channels": list(in_channels)}
    model.neck = ConfigDict(neck)
    if segmentation:
        model.decode_head = _simple_head(model.decode_head)
        model.auxiliary_head = None
    return cfg


def _simple_head(head: ConfigDict) -> ConfigDict:
    """Return the head that all necks share, with the classes and losses of the leaf's."""
    kept = {key: head[key] for key in ("num_classes", "align_corners", "loss_decode", "norm_cfg")}
    width, levels = NECK["out_channels"], NECK["num_outs"]
    return ConfigDict(
        type="hordet.ESegHead",
        in_channels=[width] * levels,
        channels=width,
        dropout_ratio=0.0,
        **kept,
    )
