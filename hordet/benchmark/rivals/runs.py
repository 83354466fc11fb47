"""Runs a rival as a child process on some cores, and scores what it wrote."""

import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hordet.benchmark.rivals.plan import RIVALS, TASKS, WEIGHTS, Run
from hordet.benchmark.rivals.scoring import SCORERS, read_summary
from hordet.errors import BenchmarkError

OUTPUT = "output.txt"
# Beside the minutes of the training: what a rival may take to start, predict and write.
PATIENCE = 3600  # seconds
PACKAGES = Path(__file__).resolve().parents[3]  # where this hordet is, for the rivals made of it


@dataclass(frozen=True)
class Place:
    """Where and how rivals run.

    Attributes:
        work_dir: Folder of all runs.
        threads: Threads of torch, and cores that a rival may use.
        weights: Weights of EfficientNet-Lite0; None where no run starts from them.
        tiny: Whether these are dry runs of two steps.
        patience: Seconds after which a rival is ended, beside the minutes of its training.
    """

    work_dir: Path
    threads: int = 2
    weights: Path | None = None
    tiny: bool = False
    patience: float = PATIENCE


def run_rival(run: Run, data: Path, python: Path, place: Place) -> dict[str, Any]:
    """Run a rival and score it.

    Args:
        run: The run.
        data: Folder of its data set.
        python: The interpreter.
        place: Where and how.

    Returns:
        The record: fields of the run, its metrics, and its summary.

    Raises:
        BenchmarkError: The rival failed or took too long; the message holds its last words.
        EvaluationError: What it wrote is not what a rival must write.
    """
    out = place.work_dir / str(run)
    shutil.rmtree(out, ignore_errors=True)  # what an earlier try left is not this one's
    out.mkdir(parents=True)
    rival, task = RIVALS[run.rival], TASKS[run.dataset]
    words = [str(python), str(rival.program), "--data", str(data.resolve()), "--out"]
    words += [str(out.resolve()), "--minutes", f"{run.minutes:g}", "--seed", str(run.seed)]
    words += ["--threads", str(place.threads), "--size", *map(str, task.size), *rival.words]
    if run.start == WEIGHTS:
        assert place.weights is not None
        words += ["--weights", str(place.weights.resolve())]
    words += ["--tiny"] * place.tiny
    limit = 60 * run.minutes + place.patience
    _run_child(words, out, limit, place.threads, own=not rival.needs)
    return {
        **asdict(run),
        "metrics": SCORERS[task.kind](data, out),
        **read_summary(out),
    }


def _run_child(words: Sequence[str], out: Path, limit: float, threads: int, *, own: bool) -> None:
    """Run a command in a session of its own, with its output in a file.

    Raises:
        BenchmarkError: It failed or took longer than the limit (seconds).
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        # A thread that waits does not take the core of another.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Nothing is fetched while the clock runs, nor settings taken from an earlier run.
        "HF_HUB_OFFLINE": "1",
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(out.resolve()),
        "HORDET_CACHE": str(out.resolve()),
    }
    if own:
        before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGES), *filter(None, before)])
    path = out / OUTPUT
    with path.open("w") as file:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=out,
            start_new_session=True,
        )
        try:
            _keep_to_cores(child.pid, threads)
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"it was ended after {limit:.0f} seconds") from None
        finally:
            _end(child)
    if code:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "no output")
        raise BenchmarkError(f"it ended with exit code {code}: {last[-300:]}")


def _keep_to_cores(process: int, number: int) -> None:
    """Let a process and its later children use this many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(process, sorted(os.sched_getaffinity(0))[:number])
        except ProcessLookupError:
            pass  # it has ended already, which `wait` tells


def _end(child: subprocess.Popen) -> None:
    """End a process and all that it started, if they still run."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    child.wait()


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what minutes and milliseconds depend on: processor, threads, version of torch."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return dict(processor=processor, threads=threads, torch=torch.__version__)
