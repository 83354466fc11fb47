"""Stop a run whose numbers are no longer numbers, keep the evidence, or leave a few steps out."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_distributed
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from hordet.checkpoints import is_shard
from hordet.engine.hooks.interrupt import Interruption
from hordet.engine.hooks.origin import find_first_not_finite
from hordet.engine.random_state import get_random_state, set_random_state
from hordet.errors import NotFiniteError
from hordet.ops.unwrapping import unwrap_model
from hordet.registry import HOOKS

FOLDER = "not_finite"
_SKIPPED = "steps_left_out"
# Steps in a row that a loss scaler may leave out, and iterations between two looks at their number,
# which wait for a GPU. A scaler that learns its scale halves it at each: 2**16 is 2**-84 then.
_PATIENCE, _LOOK = 100, 50


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Raise on the first loss or gradient that is NaN or infinite, before it reaches a weight.

    The gradients' norm is looked at before each optimizer step; a step of a wrong one is not
    taken. Then the state before the step is written to `WORK_DIR/not_finite/` with the batch and
    the random state, and the run ends, so that no checkpoint holds what this batch spoilt. It costs
    a pass over the gradients, and one read: what the log, the progress bar and, among several
    processes, the signals to stop need of the device comes with it.

    A loss scaler (float16) leaves out steps by itself and lowers its scale. A run in which it has
    left out all of the last 100 steps would learn nothing for ever, and ends, too.

    Args:
        skip: How many such steps a run may leave out, with a warning each, before it ends.
    """

    priority = "HIGH"

    def __init__(self, skip: int = 0) -> None:
        """See the class."""
        self.skip = skip
        self._wrong: list[str] | None = None
        self._before: tuple[dict, list[Tensor]] | None = None
        self._losses: dict[str, Any] = {}  # of this step, as the log gets them
        self._idle: Any = 0  # iterations since the last step; a tensor after a fused step
        self._interruption: Interruption | None = None
        self._evidence: dict = {}
        self._handles: list = []

    def before_train(self, runner: Runner) -> None:
        """Look at the gradients before every step of the optimizers."""
        wrapper = runner.optim_wrapper
        names = {p: name for name, p in unwrap_model(runner.model).named_parameters()}
        wrappers = getattr(wrapper, "optim_wrappers", {"": wrapper})  # OptimWrapperDict has several
        for each in wrappers.values():
            hook = partial(self._guard, names)
            self._handles.append(each.optimizer.register_step_pre_hook(hook))
        self._watch_losses(unwrap_model(runner.model))
        asked = (getattr(hook, "interruption", None) for hook in runner.hooks)
        self._interruption = next(filter(None, asked), None)

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizers and the model alone."""
        while self._handles:
            self._handles.pop().remove()
        vars(unwrap_model(runner.model)).pop("parse_losses", None)

    def _watch_losses(self, model: Any) -> None:
        """Note the losses of each step: the log gets the same dict when the step is done."""
        parse = getattr(model, "parse_losses", None)
        if parse is None or "parse_losses" in vars(model):
            return

        def parse_losses(losses: dict) -> tuple[Tensor, dict[str, Any]]:
            total, self._losses = parse(losses)
            return total, self._losses

        model.parse_losses = parse_losses

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember what the forward pass changes: the random state and the model's buffers."""
        self._wrong, self._losses = None, {}
        buffers = [buffer.clone() for buffer in unwrap_model(runner.model).buffers()]
        self._before = (get_random_state(), buffers)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Check the loss, and what was found about the gradients.

        Raises:
            NotFiniteError: One is not finite. The message names the iteration, each loss, the
                module it began in, the images of the batch and the last checkpoint.
        """
        loss = _number((outputs or {}).get("loss", 0.0))
        if math.isfinite(loss) and self._wrong is None:
            self._end_if_idle(runner, data_batch)
            return
        if self._before is not None:
            runner.optim_wrapper.zero_grad()  # also of a step that is only accumulated
            for buffer, value in zip(
                unwrap_model(runner.model).buffers(), self._before[1], strict=True
            ):
                buffer.copy_(value)
        info = runner.message_hub.runtime_info
        skipped = info.get(_SKIPPED, 0)
        message = self._message(runner, data_batch, outputs or {})
        if skipped < self.skip:
            runner.message_hub.update_info(_SKIPPED, skipped + 1)
            runner.logger.warning(f"Step {skipped + 1} of {self.skip} left out: {message}")
            return
        saved = self._save(runner, data_batch)
        advice = (
            "Look at these images and their annotations first; then resume with a lower learning "
            "rate, with optim_wrapper.clip_grad=dict(max_norm=1.0) (gnConv multiplies its gates), "
            "or in another precision (--amp bfloat16, or without --amp). FiniteLossHook's skip=K "
            "leaves out up to K such steps."
        )
        raise NotFiniteError(f"{message}\n  state before it: {saved}\n{advice}")

    def _end_if_idle(self, runner: Runner, data_batch: Any) -> None:
        """Raise if a loss scaler has left out all steps for a while."""
        wrapper = runner.optim_wrapper
        wrappers = getattr(wrapper, "optim_wrappers", {"": wrapper}).values()
        scaled = [each for each in wrappers if hasattr(each, "loss_scaler")]
        if not scaled:
            return
        self._idle = self._idle + 1
        patience = _PATIENCE * max(each._accumulative_counts for each in scaled)
        if (runner.iter + 1) % _LOOK or _number(self._idle) < patience:
            return
        scales = ", ".join(f"{each.loss_scaler.get_scale():.3g}" for each in scaled)
        raise NotFiniteError(
            f"at iteration {runner.iter + 1} the loss scaler has left out every step of the last "
            f"{_number(self._idle):.0f} iterations: gradients are not finite at any scale (now "
            f"{scales}), and nothing is learned.\n"
            f"  images: {', '.join(_images(data_batch)) or 'unknown'}\n"
            f"  last checkpoint: {runner.message_hub.runtime_info.get('last_ckpt') or 'none yet'}\n"
            f"  state of now: {self._save(runner, data_batch)}\n"
            "Resume an earlier checkpoint with --amp bfloat16 or without --amp; a run in either "
            "names the module that begins it."
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the batch and its random state to the state that is kept for diagnosis."""
        checkpoint.update(self._evidence)

    def _guard(self, names: dict[nn.Parameter, str], optimizer: Optimizer, *_: Any) -> None:
        """Before a step: if a gradient is not finite, drop all, so that the step changes nothing.

        Without gradients an optimizer moves neither weights nor its own averages.
        """
        # A fused optimizer gets the verdict of the loss scaler (`GradScaler.step`), and leaves a
        # step out by itself; the scaler then lowers its scale. Others are not even called.
        if (left_out := getattr(optimizer, "found_inf", None)) is not None:
            self._idle = self._idle * left_out
            return
        self._idle = 0
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        total: Any = get_total_norm(gradients)
        if is_shard(total):  # of gradients that are split among processes
            total = total.full_tensor()
        if self._read(torch.logical_not(torch.isfinite(total)).double()):
            self._wrong = [
                names.get(p, "unknown")
                for p in parameters
                if p.grad is not None and not torch.isfinite(p.grad).all()
            ]
            optimizer.zero_grad(set_to_none=True)

    def _read(self, wrong: Tensor) -> bool:
        """Read at once all that the host needs of this step; each read waits for a GPU.

        Args:
            wrong: Not 0 if a gradient of this process is not finite; float64, without dimensions.

        Returns:
            Whether one of any process is not finite.
        """
        flags = [wrong]
        if is_distributed():
            stop = self._interruption is not None and self._interruption.signal is not None
            together = torch.stack([wrong, torch.full_like(wrong, float(stop))])
            all_reduce(together, "max")
            flags = list(together)
        names = [
            name
            for name, value in self._losses.items()
            if isinstance(value, Tensor) and value.numel() == 1 and value.device == wrong.device
        ]
        losses = [self._losses[name].detach().double().reshape(()) for name in names]
        found, *values = torch.stack([*flags, *losses]).tolist()
        if is_distributed():
            stop_any = values.pop(0)
            if self._interruption is not None:
                self._interruption.answer(bool(stop_any))
        self._losses.update(zip(names, values, strict=True))
        return bool(found)

    def _message(self, runner: Runner, data_batch: Any, outputs: dict[str, Any]) -> str:
        values = {name: _number(value) for name, value in outputs.items()}
        wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
        right = {name: value for name, value in values.items() if math.isfinite(value)}
        checkpoint = runner.message_hub.runtime_info.get("last_ckpt")
        lines = [
            f"got {'a loss' if wrong else 'gradients'} that {'is' if wrong else 'are'} not finite "
            f"at iteration {runner.iter + 1}.",
            f"not finite: {_listing(wrong) or 'none of the losses'}",
            f"finite: {_listing(right) or 'none'}",
        ]
        if self._before is not None:
            lines.append(f"begins in: {self._origin(runner, data_batch)}")
        lines += [
            f"images: {', '.join(_images(data_batch)) or 'unknown'}",
            f"last checkpoint: {checkpoint or 'none yet'}",
        ]
        return "\n  ".join(lines)

    def _origin(self, runner: Runner, data_batch: Any) -> str:
        """Run the batch forward again, and name the first module whose output is not finite."""
        if any(map(is_shard, unwrap_model(runner.model).parameters())):
            return "unknown, for a model split among processes is not run again by one of them"
        assert self._before is not None  # it is set before each iteration
        after = get_random_state()
        set_random_state(self._before[0])
        try:
            # In the step's own precision: what overflows in float16 may be finite in float32.
            # Of several optimizers the model itself knows which autocast it uses where.
            wrapper: Any = runner.optim_wrapper
            single = not hasattr(wrapper, "optim_wrappers")
            with wrapper.optim_context(runner.model) if single else nullcontext():
                found = find_first_not_finite(unwrap_model(runner.model), data_batch)
        except Exception as error:  # it must not hide what it explains
            found = f"unknown ({type(error).__name__} in the forward pass: {error})"
        finally:
            set_random_state(after)
            for buffer, value in zip(
                unwrap_model(runner.model).buffers(), self._before[1], strict=True
            ):
                buffer.copy_(value)
        if found is None and self._wrong:
            more = f" and {len(self._wrong) - 3} more" if len(self._wrong) > 3 else ""
            found = f"the backward pass, gradients of {', '.join(self._wrong[:3])}{more}"
        return found or "nowhere in the same forward pass done again"

    def _save(self, runner: Runner, data_batch: Any) -> str:
        """Write the state before the bad step; return where, or why not."""
        if self._before is None:
            return "not kept"
        inputs = data_batch.get("inputs") if isinstance(data_batch, dict) else None
        self._evidence = dict(
            random_states=[self._before[0]],
            batch=dict(inputs=inputs, images=list(_images(data_batch))),
        )
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        folder, name = Path(runner.work_dir) / FOLDER, f"iter_{runner.iter}.pth"
        try:
            runner.save_checkpoint(
                str(folder),
                name,
                meta=dict(epoch=runner.epoch, iter=runner.iter),
                by_epoch=False,
                backend_args=hooks[0].backend_args if hooks else None,
            )
        except OSError as error:
            return f"could not be kept: {error}"
        finally:
            self._evidence = {}
            barrier()
        return str(folder / name)


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)


def _listing(values: dict[str, float]) -> str:
    return ", ".join(f"{name} = {value:.4g}" for name, value in values.items())


def _images(data_batch: Any) -> Iterator[str]:
    """Name the images of a batch of mmdet or mmseg."""
    samples = data_batch.get("data_samples") if isinstance(data_batch, dict) else None
    for sample in samples or ():
        metainfo = getattr(sample, "metainfo", {})
        yield str(metainfo.get("img_path", metainfo.get("img_id", "unknown")))
