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

from hordet.benchmark.necks.pieces import Piece
from hordet.benchmark.necks.recipe import config_of
from hordet.engine import runner as run
from hordet.errors import ConfigError, NotFiniteError, UserError
from hordet.evaluation.headline import select_headline
from hordet.ops.upstream import silence_warnings

OUTPUT = "output.txt"


def train(piece: Piece, root: Path, work_dir: Path, tiny: bool = False) -> dict[str, Any]:
    """Train one piece in this process, on one thread.

    Args:
        piece: Which.
        root: The repository, which has `configs`.
        work_dir: Its logs go to the folder of its name below.
        tiny: A dry run.

    Returns:
        The piece, its metrics from 0 to 1, iterations, seconds of the processor, version of torch.
    """
    start = time.process_time()
    torch.set_num_threads(1)
    cfg = config_of(piece, root, tiny)
    cfg.work_dir = str(work_dir / str(piece))
    runner = run.build_training_runner(cfg, seed=piece.seed)
    runner.train()
    return {
        **asdict(piece),
        "metrics": select_headline(run.last_validation(runner)),
        "iterations": runner.iter,
        "processor_seconds": round(time.process_time() - start),
        "torch": torch.__version__,
    }


def train_all(
    pieces: Sequence[Piece], jobs: int, root: Path, work_dir: Path, tiny: bool = False
) -> Iterator[tuple[Piece, dict[str, Any] | str]]:
    """Train pieces, each in a process of its own.

    Args:
        pieces: Which, in the order in which they start.
        jobs: Processes at a time.
        root: As for `train`.
        work_dir: As for `train`; what a piece prints goes to `OUTPUT` in its folder.
        tiny: As for `train`.

    Yields:
        Each piece as it ends, with what `train` returns, or with what went wrong.

    Raises:
        ConfigError: A piece failed for a reason that the user can put right, which others share.
    """
    context = multiprocessing.get_context("spawn")
    waiting, running = list(pieces), dict[Any, tuple[Piece, SpawnProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                piece = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                arguments = (theirs, piece, root, work_dir, tiny)
                process = context.Process(target=_serve, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that the other end's is the last one
                running[ours] = piece, process
            for ours in wait(list(running)):
                piece, process = running.pop(ours)
                yield piece, _answer(ours, process)
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


def _serve(theirs: Connection, piece: Piece, root: Path, work_dir: Path, tiny: bool) -> None:
    """Train a piece, its words in a file, and send what comes of it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = work_dir / str(piece)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / OUTPUT).open("w") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        silence_warnings()
        theirs.send(("record", train(piece, root, work_dir, tiny)))
    except Exception as error:
        # What the user can put right stops the study; one model that diverges does not.
        if isinstance(error, UserError) and not isinstance(error, NotFiniteError):
            theirs.send(("stop", f"{piece}: {error}"))
            return
        theirs.send(("failure", f"{type(error).__name__}: {error} (see {folder / OUTPUT})"))
        raise  # to that file


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end with it."""
    multiprocessing.parent_process().join()
    os._exit(1)
