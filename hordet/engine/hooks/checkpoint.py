"""The hook that writes a training's checkpoints, and brings a resumed one back to its state."""

from pathlib import Path
from typing import Any

from mmengine import hooks
from mmengine.dist import (
    all_gather_object,
    barrier,
    get_rank,
    get_world_size,
    is_distributed,
    is_main_process,
)
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from hordet.checkpoints.backend import WHOLE_FILES, get_file_queue
from hordet.checkpoints.load import load_checkpoint
from hordet.checkpoints.newest import POINTER
from hordet.checkpoints.save import remove_unfinished, save_checkpoint
from hordet.engine.hooks.interrupt import Interruption
from hordet.errors import RESUME_ME, Interrupted
from hordet.registry import HOOKS

# What a checkpoint of hordet holds beyond mmengine's: where the data stood, the random states of
# every process, and what is accumulated for a step that is not taken yet.
POSITION, RANDOM_STATES, GRADIENTS = "position", "random_states", "gradients"
_PASSING = "interrupted_ckpt"


@HOOKS.register_module()
class CheckpointHook(hooks.CheckpointHook):
    """mmengine's CheckpointHook, so that no kill, signal or full disk loses a run.

    - A file is written beside its place, flushed, renamed, and has its SHA-256 beside it; then the
      pointer `last_checkpoint` moves; only then older files go.
    - Checkpoints hold the random states and the position within the epoch. With the training loops
      of `hordet.engine.loops` a resumed run on one process goes on bit for bit.
    - SIGTERM, SIGINT and SIGUSR1 let the iteration finish, save, and stop the run.

    Args:
        asynchronous: Write in a thread; the training waits for the copy to memory alone, and for
            the checkpoint before if that is still being written.
        safetensors: At the end, write the weights of the last and best checkpoints beside them as
            `.safetensors` too.
        **kwargs: mmengine's: interval, by_epoch, max_keep_ckpts, save_best, ...
    """

    def __init__(
        self, *, asynchronous: bool = False, safetensors: bool = False, **kwargs: Any
    ) -> None:
        """See the class."""
        super().__init__(**kwargs)
        self.asynchronous = asynchronous
        self.safetensors = safetensors
        self._queue = get_file_queue(asynchronous)
        self.interruption = Interruption()
        self._validated = False
        self._saved_iter: int | None = None
        self._state: dict = {}
        self._meta: dict = {}

    backend_args: dict | None  # of mmengine's hook

    def before_train(self, runner: Runner) -> None:
        """Listen to signals, find the backend, and remove what an earlier kill left unfinished."""
        keep_own_files(self, runner)
        backend = get_file_backend(self.out_dir or runner.work_dir, backend_args=self.backend_args)
        local = type(backend) is LocalBackend  # object stores write whole objects themselves
        if local:
            self.backend_args = {**WHOLE_FILES, "asynchronous": self.asynchronous}
        super().before_train(runner)
        # A list: the oldest file goes once the newest is there, not before.
        self.keep_ckpt_ids: Any = list(getattr(self, "keep_ckpt_ids", ()))
        if local and is_main_process():
            remove_unfinished(Path(self.out_dir))
            remove_unfinished(Path(runner.work_dir))
        # The config lies in the work folder, well set. Setting it anew for each checkpoint, the
        # training would wait for half a second.
        object.__setattr__(runner.cfg, "_format_python_code", False)
        self.interruption.listen()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save if it is time; if asked to stop, save and raise Interrupted."""
        super().after_train_iter(runner, *args, **kwargs)
        if self.interruption.is_asked():
            self._stop(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """If asked to stop, save the state before this validation, and raise Interrupted.

        Several processes end their validation first: they may have different numbers of batches,
        so they cannot agree within it.
        """
        if not is_distributed() and self.interruption.is_asked():
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # it has swapped the model's weights
            self._stop(runner, epoch=runner.epoch, iteration=runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best; what is saved now has its validation behind it."""
        self._validated = True
        super().after_val_epoch(runner, metrics)
        self._validated = False

    def after_train(self, runner: Runner) -> None:
        """Wait for what is being written."""
        self._queue.wait()
        super().after_train(runner)
        if self.safetensors and is_main_process():
            self._export(runner)

    def after_run(self, runner: Runner) -> None:
        """Give the signals back."""
        self.interruption.stop_listening()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the position and the random states that `_write` gathered."""
        if "optimizer" in checkpoint:
            checkpoint.update(self._state)
        checkpoint["meta"].update(self._meta)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Hand a resumed run's position and random state to the training loop."""
        go_on = getattr(runner.train_loop, "resume_at", None) if runner._resume else None
        if go_on is None or POSITION not in checkpoint:
            return
        states = checkpoint[RANDOM_STATES]
        if len(states) != get_world_size():
            runner.logger.warning(
                f"the checkpoint is of {len(states)} processes and now there are "
                f"{get_world_size()}: random numbers differ from those of the same run in one go"
            )
        state = states[get_rank()] if get_rank() < len(states) else None
        go_on(checkpoint[POSITION], state)
        for name, gradient in checkpoint.get(GRADIENTS, {}).items():
            runner.model.get_parameter(name).grad = gradient

    def _stop(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Save, and raise Interrupted."""
        self._save_passing(runner, epoch, iteration)
        barrier()  # the first process that ends makes torchrun end the others
        raise Interrupted(
            f"asked to stop by {self.interruption.signal or 'a signal to another process'}; "
            f"iteration {iteration} is saved in {self.last_ckpt}. The same command with --resume "
            f"goes on from there (exit code {RESUME_ME})"
        )

    def save_now(self, runner: Runner) -> str | None:
        """Save the state between two iterations, as where the next batch cannot be read.

        Args:
            runner: Of a training.

        Returns:
            The file; None if nothing is trained yet, or if other processes wait for this one.
        """
        if is_distributed() or not runner.iter:
            return None
        self._validated = True  # the loop validates before it reads on
        self._save_passing(runner, runner.epoch, runner.iter)
        self._validated = False
        return self.last_ckpt

    def _save_passing(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Save under the number of the iteration, unless that is saved."""
        if self._saved_iter != iteration:
            path = self.file_backend.join_path(self.out_dir, f"iter_{iteration}.pth")
            # It goes when the resumed run has saved its next one.
            runner.message_hub.update_info(_PASSING, path)
            self._write(runner, path, dict(epoch=epoch, iter=iteration))
        self._queue.wait()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write the file and move the pointer; then what is too old goes."""
        hub, ids = runner.message_hub, self.keep_ckpt_ids
        if self.max_keep_ckpts > 0 and step not in ids[-1:]:
            ids.append(step)
            # With those that go next: if a kill comes first, they go at the next start.
            hub.update_info("keep_ckpt_ids", list(ids))
        path = self._path(step)
        passing = hub.runtime_info.pop(_PASSING, None)
        self._write(runner, path, meta)
        if passing and passing != path:
            self._discard(passing)
        while 0 < self.max_keep_ckpts < len(ids):
            self._discard(self._path(ids.pop(0)))
            hub.update_info("keep_ckpt_ids", list(ids))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Write the new best before the one before goes."""
        with self._queue.defer_removals():
            super()._save_best_checkpoint(runner, metrics)

    def _write(self, runner: Runner, path: str, meta: dict) -> None:
        """Write a checkpoint that can be resumed from, then move the pointer to it."""
        self.last_ckpt = path
        self._saved_iter = meta["iter"]
        runner.message_hub.update_info("last_ckpt", path)
        self._state = _state_beyond_mmengine(runner, self._validated, meta["iter"])
        self._meta = dict(meta)  # mmengine's FlexibleRunner writes its own count over it
        runner.save_checkpoint(
            self.out_dir,
            Path(path).name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._state, self._meta = {}, {}  # what others write now is no place to resume from
        if is_main_process():
            pointer = Path(runner.work_dir) / POINTER
            self._queue.write(pointer, path.encode(), verified=False)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _discard(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif is_main_process() and self.file_backend.isdir(path):  # DeepSpeed's are folders
            self.file_backend.rmtree(path)

    def _export(self, runner: Runner) -> None:
        """Write the weights of the last and best checkpoints as safetensors."""
        info = runner.message_hub.runtime_info
        best = [value for key, value in info.items() if key.startswith("best_ckpt")]
        for path in filter(None, (self.last_ckpt, *best)):
            target = Path(path).with_suffix(".safetensors")
            save_checkpoint(load_checkpoint(path)["state_dict"], target, overwrite=True)
            runner.logger.info(f"The weights of {path} are exported to {target}.")


def keep_own_files(hook: hooks.CheckpointHook, runner: Runner) -> None:
    """Let a hook remove files of its own run alone; see `keep_within`.

    Args:
        hook: The hook, hordet's or mmengine's.
        runner: The run, with what a resumed checkpoint brought.
    """
    folder = Path(runner.work_dir)
    folder = Path(hook.out_dir) / folder.name if hook.out_dir else folder
    keep_within(folder, runner.message_hub.runtime_info)


def keep_within(folder: Path, info: dict) -> None:
    """Make what a resumed checkpoint calls its older files lie in the run's own folder.

    These files are removed in the course of the training; a checkpoint made by somebody else must
    not choose which. A moved work folder takes its best checkpoint along this way, too.
    """
    for key, value in info.items():
        if key == _PASSING or key.startswith("best_ckpt"):
            info[key] = str(folder / Path(str(value)).name)
        elif key == "keep_ckpt_ids":
            info[key] = [each for each in value if isinstance(each, int)]


def _state_beyond_mmengine(runner: Runner, validated: bool, iteration: int) -> dict:
    """Return position, random states of all processes, and gradients of a step that is half done.

    Every process must call it. Empty under a training loop that cannot go on within an epoch.
    """
    loop = runner.train_loop
    if not hasattr(loop, "get_position"):
        return {}
    state = {
        POSITION: loop.get_position(validated),
        RANDOM_STATES: all_gather_object(loop.get_random_state(validated)),
    }
    counts = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
    if iteration % counts and get_world_size() == 1:
        named = runner.model.named_parameters()
        state[GRADIENTS] = {name: p.grad for name, p in named if p.grad is not None}
    return state
