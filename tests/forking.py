"""Functions in forked processes of their own, for tests of what processes do together."""

import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any

import torch

SECONDS = 600  # until processes that wait for each other for ever are ended


def run_forked(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> list[int]:
    """Call a function in one process for each tuple of arguments; return the exit codes.

    A process that does not end is killed, so that it fails its test and does not stop the run.
    """
    start = multiprocessing.get_context("fork").Process
    processes = [start(target=_call_alone, args=(function, *words)) for words in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    for process in processes:
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def _call_alone(function: Callable[..., None], *words: Any) -> None:
    # The threads of OpenMP are not forked: an operator would wait for them for ever.
    torch.set_num_threads(1)
    function(*words)
