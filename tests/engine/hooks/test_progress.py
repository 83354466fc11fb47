"""The progress bar: there for a terminal, absent otherwise, never in the way of a log line."""

import functools
import io
import re
import sys

import pytest

from hordet.engine.hooks import ProgressHook, progress


class Stream(io.StringIO):
    """Text that says whether it is a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def streams(monkeypatch):
    def make(terminal):
        stream = Stream(terminal)  # one screen for both, as at a desk
        # Draw every step, however quick.
        eager = functools.partial(progress.tqdm, mininterval=0)
        monkeypatch.setattr(progress, "tqdm", eager)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return make


def test_bar_and_whole_log_lines_on_a_terminal(toy_run, streams, shown):
    stream = streams(terminal=True)
    runner = toy_run([ProgressHook()])
    filters = [list(handler.filters) for handler in runner.logger.handlers]
    runner.train()
    text = stream.getvalue()
    # Every state of the bar: progress, loss, base learning rate, time left.
    assert re.search(
        r"train  50% \|[^|]*\| 4/8 \d\d:\d\d, \d\d:\d\d left, loss \d\.\d{4}, lr 1\.25e-01", text
    )
    assert re.search(r"val +\d+% \|", text)
    lines = shown(text)
    log = [line for line in lines if "Epoch(train)" in line]
    assert len(log) == 8
    for line in log:
        assert re.match(r"\d\d/\d\d \d\d:\d\d:\d\d - mmengine - INFO - Epoch\(train\)", line)
        assert "|" not in line
    # The full training bar stays, once, on a line of its own; no bar of a validation is left.
    bars = [line for line in lines if "|" in line]
    assert len(bars) == 1
    assert re.match(r"train 100% \|[^|]*\| 8/8 ", bars[0])
    assert [list(handler.filters) for handler in runner.logger.handlers] == filters


def test_silent_without_a_terminal(toy_run, streams):
    stream = streams(terminal=False)
    toy_run([ProgressHook()]).train()
    text = stream.getvalue()
    assert "\r" not in text and "|" not in text
    assert text.count("Epoch(train)") == 8


def test_only_the_main_process_shows_it(toy_run, streams, monkeypatch):
    stream = streams(terminal=True)
    monkeypatch.setattr("hordet.engine.hooks.progress.is_main_process", lambda: False)
    toy_run([ProgressHook()]).train()
    assert "\r" not in stream.getvalue()


def test_resumed_run_starts_where_it_stood(toy_run, streams):
    stream = streams(terminal=True)
    runner = toy_run([ProgressHook()])
    # As Runner.resume leaves the loop after one of two epochs.
    runner.train_loop._epoch, runner.train_loop._iter = 1, 4
    runner.train()
    assert "train  62%" in stream.getvalue()
    assert "train  12%" not in stream.getvalue()


def test_validation_alone(toy_run, streams, shown):
    stream = streams(terminal=True)
    toy_run([ProgressHook()]).val()
    assert re.search(r"val +100% \|[^|]*\| 4/4", stream.getvalue())
    assert not [line for line in shown(stream.getvalue()) if "|" in line]
