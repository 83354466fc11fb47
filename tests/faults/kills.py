"""Kill a training with SIGKILL again and again, resume it, and compare with one in one go.

python tests/faults/kills.py --kills 200 --seed 0

The training is a dry run of the shapes configs with narrower layers: detection by epochs, whose
losses draw random boxes, and segmentation by iterations. Each start is a process of its own, forked
from one that has imported torch and mm* already; the signal is a real SIGKILL at a real process, at
a random moment: anywhere, within an iteration, or (half of them) about when a checkpoint is
written; how many fell within the writing is counted. Moments are of the killed process's own
processor time, and nothing has a limit in wall-clock time, so that a slow or paused machine changes
nothing. After each kill the newest checkpoint must verify and be at most one interval behind; when
a run ends, its weights, their averages, optimizer, schedulers and random states must equal those of
an undisturbed run bit for bit.
"""

import argparse
import contextlib
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from hordet import checkpoints
from hordet.checkpoints import find_newest_checkpoint, load_checkpoint
from hordet.ops.upstream import silence_warnings

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 2  # iterations between checkpoints; an epoch has 4
SILENCE = 600  # seconds without a report, while this process runs, after which a training hangs
TICK = 1 / os.sysconf("SC_CLK_TCK")
KEYS = (
    "state_dict",
    "ema_state_dict",
    "optimizer",
    "param_schedulers",
    "position",
    "random_states",
)
TASKS = {
    "detection": (
        "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py",
        {
            "model.roi_head.bbox_head.fc_out_channels": 32,
        },
        dict(max_epochs=4, val_interval=2),
    ),
    "segmentation": (
        "configs/shapes/upernet_hornet-nano_horuperhead_1k.py",
        {
            "model.decode_head.channels": 16,
            "model.auxiliary_head.channels": 16,
        },
        dict(max_iters=16, val_interval=8),
    ),
}
NANO = dict(base_channels=8, depths=(1, 1, 1, 1), orders=(2, 3, 3, 3))


def config_of(task, folder, seed):
    """Return the config of one training."""
    from hordet.engine import runner as run

    path, options, loop = TASKS[task]
    cfg = run.read_config(ROOT / path, options=options, work_dir=str(folder), tiny=True)
    cfg.model.backbone.arch = NANO
    if task == "detection":
        cfg.model.neck.in_channels = [8, 16, 32, 64]
    else:
        cfg.model.decode_head.in_channels = [8, 16, 32, 64]
        cfg.model.auxiliary_head.in_channels = 32
    cfg.train_cfg.update(loop)
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=INTERVAL, max_keep_ckpts=2)
    cfg.default_hooks.logger.interval = 1000
    cfg.custom_hooks = [dict(type="EMAHook")]
    # Setting the config in lines takes longer than the rest of a start.
    object.__setattr__(cfg, "_format_python_code", False)
    return cfg


def train(task, folder, seed, report):
    """Train, from the newest checkpoint if there is one, and report each event as a word."""
    from mmengine.hooks import Hook

    from hordet.checkpoints import backend
    from hordet.engine import runner as run

    class Reporter(Hook):
        priority = "HIGHEST"  # an iteration counts as done before its checkpoint is written

        def before_train(self, runner):
            report(f"from {runner.iter}")

        def after_train_iter(self, runner, *args, **kwargs):
            report(f"iteration {runner.iter + 1}")

    write = backend.write_verified

    def reporting_write(path, content):
        report("saving")
        write(path, content)
        report("saved")

    backend.write_verified = reporting_write
    silence_warnings()
    runner = run.build_training_runner(config_of(task, folder, seed), resume="auto")
    runner.register_hook(Reporter())
    runner.train()


class Start:
    """One process that trains."""

    def __init__(self, task, folder, seed, log):
        """Fork it."""
        self.reader, writer = os.pipe()
        self.words = []
        self.pid = os.fork()
        if self.pid:
            os.close(writer)
            return
        code = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            train(task, folder, seed, lambda word: os.write(writer, f"{word}\n".encode()))
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait_for(self, word, times=1):
        """Wait until `times` reports begin with a word, or the process ends."""
        silent = 0
        while times > 0:
            # In seconds one by one: a pause of this process, however long, counts as one.
            if not select.select([self.reader], [], [], 1.0)[0]:
                silent += 1
                assert silent < SILENCE, f"process {self.pid} hangs after {self.words[-3:]}"
                continue
            silent = 0
            content = os.read(self.reader, 4096).decode()
            if not content:
                return
            self.words += content.split("\n")[:-1]
            times -= sum(each.startswith(word) for each in content.split("\n"))

    def work_for(self, seconds):
        """Wait until the process has used that much more processor time, or ended."""
        end = self._used() + seconds
        while self._used() < end:
            time.sleep(TICK / 2)

    def _used(self):
        """Return the processor time of the process, in seconds; infinite once it has ended."""
        state, *numbers = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return float("inf") if state == "Z" else (int(numbers[10]) + int(numbers[11])) * TICK

    def kill(self):
        """Kill it, and tell whether it was still running."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.end()

    def end(self):
        """Read what is left, and return how the process ended, as `os.waitpid` says."""
        self.wait_for("nothing", times=10**9)
        os.close(self.reader)
        _, status, used = os.wait4(self.pid, 0)
        self.processor_time = used.ru_utime + used.ru_stime
        return status

    def numbers(self, word):
        """Return the numbers reported with a word."""
        return [int(each.split()[1]) for each in self.words if each.startswith(word + " ")]

    def ended_within_writing(self):
        """Tell whether a checkpoint was begun and not finished."""
        return self.words.count("saving") > self.words.count("saved")


def kill_once(start, rng, whole):
    """Kill a training at a random moment; return the kind of moment and how it ended.

    Args:
        start: The training.
        rng: Draws the moment.
        whole: Processor time in seconds of the undisturbed run.
    """
    kind = rng.choice(["saving", "saving", "iteration", "anywhere"])
    if kind == "saving":
        start.wait_for("saving", rng.randint(1, 3))
        time.sleep(rng.uniform(0, 0.02))  # of the clock: a disk is waited for
    elif kind == "iteration":
        start.wait_for("iteration", rng.randint(1, 4))
        start.work_for(rng.uniform(0, 0.1))
    else:
        start.work_for(rng.uniform(0, whole))
    return kind, start.kill()


def differences(one, other):
    """Return the names of what differs between two checkpoints, bit for bit."""
    names = []

    def compare(a, b, name):
        if isinstance(a, torch.Tensor):
            same = a.dtype == b.dtype and torch.equal(a, b)
        elif isinstance(a, dict):
            same = a.keys() == b.keys()
            for key in a.keys() & b.keys():
                compare(a[key], b[key], f"{name}.{key}")
        elif isinstance(a, list | tuple):
            same = len(a) == len(b)
            for index, pair in enumerate(zip(a, b, strict=False)):
                compare(*pair, f"{name}.{index}")
        else:
            same = a == b
        if not same:
            names.append(name)

    for key in KEYS:
        compare(one[key], other[key], key)
    return names


def disturbed_run(task, seed, folder, rng, kills):
    """Kill and resume one training until it ends.

    Returns:
        The count of kills by kind, how many fell within the writing of a checkpoint, and the
        largest number of iterations that one lost.
    """
    counts: Counter = Counter()
    inside = lost = 0
    log = folder / f"{task}-{seed}.log"
    whole = Start(task, folder / "whole", seed, log)
    assert whole.end() == 0, f"the undisturbed run failed; see {log}"
    work_dir = folder / "disturbed"
    done = 0
    for _ in range(kills):
        start = Start(task, work_dir, seed, log)
        kind, status = kill_once(start, rng, whole.processor_time)
        done = max([done, *start.numbers("iteration")])
        if not os.WIFSIGNALED(status):
            assert status == 0, f"a resumed run failed; see {log}"
            break
        counts[kind] += 1
        inside += start.ended_within_writing()
        newest, skipped = find_newest_checkpoint(work_dir)
        assert not skipped, f"a kill left a damaged checkpoint: {skipped}"
        saved = load_checkpoint(newest)["meta"]["iter"] if newest else 0
        lost = max(lost, done - saved)
        assert done - saved <= INTERVAL, f"{done - saved} iterations are lost"
        done = saved
    else:
        assert Start(task, work_dir, seed, log).end() == 0, f"the last resume failed; see {log}"
    one, other = (
        load_checkpoint(find_newest_checkpoint(folder / n)[0]) for n in ("whole", "disturbed")
    )
    wrong = differences(one, other)
    assert not wrong, f"{task}, seed {seed}: {len(wrong)} entries differ, first {wrong[:5]}"
    left = [file.name for file in work_dir.iterdir() if file.name.startswith(".")]
    assert left == [".running"] and len(list(work_dir.glob("iter_*.pth"))) == 2, (
        left,
        os.listdir(work_dir),
    )
    return counts, inside, lost


def main():
    """Run until enough kills are counted, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments, and of the first run")
    parser.add_argument("--task", choices=TASKS, action="append", help="default: both in turn")
    arguments = parser.parse_args()
    checkpoints.use_safe_loading()
    os.environ.setdefault("HORDET_CACHE", tempfile.mkdtemp(prefix="kills-cache-"))
    import mmdet.apis  # noqa: F401  (once, before the forks)
    import mmseg.apis  # noqa: F401
    from mmengine.runner import runner

    # What the log says of the machine takes compilers to ask: once, not at each start.
    machine = runner.collect_env()
    runner.collect_env = lambda: machine
    rng = random.Random(arguments.seed)
    total: Counter = Counter()
    inside, lost, seed, began = 0, 0, arguments.seed, time.monotonic()
    tasks = arguments.task or list(TASKS)
    for task in tasks:
        config_of(task, "unused", 0)  # draws the images
    while total.total() < arguments.kills:
        task = tasks[(seed - arguments.seed) % len(tasks)]
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        counts, *more = disturbed_run(task, seed, folder, rng, arguments.kills - total.total())
        total += counts
        inside, lost = inside + more[0], max(lost, more[1])
        shutil.rmtree(folder)
        print(f"{task}, seed {seed}: {dict(counts)}, equal bit for bit", flush=True)
        seed += 1
    print(
        f"{total.total()} kills ({dict(total)}), {inside} of them within the writing of a "
        f"checkpoint, over {seed - arguments.seed} trainings, seeds {arguments.seed} to "
        f"{seed - 1}: each resumed from a whole checkpoint, at most {lost} iterations lost "
        f"(interval {INTERVAL}), every end equal bit for bit; {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
