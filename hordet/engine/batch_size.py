"""The largest batch that fits into the memory of a GPU, found by steps that are thrown away."""

import copy
import gc
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_gather_object
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope

from hordet.checkpoints import load_checkpoint
from hordet.config.values import look_up
from hordet.engine.hooks.resume import read_saved_config
from hordet.errors import ConfigError, ConfigWarning

MOST = 1024
# Images that are loaded for the probe; batches repeat them, the largest first.
_LOADED = 16


def fit_batch_size(cfg: Config, share: float) -> None:
    """Set the batch size of a training to the largest that fits into the GPU, a power of two.

    A resumed run keeps that of its checkpoint. Without a GPU nothing is changed. The learning rate
    stays the config's; `--auto-scale-lr` scales it to the new batch.

    Args:
        cfg: Changed in place, in `train_dataloader`.
        share: Of the GPU's memory that a step may take.

    Raises:
        ConfigError: Not even one image fits.

    Warns:
        ConfigWarning: There is no GPU.
    """
    loader = cfg.train_dataloader
    if cfg.get("resume"):
        loader["batch_size"] = _read_batch_size(cfg.load_from, loader["batch_size"])
        return
    if not torch.cuda.is_available():
        warnings.warn(
            "recipe.fit_batch_size probes the memory of a GPU, and there is none: the batch size "
            f"stays {loader['batch_size']}",
            ConfigWarning,
            stacklevel=2,
        )
        return
    sizes = all_gather_object(_probe(cfg, share))  # every process trains with one size
    loader["batch_size"] = min(sizes)


def find_largest(takes: Callable[[int], float], limit: float, most: int = MOST) -> int:
    """Return the largest power of two whose memory is within a limit; 0 if one image is not.

    Args:
        takes: Returns the memory that a batch of a size takes, bytes; infinity if it is too much.
        limit: In bytes.
        most: The largest size to try.
    """
    size, found = 1, 0
    while size <= most and takes(size) <= limit:
        size, found = 2 * size, size
    return found


def _read_batch_size(source: str, otherwise: int) -> int:
    """Return the batch size in the config that a checkpoint holds."""
    saved = read_saved_config(load_checkpoint(Path(source)))
    size = look_up(saved, "train_dataloader.batch_size")
    return size if isinstance(size, int) and size >= 1 else otherwise


def _probe(cfg: Config, share: float) -> int:
    """Return the largest batch that this process's GPU takes."""
    device = torch.device("cuda", torch.cuda.current_device())
    limit = share * torch.cuda.get_device_properties(device).total_memory
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        data = DATASETS.build(copy.deepcopy(cfg.train_dataloader["dataset"]))
        model = MODELS.build(copy.deepcopy(cfg.model)).to(device).train()
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    step = partial(_measure_step, model, wrapper, _load_samples(data), device)
    found = find_largest(step, limit, min(MOST, len(data)))
    del model, wrapper, step
    gc.collect()
    torch.cuda.empty_cache()
    if not found:
        raise ConfigError(
            f"recipe.fit_batch_size: a training step on one image takes more than {share:.0%} of "
            f"the GPU's {limit / share / 2**30:.0f} GiB. Use smaller images, --amp, or a smaller "
            "model"
        )
    return found


def _measure_step(
    model: Any, wrapper: Any, samples: list[Any], device: torch.device, size: int
) -> float:
    """Return the memory of a training step on a batch, bytes; infinity if there is not enough."""
    batch = pseudo_collate([copy.deepcopy(samples[i % len(samples)]) for i in range(size)])
    torch.cuda.reset_peak_memory_stats(device)
    try:
        model.train_step(batch, wrapper)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_reserved(device)
    except torch.cuda.OutOfMemoryError:
        return float("inf")
    finally:
        wrapper.zero_grad()
        torch.cuda.empty_cache()


def _load_samples(data: Any) -> list[Any]:
    """Return some samples of a data set, the largest first."""
    count = min(_LOADED, len(data))
    samples = [data[i * len(data) // count] for i in range(count)]
    return sorted(samples, key=lambda sample: -sample["inputs"].numel())
