"""What a resumed run goes on with where its config has changed, and how a run came to its end."""

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from hordet.config.safe import read_data
from hordet.config.values import look_up
from hordet.datasets.roots import walk_datasets
from hordet.engine.hooks.checkpoint import keep_own_files
from hordet.errors import ConfigError, list_first
from hordet.ops.files import write_whole
from hordet.registry import HOOKS

# Written into the work folder by a run that stopped early; its checkpoint is older than that.
STOPPED = "stopped_early.json"
# What a scheduler of mmengine calls an end that never comes.
_ENDLESS = 10**9 - 1
_RATES = ("lr", "initial_lr", "momentum", "initial_momentum", "betas", "initial_betas")


@HOOKS.register_module()
class ResumeHook(Hook):
    """Say what holds where a resumed run's config differs from the one in its checkpoint.

    mmengine takes length, batches and data from the config, and learning rate and schedule from the
    checkpoint, without a word. A run that EarlyStoppingHook has stopped says so at its end, and is
    not trained on by a resume with the same rule.

    Args:
        new_schedule: Take learning rate and schedule from the config, at the iteration reached: as
            if they had held from the start.
    """

    priority = "VERY_HIGH"

    def __init__(self, new_schedule: bool = False) -> None:
        """See the class."""
        self.new_schedule = new_schedule
        self._rates: list[dict] = []
        self._states: list[dict] = []
        self._begun = 0
        self._stopped: str | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the config with the checkpoint's; keep the schedule that the config has."""
        if not runner._resume:
            return
        saved = _read_saved_config(checkpoint)
        changes = list(_compare(saved, checkpoint, runner)) if saved else []
        if changes:
            runner.logger.warning(_explain_changes(changes, checkpoint, self.new_schedule))
        _require_same_groups(runner, checkpoint)
        if self.new_schedule:
            # Before the state of the checkpoint is loaded into them.
            self._rates = [
                {key: copy.deepcopy(group[key]) for key in _RATES if key in group}
                for group in _list_groups(runner.optim_wrapper)
            ]
            self._states = [copy.deepcopy(each.state_dict()) for each in _list_schedulers(runner)]

    def before_train(self, runner: Runner) -> None:
        """Move a new schedule to the iteration reached; see whether anything is left to train.

        Under any hook of checkpoints, mmengine's own included, the resumed checkpoint does not
        choose which files are removed.
        """
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                keep_own_files(hook, runner)
        self._begun = runner.iter
        if self._states:
            self._move_schedule(runner)
        if runner._resume:
            self._stopped = _read_stop(runner)
            if self._stopped:
                runner.train_loop.stop_training = True
                if hasattr(runner.train_loop, "skip_validation"):
                    runner.train_loop.skip_validation()
        elif is_main_process():
            (Path(runner.work_dir) / STOPPED).unlink(missing_ok=True)

    def after_train(self, runner: Runner) -> None:
        """Note an early stop in the work folder."""
        if self._stopped is None and _is_stopped(runner):
            self._stopped = _explain_stop(runner)
            if is_main_process():
                note = dict(iteration=runner.iter, reason=self._stopped, rules=_list_rules(runner))
                write_whole(Path(runner.work_dir) / STOPPED, json.dumps(note, indent=1))

    def describe_end(self, runner: Runner) -> str:
        """Say how the run ended, where that is not by training to the end of its schedule.

        Args:
            runner: After its training.
        """
        done = runner.iter == self._begun and runner._resume
        if self._stopped:
            return f"nothing left to train: {self._stopped}" if done else self._stopped
        if not done:
            return ""
        key = "max_epochs" if isinstance(runner.train_loop, EpochBasedTrainLoop) else "max_iters"
        return (
            f"nothing left to train: the run had reached its end, {_moment(runner)}. "
            f"A larger train_cfg.{key} lengthens it (and --new-schedule its schedule)"
        )

    def _move_schedule(self, runner: Runner) -> None:
        """Step the config's own schedulers from the start to the iteration reached."""
        for group, rates in zip(_list_groups(runner.optim_wrapper), self._rates, strict=True):
            group.update(rates)
        schedulers = _list_schedulers(runner)
        for scheduler, state in zip(schedulers, self._states, strict=True):
            scheduler.load_state_dict(state)
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        length = len(runner.train_dataloader)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimizer has stepped
            for done in range(1, runner.iter + 1):
                for scheduler in schedulers:
                    if not scheduler.by_epoch or (by_epoch and done % length == 0):
                        scheduler.step()


def _require_same_groups(runner: Runner, checkpoint: dict) -> None:
    """Check that the optimizer's state fits the groups of parameters that the config makes.

    Raises:
        ConfigError: It does not, as after a change of `custom_keys`.
    """
    state = checkpoint.get("optimizer")
    if not isinstance(state, dict) or isinstance(runner.optim_wrapper, OptimWrapperDict):
        return
    # Not `optim_wrapper.param_groups`: it has one more, mmengine's `base_param_settings`.
    saved, own = len(state.get("param_groups", ())), len(_list_groups(runner.optim_wrapper))
    if saved != own:
        raise ConfigError(
            f"the checkpoint's optimizer has {saved} groups of parameters, and the config's "
            f"{own}: paramwise_cfg has changed since (in hordet's own configs, custom_keys "
            "came with the skip of HorFPN). Resume with the run's own config, which lies in its "
            "work folder; or start anew from these weights by --cfg-options "
            "load_from=CHECKPOINT and another --work-dir in place of --resume"
        )


def find_end(runner: Runner) -> str:
    """Return what the run's ResumeHook says of its end; nothing without one."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, ResumeHook)]
    return hooks[0].describe_end(runner) if hooks else ""


def _read_saved_config(checkpoint: dict) -> Config | None:
    """Read the config in a checkpoint as data; None if there is none, or it is more than data."""
    text = checkpoint["meta"].get("cfg")
    if not isinstance(text, str):
        return None
    with TemporaryDirectory() as folder:
        file = Path(folder) / "saved.py"
        try:
            file.write_text(text, encoding="utf-8")
            return read_data(file)
        except (ConfigError, UnicodeError):
            return None


def _compare(
    saved: Config, checkpoint: dict, runner: Runner
) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield what differs: its kind, its key, what the checkpoint has and what the config has."""
    pairs = [
        ("length", "train_cfg.max_epochs"),
        ("length", "train_cfg.max_iters"),
        ("batches", "train_dataloader.batch_size"),
        ("learning rate", "optim_wrapper.optimizer.lr"),
        ("learning rate", "optim_wrapper.optimizer.weight_decay"),
        ("learning rate", "param_scheduler"),
    ]
    for kind, key in pairs:
        before, now = _make_plain(look_up(saved, key)), _make_plain(look_up(runner.cfg, key))
        if before != now:
            yield kind, key, before, now
    classes = [
        list((meta or {}).get("classes") or ())
        for meta in (
            checkpoint["meta"].get("dataset_meta"),
            getattr(runner.train_dataloader.dataset, "metainfo", None),
        )
    ]
    if classes[0] != classes[1]:
        yield "classes", "classes", list_first(classes[0]), list_first(classes[1])
    for key in ("data_root", "ann_file"):
        before, now = (_list_values(cfg, key) for cfg in (saved, runner.cfg))
        if before != now:
            yield "data", f"{key} of training", list_first(before), list_first(now)


def _make_plain(value: Any) -> Any:
    """Return a value of a config that compares by its content alone."""
    if isinstance(value, dict):
        return {key: _make_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(item) for item in value]
    return value


def _list_values(cfg: Config, key: str) -> list[str]:
    loader = cfg.get("train_dataloader") or {}
    dataset = loader.get("dataset") if isinstance(loader, dict) else None
    parts = walk_datasets(dataset) if isinstance(dataset, dict) else ()
    return [str(part.get(key)) for part in parts]


def _explain_changes(
    changes: list[tuple[str, str, Any, Any]], checkpoint: dict, new_schedule: bool
) -> str:
    """Say what differs, and what holds."""
    told = "; ".join(
        f"{key} has changed"
        if isinstance(before, dict | list) or isinstance(now, dict | list)
        else f"{key} was {before}, is {now}"
        for _, key, before, now in changes
    )
    text = f"the config differs from that of the checkpoint: {told}. "
    kinds = {kind for kind, *_ in changes}
    if "classes" in kinds:
        text += (
            "The heads go on with labels in the order of the checkpoint: correct the classes, or "
            "fine-tune by load_from in place of --resume. "
        )
    if new_schedule:
        return text + "The config holds, its schedule as if from the start (--new-schedule)"
    end = _find_schedule_end(checkpoint)
    text += "Length, batches and data are the config's; learning rate and schedule are the "
    text += f"checkpoint's{end}"
    if {"length", "learning rate"} & kinds:
        text += (
            ". With --new-schedule they are the config's, stretched over its length; to start a "
            "schedule over from these weights, give --cfg-options load_from=CHECKPOINT and another "
            "--work-dir in place of --resume"
        )
    return text


def _find_schedule_end(checkpoint: dict) -> str:
    """Say where the schedule of a checkpoint ends."""
    schedulers = checkpoint.get("param_schedulers") or []
    if isinstance(schedulers, dict):
        schedulers = [state for part in schedulers.values() for state in part]
    ends = [
        (state["end"], "epoch" if state.get("by_epoch") else "iteration")
        for state in schedulers
        if isinstance(state, dict) and isinstance(state.get("end"), int)
    ]
    ends = [end for end in ends if end[0] < _ENDLESS]
    return ", which ends at {1} {0} and stays there".format(*max(ends)) if ends else ""


def _list_groups(wrapper: Any) -> list[dict]:
    """Return the parameter groups of all optimizers."""
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [group for each in wrappers for group in each.optimizer.param_groups]


def _list_schedulers(runner: Runner) -> list[Any]:
    schedulers = runner.param_schedulers or []
    if isinstance(schedulers, dict):
        return [each for part in schedulers.values() for each in part]
    return list(schedulers)


def _is_stopped(runner: Runner) -> bool:
    """Tell whether a hook has ended the training before its length."""
    return bool(getattr(runner.train_loop, "stop_training", False)) and (
        runner.iter < runner.max_iters
    )


def _explain_stop(runner: Runner) -> str:
    """Say at which point a run was stopped, and by which rule."""
    text = f"stopped early at {_moment(runner)}"
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            reason = f"{hook.monitor} did not improve in {hook.patience} validations"
            if hook.stopping_threshold is not None:
                reason += f", or reached {hook.stopping_threshold}"
            return f"{text}: {reason} (best {hook.best_score:.3f})"
    return text


def _read_stop(runner: Runner) -> str | None:
    """Return why a run had stopped early, if it is resumed there by the same rules."""
    try:
        note = json.loads((Path(runner.work_dir) / STOPPED).read_text(encoding="utf-8"))
        same = note["rules"] == _list_rules(runner) and note["iteration"] == runner.iter
        return f"{note['reason']}" if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _list_rules(runner: Runner) -> list[dict]:
    """Return the settings of the hooks that stop early, as JSON has them."""
    hooks = [dict(hook) for hook in runner.cfg.get("custom_hooks") or () if isinstance(hook, dict)]
    rules = [hook for hook in hooks if "EarlyStopping" in str(hook.get("type"))]
    return json.loads(json.dumps(rules, default=str))


def _moment(runner: Runner) -> str:
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return f"epoch {runner.epoch} of {runner.max_epochs}"
    return f"iteration {runner.iter} of {runner.max_iters}"
