"""A run in a few lines: which model, on which data, how, where."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from hordet.checkpoints import CoverageHook
from hordet.datasets.tolerant import TolerantDataset
from hordet.engine.amp import Bfloat16OptimWrapper
from hordet.ops.unwrapping import unwrap_model

# Keys of a backbone's config that tell its variant, by which people call it.
_VARIANTS = ("arch", "model_name", "depth")


def describe_run(runner: Runner, mode: str) -> list[str]:
    """Describe a run that is about to start.

    Args:
        runner: With everything that the run needs built, and its checkpoint loaded.
        mode: 'train', 'val' or 'test'.

    Returns:
        Ten lines at most: a name, padded, and what it is.
    """
    rows = [("config", _describe_config(runner)), ("model", _describe_model(runner))]
    if mode == "train":
        rows.append(("training", _describe_data(runner.train_dataloader)))
        if runner.val_loop is not None:
            rows.append(("validation", _describe_data(runner.val_dataloader)))
        rows.append(("schedule", _describe_schedule(runner)))
        rows.append(("optimizer", _describe_optimizer(runner)))
    elif mode == "val":
        rows.append(("validation", _describe_data(runner.val_dataloader)))
    else:
        rows.append(("test", _describe_data(runner.test_dataloader)))
    rows.append(("weights", _describe_weights(runner, mode)))
    rows.append(("device", _describe_device(runner.model)))
    rows.append(("work folder", shorten_path(runner.work_dir)))
    return [f"{name:<13}{text}" for name, text in rows if text]


def format_rate(rate: float) -> str:
    """Return a learning rate with two significant digits, such as 7.5e-4."""
    mantissa, _, exponent = f"{rate:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if rate else "0"


def shorten_path(path: str) -> str:
    """Return a path from the current folder if it lies there, else as it is."""
    here, whole = Path.cwd(), Path(path).absolute()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else path


def _describe_config(runner: Runner) -> str:
    return Path(runner.cfg.filename).stem if runner.cfg.filename else runner.experiment_name


def _describe_model(runner: Runner) -> str:
    """Name the detector or segmentor, its parts, and the number of its parameters."""
    model = unwrap_model(runner.model)
    parameters = list(model.parameters())
    number = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    text = f"{_name(model)}, {_count(number)} parameters"
    if trained < number:
        text += f" ({_count(trained)} of them trained)"
    parts = []
    for name, part in model.named_children():
        if name == "backbone":
            parts.append(" ".join([_name(part), *_variant(runner.cfg)]))
        elif name == "neck":
            parts.append(_name(part))
        elif name.endswith("_head"):
            inner = [_name(m) for n, m in part.named_children() if n.endswith("_head")]
            parts.append(_name(part) + (f" ({', '.join(inner)})" if inner else ""))
    return f"{text}: {', '.join(parts)}" if parts else text


def _variant(cfg: Any) -> list[str]:
    backbone = (cfg.get("model") or {}).get("backbone") or {}
    kinds = [backbone[key] for key in _VARIANTS if isinstance(backbone.get(key), (str, int))]
    return [str(kind) for kind in kinds[:1]]


def _name(module: nn.Module) -> str:
    """Return the name of a module's class; `fully_shard` writes a prefix before it."""
    kinds = [kind.__name__ for kind in type(module).__mro__]
    # By its name, because torch.distributed.fsdp takes a second to import.
    return kinds[0].removeprefix("FSDP") if "FSDPModule" in kinds else kinds[0]


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e4 else str(number)


def _describe_data(loader: Any) -> str:
    """Tell the number of images, the classes, the type, and the folder."""
    dataset = loader.dataset
    classes = getattr(dataset, "metainfo", {}).get("classes") or ()
    text = f"{len(dataset):,} {'image' if len(dataset) == 1 else 'images'}"
    if classes:
        text += f" of {len(classes)} {'class' if len(classes) == 1 else 'classes'}"
    read = dataset.dataset if isinstance(dataset, TolerantDataset) else dataset
    text += f", {type(read).__name__}"
    folders = dict.fromkeys(filter(None, _find_folders(dataset)))
    return f"{text} in {', '.join(folders)}" if folders else text


def _find_folders(dataset: Any) -> Iterator[str]:
    """Yield the folders of a data set, and of those that it wraps."""
    wrapped = [*getattr(dataset, "datasets", ())]
    if hasattr(dataset, "dataset"):
        wrapped.append(dataset.dataset)
    yield str(getattr(dataset, "data_root", None) or "")
    for each in wrapped:
        yield from _find_folders(each)


def _describe_schedule(runner: Runner) -> str:
    """Tell how long the training is, and how many images make a step."""
    loop, loader = runner.train_loop, runner.train_dataloader
    if isinstance(loop, IterBasedTrainLoop):
        text = _plural(loop.max_iters, "iteration")
    else:
        text = f"{_plural(loop.max_epochs, 'epoch')} of {_plural(len(loader), 'iteration')}"
    size = getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size
    text += f", batches of {size} x {_plural(get_world_size(), 'process', 'processes')}"
    counts = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
    return text + (f" x {counts} accumulated" if counts > 1 else "")


def _plural(number: int, word: str, words: str | None = None) -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"


def _describe_optimizer(runner: Runner) -> str:
    """Name the optimizers, their learning rates before any schedule, and the precision."""
    wrapper: Any = runner.optim_wrapper
    wrappers = getattr(wrapper, "optim_wrappers", {"": wrapper}).values()
    texts = []
    for each in wrappers:
        groups = each.optimizer.param_groups
        highest = max(map(_get_first_rate, groups))
        # Layer decay and custom keys multiply the optimizer's own rate.
        rate = _get_first_rate(each.base_param_settings or max(groups, key=_get_first_rate))
        text = f"{type(each.optimizer).__name__}, learning rate {format_rate(rate)}"
        if highest > 1.001 * rate > 0:
            text += f" (up to {highest / rate:.3g} times that, by custom_keys)"
        if runner.iter:  # resumed, in the midst of a schedule
            first = _get_first_rate(groups[0])
            share = groups[0]["lr"] / first if first else 1.0
            text += f", of which the schedule has left {share:.1%}"
        texts.append(f"{text}, {_precision(each)}")
    return "; ".join(texts)


def _get_first_rate(group: dict[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def _precision(wrapper: Any) -> str:
    if isinstance(wrapper, Bfloat16OptimWrapper):
        return "mixed precision (bfloat16)"
    if isinstance(wrapper, AmpOptimWrapper):
        dtype = str(wrapper.cast_dtype or torch.float16).removeprefix("torch.")
        return f"mixed precision ({dtype})"
    return "float32"


def _describe_weights(runner: Runner, mode: str) -> str:
    """Tell where the weights come from, and how many of the model's tensors they filled."""
    coverage = [hook.loaded for hook in runner.hooks if isinstance(hook, CoverageHook)]
    if coverage:
        if mode == "train" and runner._resume:
            return f"resumed at iteration {runner.iter} from {coverage[0]}"
        return coverage[0]
    if mode != "train":
        return ""  # an exported network stands in for the model's own weights
    texts = []
    for name, module in runner.model.named_modules():
        source = getattr(module, "init_cfg", None)
        if isinstance(source, dict) and source.get("type") == "Pretrained":
            loaded = getattr(module, "loaded", None) or source["checkpoint"]
            texts.append(f"{name.removeprefix('module.') or 'model'} from {loaded}")
    return "; ".join(texts) or "random"


def _describe_device(model: nn.Module) -> str:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU, {_plural(torch.get_num_threads(), 'thread')}"
    return str(device)
