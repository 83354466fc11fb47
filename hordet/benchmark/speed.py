"""Times candidates and compares them with each other and with the machine's limits.

Each candidate has a process of its own, with its own allocator and peak memory. The processes take
turns, one repetition each, so other programs on the machine slow down all candidates equally and
the ratios of the medians remain valid.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hordet.benchmark.candidates import (
    COMPONENTS,
    Candidate,
    Pass,
    build_candidate,
    make_input,
    read_candidate_config,
)
from hordet.benchmark.memory import measure_peak_memory
from hordet.benchmark.pipeline import make_loading, make_test_run, make_training_run
from hordet.benchmark.roofline import (
    Roofline,
    compute_spread,
    measure_roofline,
    merge_rooflines,
    time_call,
)
from hordet.benchmark.table import TableRow
from hordet.benchmark.worker import Worker
from hordet.engine.amp import use_tf32


@dataclass(frozen=True)
class SpeedSettings:
    """What is timed of every candidate.

    Attributes:
        kind: 'forward'; 'training' (for a component: forward, a loss of all outputs and backward;
            for a config: a step of its training with the optimizer); or 'pipeline' (a config's
            test, from files to encoded predictions).
        batch: Images in a batch, of a component or in a training step.
        threads: Number of threads of torch.
        device: 'cpu' or 'cuda'.
        images: Number of test images, one by one, for 'pipeline'.
        data_root: Folder of a config's data, in place of the config's.
        options: Dotted keys that override a config's.
        naive_file: File of the published equations; see `candidates.build_candidate`.
    """

    kind: Pass = "forward"
    batch: int = 1
    threads: int = 2
    device: str = "cpu"
    images: int = 2
    data_root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    naive_file: Path | None = None

    @classmethod
    def from_arguments(
        cls, arguments: Any, options: dict[str, Any], naive_file: Path
    ) -> "SpeedSettings":
        """Make the settings from the arguments of `hordet benchmark speed`."""
        names = ("kind", "threads", "batch", "images", "device", "data_root")
        chosen = {name: getattr(arguments, name) for name in names}
        return cls(**chosen, options=options, naive_file=naive_file)


@dataclass(frozen=True)
class SpeedRow(TableRow):
    """The measurements of one candidate.

    Attributes:
        candidate: `NAME:FORM:DTYPE`.
        seconds: Seconds of each repetition, by the clock.
        cpu_seconds: Seconds of processor time of each repetition, summed over threads.
        flops: Operations of convolutions and matrix products in one repetition, with gradients; 0
            for 'pipeline', where they cannot be counted.
        peak_memory: Peak memory of a repetition in bytes, above the memory before it.
        fraction: The flops per second of processor time (median), as a share of the machine's
            fastest matrix product in this dtype.
    """

    candidate: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    flops: int
    peak_memory: int
    fraction: float

    @property
    def median(self) -> float:
        """Median seconds of a repetition."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median seconds of processor time of a repetition."""
        return statistics.median(self.cpu_seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median; 0 for one value."""
        if len(self.seconds) < 2:
            return 0.0
        return compute_spread(self.seconds) / self.median

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers of the row, for JSON."""
        return {**super().as_dict(), "median": self.median, "spread": self.spread}


def time_candidates(
    candidates: Sequence[Candidate], task: SpeedSettings, repeats: int = 15
) -> tuple[list[SpeedRow], Roofline]:
    """Time candidates in turns, and measure the machine's limits before and after.

    Args:
        candidates: The candidates.
        task: What is timed.
        repeats: Number of turns.

    Returns:
        A row for each candidate, and the limits.

    Raises:
        ValueError: A candidate is of TF32, and the device is no GPU.
    """
    if task.device != "cuda" and any(candidate.dtype == "tf32" for candidate in candidates):
        raise ValueError("tf32 is a precision of GPUs: give --device cuda, or take float32 here.")
    torch.set_num_threads(task.threads)
    dtypes = tuple(sorted({candidate.dtype for candidate in candidates}, reverse=True))
    before = measure_roofline(task.device, dtypes)
    workers = [_start_worker(candidate, task) for candidate in candidates]
    try:
        facts = [worker.answer() for worker in workers]  # built and warm
        turns = [[worker.ask("run") for worker in workers] for _ in range(repeats)]
        peaks = [worker.ask("memory") for worker in workers]
    finally:
        for worker in workers:
            worker.stop()
    after = measure_roofline(task.device, dtypes)
    roofline = merge_rooflines(before, after)
    rows = []
    for i, candidate in enumerate(candidates):
        wall, cpu = zip(*(turn[i] for turn in turns), strict=True)
        ideal = facts[i] / roofline.gemm_cpu[candidate.dtype]
        fraction = ideal / statistics.median(cpu)
        rows.append(SpeedRow(str(candidate), wall, cpu, facts[i], peaks[i], fraction))
    return rows, roofline


def _start_worker(candidate: Candidate, task: SpeedSettings) -> Worker:
    """Start the process of a candidate."""
    # torch reads this variable once, at its first allocation.
    os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(candidate.form != "naive-malloc"))
    return Worker(_serve, candidate, task)


def _serve(connection: Connection, candidate: Candidate, task: SpeedSettings) -> None:
    """Run a candidate on request; its flops are sent first, after two runs to warm up."""
    try:
        torch.set_num_threads(task.threads)
        with use_tf32(candidate.dtype == "tf32"):  # the backward pass, too
            run = _make_run(candidate, task)
            run()
            flops = 0 if task.kind == "pipeline" else _count_flops(candidate, task)
            run()
            connection.send(flops)
            while True:
                if connection.recv() == "run":
                    connection.send(time_call(run, task.device))
                else:
                    connection.send(measure_peak_memory(run, task.device))
    except Exception as error:
        connection.send(RuntimeError(f"{candidate}: {type(error).__name__}: {error}"))


def _count_flops(candidate: Candidate, task: SpeedSettings) -> int:
    """Count the operations of one repetition of the eager form, which are those of every form.

    Other forms cannot be counted: torch's counter does not see into compiled code, and counts the
    weight gradient of a depthwise convolution, as in the naive form, as if it were dense.
    """
    run = _make_run(replace(candidate, form="eager"), task)
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _make_run(candidate: Candidate, task: SpeedSettings) -> Callable[[], None]:
    """Return the function to time."""
    cfg = None
    if candidate.name not in COMPONENTS:
        cfg = read_candidate_config(candidate, task.options, task.data_root)
    model = build_candidate(candidate, cfg, task.naive_file).to(task.device)
    if cfg is not None:
        autocast = partial(candidate.autocast, task.device)
        if task.kind == "training":
            batch = make_loading(cfg, task.batch)()
            return make_training_run(model.train(), cfg, batch, autocast)
        return make_test_run(model.eval(), cfg, task.images, autocast)
    x = _move_to(make_input(candidate, task.batch), task.device)
    model.train(task.kind == "training")
    if task.kind == "forward":

        def forward() -> None:
            with torch.no_grad(), candidate.autocast(task.device):
                model(x)

        return forward
    if isinstance(x, list):  # a neck passes gradients to the backbone
        x = [level.requires_grad_() for level in x]

    def training() -> None:
        with candidate.autocast(task.device):
            outs = model(x)
        outs = [outs] if isinstance(outs, Tensor) else outs
        torch.autograd.backward([out.float().mean() for out in outs])
        model.zero_grad()
        for level in x if isinstance(x, list) else []:
            level.grad = None

    return training


def _move_to(x: Any, device: str) -> Any:
    return [level.to(device) for level in x] if isinstance(x, list) else x.to(device)
