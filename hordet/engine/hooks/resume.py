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

from hordet.checkpoints.load import compute_sha256
from hordet.config.faults import list_known_keys
from hordet.config.safe import read_data
from hordet.datasets.roots import walk_datasets
from hordet.engine.hooks.checkpoint import keep_own_files
from hordet.engine.loops import count_left
from hordet.errors import ConfigError, list_first
from hordet.ops.files import write_whole
from hordet.registry import HOOKS

# Written into the work folder by a run that stopped early; its checkpoint is older than that.
STOPPED = "stopped_early.json"
# What a scheduler of mmengine calls an end that never comes.
_ENDLESS = 10**9 - 1
# Settings that change no training, and the seed, of which mmengine itself says that it differs.
_APART = {
    *("custom_imports", "default_scope", "env_cfg", "experiment_name", "launcher", "load_from"),
    *("log_level", "log_processor", "model_wrapper_cfg", "randomness", "resume", "sliced_model"),
    *("sync_bn", "tracker", "tta_model", "tta_pipeline", "vis_backends", "visualizer", "work_dir"),
    *("test_cfg", "test_dataloader", "test_evaluator"),
}
# Those of a data loader that belong to the machine, and a hook that writes lines.
_OF_MACHINES = {
    *("multiprocessing_context", "num_workers", "persistent_workers", "pin_memory"),
    *("prefetch_factor", "timeout", "default_hooks.logger"),
}
_FIRST = ("train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler", "model")
_MAX_TOLD = 8  # differences
_ANNOTATIONS = "annotations"  # in a checkpoint's meta: by data loader, names and SHA-256


@HOOKS.register_module()
class ResumeHook(Hook):
    """Say what holds where a resumed run's config differs from the one in its checkpoint.

    mmengine takes the optimizer's numbers and the schedule from the checkpoint, and all else from
    the config, without a word. Checkpoints hold the SHA-256 of the annotation files, so that
    another content is said, too. A run that EarlyStoppingHook has stopped says so at its end, and
    is not trained on by a resume with the same rule.

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
        self._annotations: dict[str, list[list[str]]] | None = None
        self._stopped: str | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the config with the checkpoint's; keep the schedule that the config has."""
        if not runner._resume:
            return
        try:
            saved = read_saved_config(checkpoint)
        except (ConfigError, UnicodeError) as error:
            saved = None
            why = str(error).partition("\n")[2].partition("\n")[0].strip() or str(error)
            runner.logger.warning(f"the checkpoint's config is not compared with this one: {why}")
        changes = list(_compare(saved, checkpoint, runner)) if saved else []
        changed = list(self._compare_annotations(runner, checkpoint))
        if changes or changed:
            text = _explain_changes(changes, changed, checkpoint, self.new_schedule)
            runner.logger.warning(text)
        _require_same_groups(runner, checkpoint)
        if self.new_schedule:
            # Before the state of the checkpoint is loaded into them.
            self._rates = [
                {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
                for group in _list_groups(runner.optim_wrapper)
            ]
            self._states = [copy.deepcopy(each.state_dict()) for each in _list_schedulers(runner)]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the SHA-256 of the annotation files that the run has read."""
        checkpoint["meta"][_ANNOTATIONS] = self._hash_annotations(runner)

    def _hash_annotations(self, runner: Runner) -> dict[str, list[list[str]]]:
        """Return names and SHA-256 of the annotation files by data loader, computed once."""
        if self._annotations is None:
            self._annotations = {
                loader: [[file.name, compute_sha256(file)] for file in _list_files(runner, loader)]
                for loader in ("train_dataloader", "val_dataloader")
                if is_main_process()
            }
        return self._annotations

    def _compare_annotations(self, runner: Runner, checkpoint: dict) -> Iterator[str]:
        """Yield the names of annotation files whose content is another than the checkpoint's."""
        saved = checkpoint["meta"].get(_ANNOTATIONS)
        if not isinstance(saved, dict):
            return
        for loader, files in self._hash_annotations(runner).items():
            before = saved.get(loader)
            if isinstance(before, list) and len(before) == len(files):
                for (name, digits), old in zip(files, before, strict=True):
                    if [digits] != old[1:]:
                        yield f"{name} ({loader})"

    def before_train(self, runner: Runner) -> None:
        """Move a new schedule to the iteration reached; see whether anything is left to train.

        Under any hook of checkpoints, mmengine's own included, the resumed checkpoint does not
        choose which files are removed.
        """
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                keep_own_files(hook, runner)
        self._begun = runner.iter
        self._hash_annotations(runner)  # before the first checkpoint, for which the run waits
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
    """Check that the optimizer's state fits the optimizer and the groups that the config makes.

    Raises:
        ConfigError: It does not, as after a change of `custom_keys`, or from AdamW to SGD.
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
    optimizer = runner.optim_wrapper.optimizer
    numbers = {key for key, value in optimizer.defaults.items() if _is_number(value)}
    if saved and (lacking := sorted(numbers - state["param_groups"][0].keys())):
        raise ConfigError(
            f"the checkpoint's optimizer is of another type: it has no {', '.join(lacking)}, which "
            f"{type(optimizer).__name__} of the config needs. Resume with the run's own config, "
            "which lies in its work folder; or start anew from these weights by --cfg-options "
            "load_from=CHECKPOINT and another --work-dir in place of --resume"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | tuple) and not isinstance(value, bool)


def find_end(runner: Runner) -> str:
    """Return what the run's ResumeHook says of its end; nothing without one."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, ResumeHook)]
    return hooks[0].describe_end(runner) if hooks else ""


def read_saved_config(checkpoint: dict) -> Config | None:
    """Read the config in a checkpoint as data; None if there is none.

    Args:
        checkpoint: From `hordet.checkpoints.load_checkpoint`.

    Raises:
        ConfigError: It is more than data, or larger than a safe config may be.
        UnicodeError: It holds half of a pair of UTF-16.
    """
    text = checkpoint["meta"].get("cfg")
    if not isinstance(text, str):
        return None
    with TemporaryDirectory() as folder:
        file = Path(folder) / "saved.py"
        file.write_text(text, encoding="utf-8")
        return read_data(file)


def _list_files(runner: Runner, loader: str) -> list[Path]:
    """Return the annotation files of a data loader that are there."""
    dataset = (runner.cfg.get(loader) or {}).get("dataset")
    parts = walk_datasets(dataset) if isinstance(dataset, dict) else ()
    names = [(part.get("data_root"), part.get("ann_file")) for part in parts]
    files = [Path(str(root or ""), str(name)) for root, name in names if name]
    return [file for file in files if file.is_file()]


def _compare(saved: Config, checkpoint: dict, runner: Runner) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs: its key, what the checkpoint has and what the config has."""
    classes = [
        list((meta or {}).get("classes") or ())
        for meta in (
            checkpoint["meta"].get("dataset_meta"),
            getattr(runner.train_dataloader.dataset, "metainfo", None),
        )
    ]
    if classes[0] != classes[1]:
        yield "classes", list_first(classes[0]), list_first(classes[1])
    known = list_known_keys() - _APART
    for key in [*_FIRST, *sorted(known - set(_FIRST))]:
        for found, before, now in _find_differences(key, saved.get(key), runner.cfg.get(key)):
            if ".metainfo." not in found or classes[0] == classes[1]:
                yield found, before, now


def _find_differences(key: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the innermost keys under which two values differ, with both values."""
    if key in _OF_MACHINES or key.rpartition(".")[2] in _OF_MACHINES:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from _find_differences(f"{key}.{name}", before.get(name), now.get(name))
    elif _make_plain(before) != _make_plain(now):
        yield key, before, now


def _make_plain(value: Any) -> Any:
    """Return a value of a config that compares by its content alone."""
    if isinstance(value, dict):
        return {key: _make_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(item) for item in value]
    return value


def _explain_changes(
    changes: list[tuple[str, Any, Any]], files: list[str], checkpoint: dict, new_schedule: bool
) -> str:
    """Say what differs, and what holds."""
    told = [_describe_change(*change) for change in changes[:_MAX_TOLD]]
    if len(changes) > _MAX_TOLD:
        told.append(f"{len(changes) - _MAX_TOLD} more")
    text = ""
    if told:
        text = f"the config differs from that of the checkpoint: {'; '.join(told)}. "
    if files:
        text += f"Changed since the checkpoint are the annotations in {list_first(files)}. "
    keys = [key for key, *_ in changes]
    if "classes" in keys:
        text += (
            "The heads go on with labels in the order of the checkpoint: correct the classes, or "
            "fine-tune by load_from in place of --resume. "
        )
    if new_schedule:
        return text + "The config holds, its schedule as if from the start (--new-schedule)"
    text += "The optimizer's numbers (learning rate, betas, weight decay ...) and the schedule are "
    text += f"the checkpoint's{_find_schedule_end(checkpoint)}; all else is the config's"
    begins = ("optim_wrapper.optimizer", "param_scheduler", "train_cfg.max_")
    if any(key.startswith(begins) for key in keys):
        text += (
            ". With --new-schedule numbers and schedule are the config's, stretched over its "
            "length; to start a schedule over from these weights, give --cfg-options "
            "load_from=CHECKPOINT and another --work-dir in place of --resume"
        )
    return text


def _describe_change(key: str, before: Any, now: Any) -> str:
    texts = [str(_make_plain(value)) for value in (before, now)]
    if max(map(len, texts)) > 60:
        return f"{key} has changed"
    return f"{key} was {texts[0]}, is {texts[1]}"


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
    return bool(getattr(runner.train_loop, "stop_training", False)) and (count_left(runner) > 0)


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
