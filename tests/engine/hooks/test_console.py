"""The console of a run: a few lines that read well, whole on a terminal, and nothing else."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner

from hordet.engine.console import make_quiet
from hordet.engine.hooks import ConsoleHook, ProgressHook, console, progress


class Clock(Hook):
    """Two seconds an iteration and ten a validation of four batches; and the losses seen."""

    priority = "VERY_HIGH"

    def __init__(self):
        self.now = 1000.0
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.now += 2
        self.losses.append(outputs["loss"].item())

    def after_val_iter(self, *args, **kwargs):
        self.now += 2.5


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def printed_by(capsys):
    """The lines on standard output, but for warnings of mmengine about the toys."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if " - mmengine - WARNING - " not in line]


def lines_of(capsys):
    """What was printed after the summary, which ends with the work folder."""
    printed = printed_by(capsys)
    ends = [i for i, line in enumerate(printed) if line.startswith("work folder")]
    assert len(ends) == 1
    return printed[ends[0] + 1 :]


def quiet_run(toy_run, hooks, **options):
    return toy_run(hooks, runner_class=make_quiet(Runner), **options)


def test_epochs(toy_run, clock, capsys):
    quiet_run(toy_run, [clock, ConsoleHook()], interval=2).train()
    first, second, third, fourth = (
        f"{sum(clock.losses[i : i + 2]) / 2:.3f}" for i in range(0, 8, 2)
    )
    # Left after six iterations: (6 x 2 s + 10 s) / 6 an iteration.
    assert lines_of(capsys) == [
        f"epoch 1/2  iteration 2/8  loss {first}  lr 1.2e-1  2.0 s/it  12 s left",
        f"epoch 1/2  iteration 4/8  loss {second}  lr 1.2e-1  2.0 s/it  8 s left",
        "epoch 1/2  validation  count 8  10.0 s",
        f"epoch 2/2  iteration 6/8  loss {third}  lr 1.2e-1  2.0 s/it  7 s left",
        f"epoch 2/2  iteration 8/8  loss {fourth}  lr 1.2e-1  2.0 s/it",
        "epoch 2/2  validation  count 8  10.0 s",
    ]


def test_an_epoch_shorter_than_the_interval_has_a_line(toy_run, clock, capsys):
    quiet_run(toy_run, [clock, ConsoleHook()], interval=50).train()
    kinds = [re.findall("iteration ./8|validation", line) for line in lines_of(capsys)]
    assert kinds == [["iteration 4/8"], ["validation"], ["iteration 8/8"], ["validation"]]


def test_iterations(toy_run, clock, capsys):
    wrapper = dict(optimizer=dict(type="SGD", lr=7.46e-4), clip_grad=dict(max_norm=1))
    quiet_run(
        toy_run,
        [clock, ConsoleHook()],
        interval=3,
        train_cfg=dict(by_epoch=False, max_iters=7, val_interval=4),
        log_processor=dict(by_epoch=False),
        optim_wrapper=wrapper | dict(accumulative_counts=2),
    ).train()
    begins = [
        r"iteration 3/7  loss \d\.\d{2,3}  gradient norm \d[\d.]*  lr 7\.5e-4  2\.0 s/it  8 s left",
        r"iteration 4/7  validation  count 8  10\.0 s",
        r"iteration 6/7  loss .*  2\.0 s/it  4 s left",
        r"iteration 7/7  loss .*  2\.0 s/it",
        r"iteration 7/7  validation  count 8  10\.0 s",
    ]
    lines = lines_of(capsys)
    assert len(lines) == len(begins)
    for line, begin in zip(lines, begins, strict=True):
        assert re.fullmatch(begin, line), line


def test_a_resumed_run_counts_its_own_iterations(toy_run, clock, capsys):
    runner = quiet_run(toy_run, [clock, ConsoleHook()])
    # As Runner.resume leaves the loop after one of two epochs.
    runner.train_loop._epoch, runner.train_loop._iter = 1, 4
    for _ in range(4):  # the history of the first start
        runner.message_hub.update_scalar("train/loss", 100.0)
    runner.train()
    line = lines_of(capsys)[0]
    want = rf"epoch 2/2  iteration 5/8  loss {clock.losses[0]:.3f}  lr 1\.2e-1  2\.0 s/it  6 s left"
    assert re.fullmatch(want, line)


def test_a_validation_before_the_first_iteration_does_not_count(toy_run, clock, capsys):
    class ValidateFirst(Hook):
        """As hordet's loops do, where a validation was still to come."""

        priority = "LOWEST"

        def before_train(self, runner):
            runner.val_loop.run()

    quiet_run(toy_run, [clock, ConsoleHook(), ValidateFirst()]).train()
    first, second = lines_of(capsys)[:2]
    assert first == "epoch 0/2  validation  count 8  10.0 s"
    assert second.endswith("  2.0 s/it  14 s left")


def test_the_best_checkpoint_is_told(toy_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = dict(type="CheckpointHook", interval=1, save_best="count", rule="greater")
    quiet_run(toy_run, [ConsoleHook()], checkpoint=checkpoint, interval=4).train()
    told = [line for line in lines_of(capsys) if "best" in line]
    assert told == ["epoch 1/2  the best so far: run/best_count_epoch_1.pth"]


def test_the_summary(toy_run, capsys):
    quiet_run(toy_run, [ConsoleHook()]).train()
    summary = [line for line in printed_by(capsys) if not line.startswith("epoch ")]
    names = [line[:13].rstrip() for line in summary]
    assert names == [
        "config",
        "model",
        "training",
        "validation",
        "schedule",
        "optimizer",
        "weights",
        "device",
        "work folder",
    ]
    told = dict(zip(names, (line[13:] for line in summary), strict=True))
    assert told["model"] == "Toy, 4 parameters"
    assert told["training"] == told["validation"] == "8 images of 1 class, Images"
    assert told["schedule"] == "2 epochs of 4 iterations, batches of 2 x 1 process"
    assert told["optimizer"] == "SGD, learning rate 1.2e-1, float32"
    assert told["weights"] == "random"


def test_a_validation_alone(toy_run, capsys, clock):
    quiet_run(toy_run, [clock, ConsoleHook()]).val()
    printed = printed_by(capsys)
    assert [line.split()[0] for line in printed[:3]] == ["config", "model", "validation"]
    assert printed[-1] == "validation  count 8  10.0 s" and len(printed) == 6


@METRICS.register_module()
class _Talkative(BaseMetric):
    """Prints as readers of COCO's files do."""

    def __init__(self):
        super().__init__()
        print("creating index...")

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        print("Evaluate annotation type *bbox*")
        return dict(count=len(results))


class _Warn(Hook):
    def before_train(self, runner):
        runner.logger.info("no news")
        runner.logger.warning("two\nlines of warning")
        runner.logger.error("an error")


def test_the_rest_goes_to_the_log_file(toy_run, capsys):
    hooks = [ConsoleHook(), _Warn()]
    runner = quiet_run(toy_run, hooks, interval=4, val_evaluator=dict(type="_Talkative"))
    runner.train()
    printed = capsys.readouterr().out
    (log,) = Path(runner.log_dir).glob("*.log")
    text = log.read_text()
    for part in (
        "System environment",
        "Hooks will be executed",
        "Epoch(train) [2][4/4]",
        "Epoch(val) [2][4/4]",
        "no news",
        "creating index...",
        "Evaluate annotation type *bbox*",
    ):
        assert part in text and part not in printed, part
    for part in ("two\nlines of warning", "an error"):
        assert part in text and part in printed
    assert "loss 0." in printed and "s/it" not in text  # nothing of the console is in the file
    (scalars,) = Path(runner.log_dir).glob("vis_data/scalars.json")
    assert scalars.read_text().count('"loss"') == 2 and scalars.read_text().count('"count"') == 2


def test_other_processes_are_silent(toy_run, capsys, monkeypatch):
    monkeypatch.setattr(console, "is_main_process", lambda: False)
    checkpoint = dict(type="CheckpointHook", interval=1, save_best="count", rule="greater")
    quiet_run(toy_run, [ConsoleHook()], checkpoint=checkpoint).train()
    assert printed_by(capsys) == []


class Terminal:
    """A terminal of 100 columns in place of standard output and error."""

    def __init__(self, patch):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.stream = os.fdopen(theirs, "w", buffering=1)
        self.got = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        patch.setattr(sys, "stdout", self.stream)
        patch.setattr(sys, "stderr", self.stream)

    def _read(self):
        with contextlib.suppress(OSError):  # Linux: the other end is closed
            while content := os.read(self.ours, 4096):
                self.got.append(content)

    def close(self):
        """Return all that was written."""
        self.stream.close()
        self.reader.join()
        os.close(self.ours)
        return b"".join(self.got).decode()


def test_lines_above_the_bar_are_whole(toy_run, shown, monkeypatch):
    draw = progress.tqdm
    # Draw every step, however quick.
    monkeypatch.setattr(progress, "tqdm", lambda **options: draw(mininterval=0, **options))
    with monkeypatch.context() as patch:
        terminal = Terminal(patch)
        try:
            quiet_run(toy_run, [ConsoleHook(), ProgressHook(), _Warn()]).train()
        finally:
            text = terminal.close()
    assert re.search(r"train  50% \|[^|]*\| 4/8 ", text)  # there was a bar
    lines = shown(text)
    told = [line for line in lines if re.match(r"epoch \d/2  (iteration \d/8  loss|valid)", line)]
    assert len(told) == 8 + 2
    assert not [line for line in told if "|" in line]
    bars = [line for line in lines if "|" in line]
    assert len(bars) == 1 and re.match(r"train 100% \|[^|]*\| 8/8 ", bars[0])
    # Summary, warning of two lines, error, ten lines, the bar, and the line after it.
    lines = [line for line in lines if "The prefix is not set" not in line]
    assert "lines of warning" in lines and len(lines) == 9 + 3 + 10 + 1 + 1, lines
