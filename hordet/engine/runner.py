"""From a config to a Runner that is ready to train or test, and from its metrics to one line.

What the tools share. mmengine's Runner does the work; here the environment is settled around it:
one process or many, GPU or CPU, safe checkpoints, checked data.
"""

import copy
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from hordet import checkpoints
from hordet.amp import PREDICTIONS, Float32Hook
from hordet.checkpoints import CoverageHook
from hordet.compiled import compile_regions
from hordet.config import ConfigError, load_config
from hordet.config_faults import nested_dicts
from hordet.datasets import set_data_root
from hordet.datasets.roots import evaluator_configs
from hordet.harmless import is_news
from hordet.layers.layout import use_channels_last
from hordet.processes import check_data
from hordet.registry import MODELS
from hordet.sharding import runner_class
from hordet.tracking import add_trackers

_TEST_LOADER, _TEST_EVALUATOR = "test_dataloader", "test_evaluator"
# Metrics by the last part of their key: what they are called, and what they are divided by.
_METRICS = {
    "bbox_mAP": ("box AP", 1),
    "bbox_mAP_50": ("box AP50", 1),
    "segm_mAP": ("mask AP", 1),
    "segm_mAP_50": ("mask AP50", 1),
    "PQ": ("PQ", 100),
    "PQ_th": ("PQ of things", 100),
    "PQ_st": ("PQ of stuff", 100),
    "mIoU": ("mIoU", 100),
    "aAcc": ("aAcc", 100),
    "mAcc": ("mAcc", 100),
}


def read_config(
    path: str | Path,
    *,
    options: dict[str, Any] | None = None,
    work_dir: str | None = None,
    data_root: str | None = None,
    launcher: str = "none",
    tiny: bool = False,
    safe: bool = False,
) -> Config:
    """Read a config and fit it to this machine.

    Args:
        path: The config file.
        options: Dotted keys to override.
        work_dir: Where results go; the config's, or `work_dirs/NAME_OF_CONFIG`, by default. A
            dry run's go to `work_dirs/tiny/NAME_OF_CONFIG`, apart from those of a training.
        data_root: Where the data are, in place of the config's root.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'. Under torchrun 'none' becomes 'pytorch'.
        tiny: A dry run of seconds on stand-in pictures; the config's data are not needed.
        safe: Refuse a config that holds more than data.

    Returns:
        The config.

    Raises:
        ConfigError: The config is wrong.
    """
    cfg = load_config(path, options, tiny=tiny, safe=safe)
    if data_root and not tiny:
        try:
            set_data_root(cfg, data_root)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    own = None if tiny else cfg.get("work_dir")
    cfg.work_dir = work_dir or own or f"work_dirs/{'tiny/' if tiny else ''}{Path(path).stem}"
    if launcher == "none" and "WORLD_SIZE" in os.environ and "LOCAL_RANK" in os.environ:
        launcher = "pytorch"
    cfg.launcher = launcher
    if not torch.cuda.is_available():
        _fit_to_cpu(cfg)
    return cfg


def _fit_to_cpu(cfg: Config) -> None:
    """Replace what only runs with CUDA: nccl, SyncBatchNorm and a device number per process."""
    cfg.pop("sync_bn", None)
    for part in nested_dicts(cfg.model):
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
    if cfg.launcher == "none":
        return
    cfg.env_cfg = {**cfg.get("env_cfg", {}), "dist_cfg": {"backend": "gloo"}}
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
    }


def training_runner(
    cfg: Config,
    *,
    resume: str | None = None,
    amp: bool = False,
    seed: int | None = None,
    auto_scale_lr: bool = False,
) -> Runner:
    """Build a Runner for training; everything that can be checked before is.

    Args:
        cfg: From `read_config`.
        resume: 'auto' for the latest checkpoint of the work folder, or a checkpoint file.
        amp: Mixed precision: float16 with loss scaling on CUDA, bfloat16 on a CPU.
        seed: Seed of weights, data order and augmentation.
        auto_scale_lr: Scale the learning rate by the pictures that all processes take a step,
            over the config's `auto_scale_lr.base_batch_size`.

    Raises:
        ConfigError: There is no such base, or a tracker is missing.
        DatasetError: The data are not as the config says.
        CheckpointError: A file to resume from is missing.
    """
    if amp:
        wrapper = cfg.optim_wrapper
        if torch.cuda.is_available():
            wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
        else:
            wrapper.type = "hordet.amp.CpuAmpOptimWrapper"
            wrapper.pop("loss_scale", None)
    if seed is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": seed}
    if auto_scale_lr:
        if not (cfg.get("auto_scale_lr") or {}).get("base_batch_size"):
            raise ConfigError(
                "--auto-scale-lr needs to know which batch the learning rate is for: set "
                "auto_scale_lr.base_batch_size in the config, or by --cfg-options"
            )
        cfg.auto_scale_lr["enable"] = True
    add_trackers(cfg)
    if resume is not None:
        _resume(cfg, resume)
    check_data(cfg)
    # A resumed run must be the same model; a fine-tuned one may have another head.
    return _build(cfg, minimum_share=1.0 if cfg.get("resume") else 0.5)


def _resume(cfg: Config, source: str) -> None:
    """Find what to resume from, and say which newer checkpoints were skipped and why."""
    if source == "auto":
        found, skipped = checkpoints.newest_checkpoint(cfg.work_dir)
        for line in skipped:
            warnings.warn(line, checkpoints.CheckpointWarning, stacklevel=2)
    else:
        found = Path(source)
        checkpoints.require_resumable(found)
    # Without any it is the first start of a run that is always started with --resume.
    cfg.update(resume=found is not None, load_from=found and str(found))


def test_runner(
    cfg: Config,
    checkpoint: str | Path,
    *,
    tta: bool = False,
    sliced: bool = False,
    out: str | None = None,
) -> Runner:
    """Build a Runner for testing a checkpoint; only the test data are needed.

    Args:
        cfg: From `read_config`. Logs go to `test` in its work folder: a Runner writes its config
            beside them, which must not take the place of the training's.
        checkpoint: Weights; every tensor of the model must be in it. Or an `.onnx` of
            tools/export.py, which then predicts in the place of the network.
        tta: Test-time augmentation by the config's `tta_pipeline` (and `tta_model`).
        sliced: Detection in patches of the pictures, by the config's `sliced_model`; not with tta.
        out: Where predictions go: a `.pkl` of mmdet, a `.json` of COCO results, or a folder
            of label maps for segmentation.

    Raises:
        ConfigError: `tta`, `sliced` or `out` do not fit the config.
        DatasetError: The data are not as the config says.
        ExportError: The `.onnx` is not of this config.
    """
    if not cfg.get(_TEST_LOADER):
        raise ConfigError(f"the config has no {_TEST_LOADER}, so there is nothing to test on")
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None
    for key in ("runner_type", "strategy"):  # of a training
        cfg.pop(key, None)
    cfg.work_dir = str(Path(cfg.work_dir) / "test")
    exported = Path(checkpoint).suffix == ".onnx"
    cfg.update(load_from=None if exported else str(checkpoint), resume=False)
    if tta:
        _augment(cfg)
    elif sliced:
        from hordet.inference import slice_pictures

        slice_pictures(cfg)
    pickled = bool(out) and _write_predictions(cfg, str(out))
    check_data(cfg)
    runner = _build(cfg, minimum_share=1.0)
    if exported:
        from hordet.export.runtime import predict_with  # imports mmdet and mmseg both

        predict_with(runner.model, checkpoint)
    if pickled:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    return runner


def load_model(cfg: Config, checkpoint: str | Path) -> nn.Module:
    """Build a config's model on the CPU and fill it from a checkpoint; no code in it is run.

    Args:
        cfg: From `read_config`.
        checkpoint: Weights; every tensor of the model must be in it.

    Returns:
        The model in eval mode; `dataset_meta` is that of its training, {} if that names no classes.

    Raises:
        hordet.checkpoints.CheckpointError: The file cannot be opened or is of another model.
    """
    saved = checkpoints.load_checkpoint(checkpoint)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    checkpoints.require(checkpoints.fill(model, saved), 1.0, str(checkpoint))
    if cfg.get("channels_last"):
        use_channels_last(model)
    meta = saved.get("meta")
    trained = meta.get("dataset_meta") if isinstance(meta, dict) else None
    known = isinstance(trained, dict) and trained.get("classes")
    model.dataset_meta = trained if known else {}
    return model


def _build(cfg: Config, minimum_share: float) -> Runner:
    checkpoints.install()
    if cfg.get("load_from") and "://" not in cfg.load_from and not cfg.get("resume"):
        checkpoints.load_checkpoint(cfg.load_from)  # before minutes go into building
    runner = runner_class(cfg).from_cfg(cfg)
    runner.register_hook(Float32Hook(cfg.get("float32_modules", PREDICTIONS)))
    if cfg.get("channels_last"):
        use_channels_last(runner.model)
    if cfg.get("compile_regions"):
        compile_regions(runner.model)
    runner.logger.addFilter(is_news)
    if cfg.get("load_from"):
        runner.register_hook(CoverageHook(cfg.load_from, minimum_share))
    return runner


def _augment(cfg: Config) -> None:
    """Test the mean of several sizes and flips, as the test tools of mmdet and mmseg do."""
    if not cfg.get("tta_pipeline"):
        raise ConfigError("--tta needs a tta_pipeline in the config, and it has none")
    default: dict[str, Any] = {"type": "hordet.SegTTAModel"}
    if not _is_segmentation(cfg):
        nms = {"type": "nms", "iou_threshold": 0.5}
        default = {"type": "hordet.DetTTAModel", "tta_cfg": {"nms": nms, "max_per_img": 100}}
    cfg.model = ConfigDict(**(cfg.get("tta_model") or default), module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def _write_predictions(cfg: Config, out: str) -> bool:
    """Make the metrics write their predictions; tell whether a pickle is asked for instead."""
    suffix = Path(out).suffix
    metrics = evaluator_configs(cfg[_TEST_EVALUATOR])
    if _is_segmentation(cfg):
        if suffix:
            raise ConfigError(f"--out {out}: segmentation writes label maps; name a folder")
        for metric in metrics:
            metric.update(output_dir=out, keep_results=True)
    elif suffix == ".json":
        for metric in metrics:
            metric["outfile_prefix"] = str(Path(out).with_suffix(""))
    elif suffix not in (".pkl", ".pickle"):
        raise ConfigError(f"--out {out}: detection writes a .pkl (all) or .json (COCO results)")
    return suffix in (".pkl", ".pickle")


def _is_segmentation(cfg: Config) -> bool:
    metrics = evaluator_configs(cfg.get(_TEST_EVALUATOR))
    return any(str(metric["type"]).endswith("IoUMetric") for metric in metrics)


def last_validation(runner: Runner) -> dict[str, float]:
    """Return the metrics of a training run's last validation; empty if there was none."""
    scalars = runner.message_hub.log_scalars
    values = {key: buffer.current() for key, buffer in scalars.items() if key.startswith("val/")}
    return {key: float(v) for key, v in values.items() if not key.endswith(("/time", "/data_time"))}


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics that people compare, from 0 to 1 each, as in `{"box AP": 0.668}`.

    Args:
        metrics: Of a validation or a test.
    """
    by_name = {key.split("/")[-1]: value for key, value in reversed(metrics.items())}
    return {
        title: by_name[name] / divisor
        for name, (title, divisor) in _METRICS.items()
        if name in by_name
    }


def summary(metrics: dict[str, Any], runner: Runner | None = None) -> str:
    """Return the headline metrics as one line, such as `box AP 0.668  mask AP 0.651`; 0 to 1.

    Args:
        metrics: Of a validation or a test.
        runner: The one that made them; a line of its last evaluation says if nothing was detected.
    """
    shown = [f"{title} {value:.3f}" for title, value in headline(metrics).items()]
    if not shown:
        shown = [f"{key} {value}" for key, value in metrics.items()]
    if shown and runner is not None and runner.message_hub.get_info("nothing_detected"):
        shown.append("(nothing was detected)")
    return "  ".join(shown)
