"""Runs the trainings of the neck study: each in a process with one thread, several at a time."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from hordet.benchmark.necks.plan import Training
from hordet.benchmark.necks.recipe import make_config
from hordet.engine import runner as run
from hordet.errors import ConfigError, NotFiniteError, UserError
from hordet.evaluation.headline import select_headline
from hordet.ops.upstream import silence_warnings

OUTPUT = "output.txt"


def run_training(
    training: Training, root: Path, work_dir: Path, tiny: bool = False
) -> dict[str, Any]:
    """Run one training in this process, on one thread.

    Args:
        training: The training.
        root: Folder of the repository, with `configs`.
        work_dir: Folder of all trainings; the logs go to a folder in it with the training's name.
        tiny: Whether to make a dry run.

    Returns:
        The record of the training: its fields, metrics from 0 to 1, iterations, seconds of
        processor time, and version of torch.
    """
    start = time.process_time()
    torch.set_num_threads(1)
    cfg = make_config(training, root, tiny)
    cfg.work_dir = str(work_dir / str(training))
    runner = run.build_training_runner(cfg, seed=training.seed)
    runner.train()
    return {
        **asdict(training),
        "metrics": select_headline(run.read_last_validation(runner)),
        "iterations": runner.iter,
        "processor_seconds": round(time.process_time() - start),
        "torch": torch.__version__,
    }


def run_trainings(
    trainings: Sequence[Training], jobs: int, root: Path, work_dir: Path, tiny: bool = False
) -> Iterator[tuple[Training, dict[str, Any] | str]]:
    """Run trainings, each in a process of its own.

    Args:
        trainings: The trainings, in the order in which they start.
        jobs: Number of processes at a time.
        root: As for `run_training`.
        work_dir: As for `run_training`; the output of a training goes to `OUTPUT` in its folder.
        tiny: As for `run_training`.

    Yields:
        Each training as it ends, with the record of `run_training` or a message on its failure.

    Raises:
        ConfigError: A training failed for a reason that the user can correct, and that would stop
            the others too.
    """
    context = multiprocessing.get_context("spawn")
    waiting, running = list(trainings), dict[Any, tuple[Training, SpawnProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                training = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                arguments = (theirs, training, root, work_dir, tiny)
                process = context.Process(target=_serve, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that the pipe ends with the process
                running[ours] = training, process
            for ready in wait(list(running)):
                training, process = running.pop(ready)
                yield training, _receive(ready, process)
    finally:
        for _, process in running.values():
            process.terminate()


def _receive(ours: Any, process: SpawnProcess) -> dict[str, Any] | str:
    """Return the record or message that a process sent, or how it ended."""
    try:
        kind, content = ours.recv()
    except EOFError:
        process.join()
        return f"its process ended with exit code {process.exitcode} (-9: perhaps memory was short)"
    process.join()
    if kind == "stop":
        raise ConfigError(content)
    return content


def _serve(theirs: Connection, training: Training, root: Path, work_dir: Path, tiny: bool) -> None:
    """Run a training with its output in a file, and send the record or a message."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = work_dir / str(training)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / OUTPUT).open("w") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        silence_warnings()
        theirs.send(("record", run_training(training, root, work_dir, tiny)))
    except Exception as error:
        # An error that the user can correct stops the study; a model that diverges does not.
        if isinstance(error, UserError) and not isinstance(error, NotFiniteError):
            theirs.send(("stop", f"{training}: {error}"))
            return
        theirs.send(("failure", f"{type(error).__name__}: {error} (see {folder / OUTPUT})"))
        raise  # to that file


def _end_with_parent() -> None:
    """End this process when the process that started it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this process was started by `run_trainings`
    parent.join()
    os._exit(1)
