"""Runs GradInit between the random start of a model and its first training step."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from hordet.engine.grad_init import GradInit, learn_scales
from hordet.engine.random_state import get_random_state, set_random_state
from hordet.errors import ConfigError
from hordet.layers.recompute import keep_all_activations
from hordet.ops.unwrapping import unwrap_model
from hordet.registry import HOOKS


@HOOKS.register_module()
class GradInitHook(Hook):
    """Scale the parameters of each part with `init_cfg=dict(type='hordet.GradInit')`.

    See `hordet.engine.grad_init` for the method. The images are those of the training, with its
    transforms, in an order of their own; the loss is the model's. Dropout and drop path are off,
    batch norms use the batch, and their statistics, the random state and the data of the
    training stay as they are without GradInit. Several processes do the same, and those of the
    first count.

    A run that is resumed, or starts from a checkpoint (`load_from`), is left alone: its parameters
    are trained.

    Raises:
        ConfigError: When the training starts: no part is marked, or as `learn_scales`.
    """

    def before_train(self, runner: Runner) -> None:
        """Run GradInit for each marked part, and write what came of it to the log."""
        model = unwrap_model(runner.model)
        marked = {
            name: module
            for name, module in model.named_modules()
            if isinstance(getattr(module, "grad_init", None), GradInit)
        }
        if not marked:
            raise ConfigError(
                "GradInitHook: no part of the model has init_cfg=dict(type='hordet.GradInit'). "
                "Give it to the part whose start is to be scaled, or remove the hook"
            )
        if runner._resume or runner._load_from:
            runner.logger.info("GradInit is left out: the run starts from trained parameters")
            return
        for name, module in marked.items():
            self._scale(runner, model, f"{name}." if name else "", module)

    def _scale(self, runner: Runner, model: Any, prefix: str, part: nn.Module) -> None:
        settings: Any = part.grad_init
        names = [n for n, p in part.named_parameters() if p.requires_grad]
        parameters = [part.get_parameter(name) for name in names]
        if not parameters:
            raise ConfigError(
                f"GradInitHook: {prefix or 'the model'} has no parameter to train. Remove its "
                "init_cfg of type 'hordet.GradInit'"
            )
        batches = _Batches(runner)
        others = {name: parameter.detach() for name, parameter in model.named_parameters()}

        def compute_loss(values: list[Tensor], batch: Any) -> Tensor:
            own = {prefix + name: value for name, value in zip(names, values, strict=True)}
            data = model.data_preprocessor(batch, True)
            arguments, keywords = ((), data) if isinstance(data, dict) else (tuple(data), {})
            losses = torch.func.functional_call(
                model, others | own, arguments, {**keywords, "mode": "loss"}
            )
            return model.parse_losses(losses)[0]

        with _kept_state(model, runner.seed or 0), keep_all_activations():
            outcome = learn_scales(
                parameters, compute_loss, batches.load, batches.load_next, settings
            )
        with torch.no_grad():
            for parameter, scale in zip(parameters, outcome.scales, strict=True):
                parameter.mul_(scale)
                broadcast(parameter)
        least, most = min(outcome.scales), max(outcome.scales)
        text = (
            f"GradInit of {prefix.rstrip('.') or 'the model'}: {len(names)} factors from "
            f"{least:.3g} to {most:.3g}; loss {outcome.losses[0]:.4g} -> {outcome.losses[1]:.4g}, "
            f"norm of its gradient {outcome.norms[0]:.4g} -> {outcome.norms[1]:.4g} "
            f"(bound {settings.max_norm:g})"
        )
        if outcome.norms[1] > settings.max_norm:
            runner.logger.warning(f"{text}. The bound is not met: raise max_norm or iterations")
        else:
            runner.logger.info(text)


class _Batches:
    """Batches of the training's images, in an order of their own; half of B' are images of B.

    Args:
        runner: Of a training; its data loader is not read.
    """

    def __init__(self, runner: Runner) -> None:
        loader: Any = runner.train_loop.dataloader
        self._dataset, self._collate = loader.dataset, loader.collate_fn
        size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1)
        self._half = -(-size // 2)
        self._numbers = self._shuffle()

    def _shuffle(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(len(self._dataset)).tolist()

    def _read(self) -> list[Any]:
        return [self._dataset[next(self._numbers)] for _ in range(self._half)]

    def load(self) -> Any:
        """Return B, of which the first half is kept for B'."""
        self._shared = self._read()
        return self._collate(copy.deepcopy(self._shared) + self._read())

    def load_next(self) -> Any:
        """Return B'."""
        return self._collate(self._shared + self._read())


@contextmanager
def _kept_state(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed, set the modes that the hook promises, and give back modes, buffers and randomness."""
    state = get_random_state()
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) or hasattr(module, "drop_prob"):
                module.eval()
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, training in modes:
            module.training = training
        set_random_state(state)
