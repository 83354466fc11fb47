"""One check of a GPU: is hordet right there, in every precision, and how fast is it.

`run_check` runs the parts of `hordet.benchmark.gpu_parts`, each within seconds of its own, so that
the whole ends in eight minutes. They run in a process beside this one: CUDA refuses all further
work of a process after a fault in a kernel, and a call that hangs in a driver can only be killed.
The part after a failure gets a new process. A dry run goes through what a CPU can run of it, at
small sizes; the rest is then "not run".
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger

from hordet.benchmark import gpu_parts
from hordet.benchmark.gpu_parts import CheckRow, GpuCheck
from hordet.benchmark.table import format_table
from hordet.benchmark.worker import Worker

# Each part and its seconds on a GPU, with the start of its process; together less than eight
# minutes. A dry run has no limit.
PARTS: dict[str, tuple[Callable[[GpuCheck], None], int]] = {
    "faults": (gpu_parts.probe_faults, 35),
    "precisions": (gpu_parts.compare_precisions, 50),
    "operators": (gpu_parts.compare_operators, 25),
    "training": (gpu_parts.train_tasks, 125),
    "resume": (gpu_parts.resume_training, 75),
    "kernels": (gpu_parts.compare_kernels, 30),
    "step": (gpu_parts.profile_step, 50),
    "speed": (gpu_parts.time_models, 80),
}


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        machine: The card, torch, CUDA and cuDNN; or that it was a dry run.
        rows: In the order of the check.
    """

    machine: str
    rows: list[CheckRow] = field(default_factory=list)

    @property
    def failed(self) -> list[CheckRow]:
        """The rows that say FAIL."""
        return [row for row in self.rows if row.verdict == "FAIL"]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return dict(machine=self.machine, rows=[row.as_dict() for row in self.rows])


def run_check(
    dry: bool, parts: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None
) -> CheckReport:
    """Check the first GPU, or go through the same on a CPU.

    Args:
        dry: On a CPU, at small sizes.
        parts: Keys of `PARTS`; all by default.
        tell: Gets a line as each part begins, for minutes pass without one.

    Returns:
        The report. A part that fails as a whole, ends its process or uses up its seconds is a row.
    """
    rows: list[CheckRow] = []
    names = list(parts or PARTS)
    with tempfile.TemporaryDirectory() as folder:
        worker = None
        try:
            for number, name in enumerate(names, 1):
                function, seconds = PARTS[name]
                limit = "" if dry else f", at most {seconds} s"
                tell(f"[{number}/{len(names)}] {name}{limit}")
                # The part of speed has processes of its own.
                worker = worker or Worker(_serve, "cpu" if dry else "cuda", folder, daemon=False)
                found = _run_part(worker, name, function, None if dry else seconds)
                rows += found
                if any(row.verdict == "FAIL" for row in found):
                    worker.stop()
                    worker = None
        finally:
            if worker:
                worker.stop()
    return CheckReport(_describe_machine(dry), rows)


def _run_part(
    worker: Worker, name: str, function: Callable[[GpuCheck], None], seconds: int | None
) -> list[CheckRow]:
    """Return the rows of a part; what it found before it was lost is among them."""
    rows: list[CheckRow] = []
    check = GpuCheck("", Path(), rows.append)
    check.part, start = name, time.perf_counter()
    try:
        row = worker.ask((name, function), seconds)
        while row is not None:
            rows.append(row)
            left = None if seconds is None else start + seconds - time.perf_counter()
            row = worker.answer(left)
    except TimeoutError:
        check.add("the whole part", False, error=f"the {seconds} seconds of it are used up")
    except RuntimeError as error:
        check.add("the whole part", False, error=str(error))
    check.add("seconds", None, s=time.perf_counter() - start)
    return rows


def _serve(connection: Connection, device: str, folder: str) -> None:
    """Run the parts that are asked for: send each row as it is found, and None at the end."""
    warnings.simplefilter("ignore")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the table alone is on standard output
    MMLogger.get_instance("hordet", log_level="ERROR")
    check = GpuCheck(device, Path(folder), connection.send)
    while True:
        check.part, function = connection.recv()
        try:
            function(check)
        except Exception as error:
            check.add("the whole part", False, error=f"{type(error).__name__}: {error}")
        connection.send(None)


def _describe_machine(dry: bool) -> str:
    if dry:
        return f"dry run on a CPU, torch {torch.__version__}: nothing here is about a GPU"
    cudnn = torch.backends.cudnn.version()
    name = torch.cuda.get_device_name()
    return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"


def format_check_table(report: CheckReport) -> str:
    """Return a table in Markdown, under the machine; what failed comes again below."""
    table: list[Sequence[str]] = [["part", "what", "verdict", "numbers"], ["---"] * 4]
    table += [[row.part, row.name, row.verdict, row.describe()] for row in report.rows]
    counts = [f"{len(report.failed)} FAIL"]
    for verdict in ("ok", "measured", "not run"):
        counts.append(f"{sum(row.verdict == verdict for row in report.rows)} {verdict}")
    lines = [f"{report.machine}.", "", *format_table(*table), "", ", ".join(counts)]
    lines += [f"FAIL {row.part}: {row.name}: {row.describe()}" for row in report.failed]
    return "\n".join(lines) + "\n"
