"""From a config to a Runner that is ready to train or test: read -> prepare -> build.

mmengine's Runner does the work; here the environment is settled around it: one process or many,
GPU or CPU, safe checkpoints, checked data.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

from hordet import checkpoints
from hordet.config.dump import write_configs_readably
from hordet.config.load import load_config
from hordet.config.names import find_config
from hordet.datasets.detection_limits import set_detection_limit
from hordet.datasets.roots import set_data_root
from hordet.engine.amp import PREDICTIONS, Float32Hook, set_tf32
from hordet.engine.console import make_quiet
from hordet.engine.data import check_data
from hordet.engine.determinism import allow_unordered_kernels
from hordet.engine.hooks.console import ConsoleHook
from hordet.engine.hooks.resume import ResumeHook
from hordet.engine.initial_weights import require_initial_weights
from hordet.engine.lock import lock_work_dir
from hordet.engine.modes import compile_regions, use_triton_gates
from hordet.engine.prepare import fit_to_machine, prepare_test, prepare_training
from hordet.engine.recipe import fit_recipe_to_data
from hordet.engine.settings import explain_settings
from hordet.engine.shared_memory import check_shared_memory, share_temporary_folder
from hordet.errors import ConfigError
from hordet.layers.layout import use_channels_last
from hordet.layers.recompute import switch_recomputation
from hordet.ops.upstream import (
    allow_single_anchors,
    copy_without_waiting,
    grow_log_buffers,
    is_news,
)
from hordet.registry import MODELS

SHARDED = "hordet.FullyShardedStrategy"
BUDGET = "hordet.TimeBudgetHook"


def read_config(
    path: str | Path,
    *,
    options: dict[str, Any] | None = None,
    work_dir: str | None = None,
    data_root: str | None = None,
    launcher: str = "none",
    tiny: bool = False,
    safe: bool = False,
    max_detections: int | None = None,
) -> Config:
    """Read a config and fit it to this machine.

    Args:
        path: The config file, or the name of one of hordet's.
        options: Dotted keys to override.
        work_dir: Where results go; the config's, or `work_dirs/NAME_OF_CONFIG`, by default. A
            dry run's go to `work_dirs/tiny/NAME_OF_CONFIG`, apart from those of a training.
        data_root: Where the data are, in place of the config's root.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'. Under torchrun 'none' becomes 'pytorch'.
        tiny: A dry run of seconds on stand-in images; the config's data are not needed.
        safe: Refuse a config that holds more than data.
        max_detections: Detections that a detector gives of an image, and that are scored.

    Returns:
        The config.

    Raises:
        ConfigError: The config is wrong.
    """
    path = find_config(path)
    cfg = load_config(path, options, tiny=tiny, safe=safe)
    own = None if tiny else cfg.get("work_dir")
    default = f"work_dirs/{'tiny/' if tiny else ''}{path.stem}"
    fit_to_machine(cfg, work_dir or own or default, launcher)
    if data_root and not tiny:
        set_data_root(cfg, data_root)
    if max_detections is not None and not set_detection_limit(cfg, max_detections):
        raise ConfigError(
            "--max-dets is for detectors whose model.test_cfg has max_per_img, and this model has "
            "no such limit: leave it out"
        )
    return cfg


def build_training_runner(
    cfg: Config,
    *,
    force: bool = False,
    verbose: bool = False,
    new_schedule: bool = False,
    **settings: Any,
) -> Runner:
    """Build a Runner for training; everything that can be checked before is.

    Args:
        cfg: From `read_config`.
        force: Train also in a work folder that another run holds.
        verbose: Show on the console all that the log file gets, in place of ConsoleHook's lines.
        new_schedule: Let a resumed run take learning rate and schedule from the config.
        **settings: Of `hordet.engine.prepare.prepare_training`.

    Raises:
        ConfigError: A setting does not fit the config, or another run holds the work folder.
        DatasetError: The data are not as the config says.
        CheckpointError: A file to resume from is missing, or weights of a name cannot be had or
            do not fill their part of the model.
    """
    prepare_training(cfg, **settings)
    if new_schedule and any(h.get("type") == BUDGET for h in cfg.get("custom_hooks") or ()):
        raise ConfigError(
            "--new-schedule and recipe.max_minutes both set the schedule: leave out one of them"
        )
    if torch.cuda.is_available():  # elsewhere the same setting may mean bfloat16
        set_tf32(cfg.get("tf32", True))
    check_data(cfg)
    fit_recipe_to_data(cfg)
    check_shared_memory(cfg)
    share_temporary_folder(cfg)
    lock_work_dir(cfg.work_dir, force)
    if new_schedule and choose_runner_class(cfg) is not Runner:
        raise ConfigError("--new-schedule is for one model a process: leave it out with a strategy")
    if not cfg.get("resume"):
        require_initial_weights(cfg)
    # A resumed run must be the same model; a fine-tuned one may have another head.
    share = 1.0 if cfg.get("resume") else 0.5
    runner = _build_runner(cfg, minimum_share=share, verbose=verbose)
    runner.register_hook(ResumeHook(new_schedule))
    return runner


def build_test_runner(
    cfg: Config, checkpoint: str | Path | None, *, verbose: bool = False, **settings: Any
) -> Runner:
    """Build a Runner for testing a checkpoint; only the test data are needed.

    Args:
        cfg: From `read_config`.
        checkpoint: Weights; every tensor of the model must be in it. None: the network comes from
            elsewhere, such as an ONNX file.
        verbose: As for `build_training_runner`.
        **settings: Of `hordet.engine.prepare.prepare_test`.

    Raises:
        ConfigError: A setting does not fit the config.
        DatasetError: The data are not as the config says.
        CheckpointError: The file cannot be opened or is of another model.
    """
    prepare_test(cfg, checkpoint, **settings)
    check_data(cfg)
    check_shared_memory(cfg)
    share_temporary_folder(cfg)
    return _build_runner(cfg, minimum_share=1.0, verbose=verbose)


def load_model(cfg: Config, checkpoint: str | Path) -> Any:
    """Build a config's model on the CPU and fill it from a checkpoint; no code in it is run.

    Args:
        cfg: From `read_config`.
        checkpoint: Weights; every tensor of the model must be in it.

    Returns:
        The model in eval mode; `dataset_meta` is that of its training, {} if that names no classes.

    Raises:
        CheckpointError: The file cannot be opened or is of another model.
    """
    saved = checkpoints.load_checkpoint(checkpoint)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    allow_single_anchors()
    coverage = checkpoints.fill_model(model, saved, whole=True)
    checkpoints.require_coverage(coverage, 1.0, str(checkpoint))
    if cfg.get("channels_last"):
        use_channels_last(model)
    meta = saved.get("meta")
    trained = meta.get("dataset_meta") if isinstance(meta, dict) else None
    known = isinstance(trained, dict) and trained.get("classes")
    model.dataset_meta = trained if known else {}
    return model


def choose_runner_class(cfg: Config) -> type[Runner] | type[FlexibleRunner]:
    """Return the class of Runner that a config asks for: mmengine's `Runner` unless it says more.

    Raises:
        ConfigError: It asks for a strategy that is not tested here, or with what does not fit it.
    """
    name = cfg.get("runner_type") or "Runner"
    if name not in ("Runner", "FlexibleRunner"):
        raise ConfigError(f"runner_type={name!r}; there are 'Runner' and 'FlexibleRunner'")
    strategy = cfg.get("strategy")
    if name == "Runner":
        if strategy:
            raise ConfigError("a strategy needs runner_type='FlexibleRunner' beside it")
        return Runner
    kind = (strategy or {}).get("type")
    if kind != SHARDED:
        raise ConfigError(
            f"got strategy.type={kind!r}, and FlexibleRunner is tested with {SHARDED!r} alone: "
            "mmengine's strategies (DDP, FSDP, DeepSpeed) write a checkpoint over the one before, "
            "without a SHA-256 and without all that an exact resume needs. Take that one, or leave "
            "out runner_type and strategy: several processes then train by "
            "DistributedDataParallel"
        )
    if cfg.get("launcher", "none") == "none":
        raise ConfigError(f"{SHARDED} splits a model among processes: start them by torchrun")
    hooks = [str(hook.get("type")) for hook in cfg.get("custom_hooks") or ()]
    keys = [key for key in ("channels_last", "compile_regions", "triton_gates") if cfg.get(key)]
    wrong = [hook for hook in hooks if hook.endswith("EMAHook")] + keys
    if wrong:
        raise ConfigError(f"{SHARDED} works without {' and '.join(wrong)}: remove it")
    return FlexibleRunner


def _build_runner(cfg: Config, minimum_share: float, verbose: bool) -> Runner:
    checkpoints.use_safe_loading()
    source = cfg.get("load_from")
    if source and not cfg.get("resume") and ("://" not in source or checkpoints.is_named(source)):
        checkpoints.load_checkpoint(source)  # before minutes go into building
    runner_class: type[Any] = choose_runner_class(cfg)
    runner_class = explain_settings(runner_class if verbose else make_quiet(runner_class))
    write_configs_readably()
    runner = runner_class.from_cfg(cfg)
    allow_unordered_kernels()
    grow_log_buffers()
    allow_single_anchors()
    if not verbose:
        runner.register_hook(ConsoleHook())
    runner.register_hook(Float32Hook(cfg.get("float32_modules", PREDICTIONS)))
    switch_recomputation(cfg.get("recompute", True))
    if isinstance(runner.model, nn.Module):  # FlexibleRunner builds it when the training starts
        copy_without_waiting(runner.model)
    if cfg.get("channels_last"):
        use_channels_last(runner.model)
    if cfg.get("triton_gates"):
        if cfg.get("compile_regions"):
            raise ConfigError(
                "got compile_regions and triton_gates, which are not tested together: choose one"
            )
        use_triton_gates(runner.model)
    if cfg.get("compile_regions"):
        compile_regions(runner.model)
    runner.logger.addFilter(is_news)
    if cfg.get("load_from"):
        runner.register_hook(checkpoints.CoverageHook(cfg.load_from, minimum_share))
    return runner


def read_last_validation(runner: Runner) -> dict[str, float]:
    """Return the metrics of a training run's last validation; empty if there was none."""
    scalars = runner.message_hub.log_scalars
    values = {key: buffer.current() for key, buffer in scalars.items() if key.startswith("val/")}
    return {key: float(v) for key, v in values.items() if not key.endswith(("/time", "/data_time"))}
