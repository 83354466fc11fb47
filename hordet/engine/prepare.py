"""Every change of a config between its file and the Runner stands here.

`fit_to_machine` makes a config run where it is; `prepare_training` and `prepare_test` add what the
command line asks for.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from hordet import checkpoints
from hordet.config.faults import walk_dicts
from hordet.datasets.detection_limits import find_detection_limit
from hordet.datasets.roots import find_moved_root, list_metrics, set_data_root
from hordet.datasets.shapes.cache import SHAPES, locate_shapes
from hordet.engine.determinism import prepare_determinism
from hordet.engine.recipe import apply_recipe
from hordet.engine.shared_memory import limit_waiting
from hordet.engine.trackers import add_trackers
from hordet.errors import CheckpointError, CheckpointWarning, ConfigError
from hordet.registry import MODELS

# mmdet's types that hordet has with the same results, without reading values of the device.
EQUAL_PARTS = ("FCNMaskHead", "MaxIoUAssigner", "RandomSampler")
_TEST_LOADER, _TEST_EVALUATOR = "test_dataloader", "test_evaluator"


def fit_to_machine(cfg: Config, work_dir: str, launcher: str) -> None:
    """Set where a run reads and writes and how its processes meet; replace what the machine lacks.

    Args:
        cfg: Changed in place.
        work_dir: Where results go.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'. Under torchrun 'none' becomes 'pytorch'.
    """
    locate_data(cfg)
    _choose_loops(cfg)
    limit_waiting(cfg)
    cfg.work_dir = work_dir
    if launcher == "none" and "WORLD_SIZE" in os.environ and "LOCAL_RANK" in os.environ:
        launcher = "pytorch"
    cfg.launcher = launcher
    if torch.cuda.is_available():
        _fit_to_gpu(cfg)
    else:
        _fit_to_cpu(cfg)


def locate_data(cfg: Config) -> None:
    """Put the folder of the images that hordet draws in place of `hordet://shapes`.

    A config that was kept, by a training or in a checkpoint, follows the variable `HORDET_DATA`.
    Nothing is drawn; `hordet.datasets.shapes.cache.draw_missing_shapes` does, where images are
    needed.

    Args:
        cfg: Changed in place, wherever a path begins so.
    """
    root = str(locate_shapes())
    for part in (cfg, *walk_dicts(list(cfg.values()))):
        for key, value in list(part.items()):
            if isinstance(value, str) and (value + "/").startswith(SHAPES + "/"):
                part[key] = root + value.removeprefix(SHAPES)
    if moved := find_moved_root(cfg):
        set_data_root(cfg, moved)


def _choose_loops(cfg: Config) -> None:
    """Put the loops whose `fp16` means the same on every device in the place of mmengine's."""
    for key, name in (("val_cfg", "ValLoop"), ("test_cfg", "TestLoop")):
        loop = cfg.get(key)
        if loop and loop.get("fp16") and loop.get("type", name) == name:
            loop["type"] = f"hordet.{name}"


def _fit_to_gpu(cfg: Config) -> None:
    """Load batches into memory that a GPU reads by itself, unless a loader says otherwise."""
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(key):
            cfg[key].setdefault("pin_memory", True)


def _fit_to_cpu(cfg: Config) -> None:
    """Replace what only runs with CUDA: nccl, SyncBatchNorm and a device number per process."""
    cfg.pop("sync_bn", None)
    for part in walk_dicts(cfg.model):
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
    if cfg.launcher == "none":
        return
    env = cfg.get("env_cfg") or {}
    patience = {k: v for k, v in (env.get("dist_cfg") or {}).items() if k == "timeout"}
    cfg.env_cfg = {**env, "dist_cfg": {"backend": "gloo", **patience}}
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
    }


def prepare_training(
    cfg: Config,
    *,
    resume: str | None = None,
    amp: bool | str = False,
    seed: int | None = None,
    auto_scale_lr: bool = False,
) -> None:
    """Add to a config what the command line asks of a training.

    Args:
        cfg: From `hordet.engine.runner.read_config`; changed in place.
        resume: 'auto' for the latest checkpoint of the work folder, a checkpoint file, or a folder
            whose latest checkpoint is meant.
        amp: Mixed precision: 'bfloat16', or 'float16' with a scaled loss (CUDA alone). True or
            'auto': bfloat16 unless the GPU has none.
        seed: Seed of weights, data order and augmentation.
        auto_scale_lr: Scale the learning rate by the images that all processes take a step,
            over the config's `auto_scale_lr.base_batch_size`.

    Raises:
        ConfigError: There is no such base or precision, a tracker is missing, or a key of the
            recipe does not fit.
        CheckpointError: What to resume from is missing.
    """
    if amp:
        _mix_precision(cfg.optim_wrapper, amp)
    use_equal_parts(cfg)
    _add_grad_init(cfg)
    prepare_determinism(cfg)
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
    apply_recipe(cfg)


def use_equal_parts(cfg: Config) -> None:
    """Put hordet's parts in the place of mmdet's that give the same and wait for a GPU.

    Each of `EQUAL_PARTS` that a detector's config names without a scope is exchanged; with its
    scope, such as 'mmdet.MaxIoUAssigner', it stays.

    Args:
        cfg: Changed in place, in `model`.
    """
    if cfg.get("default_scope") != "mmdet" or not cfg.get("model"):
        return
    for part in walk_dicts(cfg.model):
        if part.get("type") in EQUAL_PARTS and part.get("_scope_", "mmdet") == "mmdet":
            part["type"] = f"hordet.{part['type']}"


def _add_grad_init(cfg: Config) -> None:
    """Add the hook that scales the parts whose `init_cfg` is GradInit."""
    kinds = [str(part.get("type")).rpartition(".")[2] for part in walk_dicts(cfg.get("model"))]
    if "GradInit" not in kinds:
        return
    wrong = [key for key in ("strategy", "compile_regions", "triton_gates") if cfg.get(key)]
    if wrong:
        raise ConfigError(
            "an init_cfg of type 'hordet.GradInit' needs a whole model of plain kernels in each "
            f"process: leave it or {' and '.join(wrong)} out"
        )
    hooks = list(cfg.get("custom_hooks") or ())
    if not any(str(hook.get("type")).endswith("GradInitHook") for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type="hordet.GradInitHook")]


def _mix_precision(wrapper: ConfigDict, amp: bool | str) -> None:
    """Make an optimizer wrapper train in mixed precision."""
    cuda = torch.cuda.is_available()
    if amp in (True, "auto"):
        amp = "float16" if cuda and not torch.cuda.is_bf16_supported() else "bfloat16"
    if amp not in ("bfloat16", "float16"):
        raise ConfigError(f"got amp={amp!r}; allowed are 'auto', 'bfloat16' and 'float16'")
    if amp == "float16":
        if not cuda:
            raise ConfigError("--amp float16 needs a CUDA device; --amp bfloat16 runs anywhere")
        wrapper.update(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")
        return
    wrapper.type = "hordet.Bfloat16OptimWrapper"
    for key in ("dtype", "loss_scale"):  # of AmpOptimWrapper
        wrapper.pop(key, None)


def _resume(cfg: Config, source: str) -> None:
    """Find what to resume from, and say which newer checkpoints were skipped and why."""
    found: Path | None
    folder = cfg.work_dir if source == "auto" else source
    if source == "auto" or Path(source).is_dir():
        found, skipped = checkpoints.find_newest_checkpoint(folder)
        for line in skipped:
            warnings.warn(line, CheckpointWarning, stacklevel=2)
        if found is None and source != "auto":
            raise CheckpointError(
                f"{source} is a folder without checkpoints (*.pth). Name a checkpoint, the work "
                "folder of a run, or leave out --resume to start anew"
            )
    else:
        found = Path(source)
        checkpoints.require_resumable(found)
    # Without any it is the first start of a run that is always started with --resume.
    cfg.update(resume=found is not None, load_from=found and str(found))


def prepare_test(
    cfg: Config,
    checkpoint: str | Path | None,
    *,
    tta: bool = False,
    sliced: bool = False,
    out: str | None = None,
) -> None:
    """Make a config test a checkpoint; only the test data are needed.

    Args:
        cfg: From `hordet.engine.runner.read_config`; changed in place. Logs go to `test` in its
            work folder: a Runner writes its config beside them, which must not take the place of
            the training's.
        checkpoint: Weights; None: the network comes from elsewhere.
        tta: Test-time augmentation by the config's `tta_pipeline` (and `tta_model`).
        sliced: Detection in tiles of the images, by the config's `sliced_model`; not with tta.
        out: Where predictions go: a `.pkl` of mmdet, a `.json` of COCO results, or a folder
            of label maps for segmentation.

    Raises:
        ConfigError: There is no test data, or `tta`, `sliced` or `out` do not fit the config.
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
    cfg.update(load_from=checkpoint and str(checkpoint), resume=False)
    if tta:
        _augment(cfg)
    elif sliced:
        slice_images(cfg)
    if out:
        _write_predictions(cfg, out)


def _augment(cfg: Config) -> None:
    """Test the mean of several sizes and flips, as the test tools of mmdet and mmseg do."""
    if not cfg.get("tta_pipeline"):
        raise ConfigError("--tta needs a tta_pipeline in the config, and it has none")
    default: dict[str, Any] = {"type": "hordet.SegTTAModel"}
    if not _is_segmentation(cfg):
        nms = {"type": "nms", "iou_threshold": 0.5}
        _, most = find_detection_limit(cfg.model) or ("", 100)
        default = {"type": "hordet.DetTTAModel", "tta_cfg": {"nms": nms, "max_per_img": most}}
    cfg.model = ConfigDict(**(cfg.get("tta_model") or default), module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def slice_images(cfg: Config) -> None:
    """Change a config so that its detector is tested in tiles.

    Args:
        cfg: Its `sliced_model`, if any, has the options of SlicedDetector that are no defaults.

    Raises:
        ConfigError: It is no detector's, or an option is not what it may be.
    """
    metrics = [str(metric["type"]) for metric in list_metrics(cfg.test_evaluator)]
    if not any(name.endswith("CocoMetric") for name in metrics):
        raise ConfigError(
            f"slices are for boxes and masks that a CocoMetric scores, and this config has "
            f"{', '.join(metrics)}. A segmentor slides by test_cfg=dict(mode='slide', "
            "crop_size=..., stride=...)"
        )
    options = {"type": "hordet.SlicedDetector", **cfg.get("sliced_model", {})}
    stand_in: Any = nn.Identity()
    stand_in.test_step = None
    try:  # before minutes go into building
        MODELS.build(dict(options, module=stand_in, pipeline=[]))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sliced_model: {error}") from error
    dataset = cfg.test_dataloader.dataset
    loading: list[dict] = []
    preparing: list[dict] = []
    for step in dataset.pipeline:
        loads = str(step["type"]).rpartition(".")[2].startswith("Load")
        (loading if loads else preparing).append(step)
    # True masks of a large image take gigabytes, and metrics read them from the annotation file.
    loading = [step | {"with_mask": False} if "with_mask" in step else step for step in loading]
    dataset.pipeline = [*loading, preparing[-1]]
    cfg.model = ConfigDict(**options, pipeline=preparing, module=cfg.model)


def _write_predictions(cfg: Config, out: str) -> None:
    """Make the metrics write their predictions."""
    suffix = Path(out).suffix
    metrics = list_metrics(cfg[_TEST_EVALUATOR])
    if _is_segmentation(cfg):
        if suffix:
            raise ConfigError(f"--out {out}: segmentation writes label maps; name a folder")
        for metric in metrics:
            metric.update(output_dir=out, keep_results=True)
    elif suffix == ".json":
        for metric in metrics:
            metric["outfile_prefix"] = str(Path(out).with_suffix(""))
    elif suffix in (".pkl", ".pickle"):
        dump = ConfigDict(type="mmdet.DumpDetResults", out_file_path=out)
        cfg[_TEST_EVALUATOR] = [*metrics, dump]
    else:
        raise ConfigError(f"--out {out}: detection writes a .pkl (all) or .json (COCO results)")


def _is_segmentation(cfg: Config) -> bool:
    metrics = list_metrics(cfg.get(_TEST_EVALUATOR))
    return any(str(metric["type"]).endswith("IoUMetric") for metric in metrics)
