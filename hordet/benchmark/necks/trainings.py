"""Running the trainings of the neck study: each a process of one thread, several at a time."""

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


def train(training: Training, root: Path, work_dir: Path, tiny: bool = False) -> dict[str, Any]:
    """Train one training in this process, on one thread.

    Args:
        training: Which.
        root: The repository, which has `configs`.
        work_dir: Its logs go to the folder of its name below.
        tiny: A dry run.

    Returns:
        The training, its metrics from 0 to 1, iterations, processor seconds, version of torch.
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


def train_all(
    trainings: Sequence[Training], jobs: int, root: Path, work_dir: Path, tiny: bool = False
) -> Iterator[tuple[Training, dict[str, Any] | str]]:
    """Train trainings, each in a process of its own.

    Args:
        trainings: Which, in the order in which they start.
        jobs: Processes at a time.
        root: As for `train`.
        work_dir: As for `train`; what a training prints goes to `OUTPUT` in its folder.
        tiny: As for `train`.

    Yields:
        Each training as it ends, with what `train` returns, or with what went wrong.

    Raises:
        ConfigError: A training failed for a reason that the user can put right, which others share.
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
                theirs.close()  # so that the other end's is the last one
                running[ours] = training, process
            for ours in wait(list(running)):
                training, process = running.pop(ours)
                yield training, _answer(ours, process)
    finally:
        for _, process in running.values():
            process.terminate()


def _answer(ours: Any, process: SpawnProcess) -> dict[str, Any] | str:
    """Return what a process sent, or how it ended."""
    try:
        kind, content = ours.recv()
    except EOFError:
        process.join()
        return f"its process ended with exit code {process.exitcode} (-9: perhaps without memory)"
    process.join()
    if kind == "stop":
        raise ConfigError(content)
    return content


def _serve(theirs: Connection, training: Training, root: Path, work_dir: Path, tiny: bool) -> None:
    """Train a training, its words in a file, and send what comes of it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = work_dir / str(training)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / OUTPUT).open("w") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        silence_warnings()
        theirs.send(("record", train(training, root, work_dir, tiny)))
    except Exception as error:
        # What the user can put right stops the study; one model that diverges does not.
        if isinstance(error, UserError) and not isinstance(error, NotFiniteError):
            theirs.send(("stop", f"{training}: {error}"))
            return
        theirs.send(("failure", f"{type(error).__name__}: {error} (see {folder / OUTPUT})"))
        raise  # to that file


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end with it."""
    multiprocessing.parent_process().join()
    os._exit(1)
