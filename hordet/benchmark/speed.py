"""Timing candidates against one another and against the machine.

Each candidate lives in a process of its own, with the allocator that it asks for and a peak memory
of its own; they take turns, one repetition each, so that a busy neighbor slows all of them alike
and the ratio of medians stands.
"""

import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from hordet.benchmark.pipeline import make_test_run, make_training_run
from hordet.benchmark.roofline import Roofline, measure_roofline, merge_rooflines, time_call


@dataclass(frozen=True)
class SpeedSettings:
    """What every candidate does.

    Attributes:
        kind: 'forward'; 'training': forward, a loss of all outputs and backward of a component, or
            a step of a config's own training, optimizer and all; 'pipeline': a config's test, from
            files to encoded predictions.
        batch: Images at once, of a component or in a training step.
        threads: Of torch.
        device: 'cpu' or 'cuda'.
        images: Of the test data, one by one, for 'pipeline'.
        data_root: Of a config's data, in place of its own.
        options: Dotted keys that override a config's.
        naive_file: The published equations; see `candidates.model_of`.
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
    def of(cls, arguments: Any, options: dict[str, Any], naive_file: Path) -> "SpeedSettings":
        """Make one of the arguments that `hordet.cli.arguments.speed_arguments` describes."""
        names = ("kind", "threads", "batch", "images", "device", "data_root")
        chosen = {name: getattr(arguments, name) for name in names}
        return cls(**chosen, options=options, naive_file=naive_file)


@dataclass(frozen=True)
class SpeedRow:
    """One candidate's figures.

    Attributes:
        candidate: `NAME:FORM:DTYPE`.
        seconds: Of each repetition, by the clock.
        cpu_seconds: The same of processors, summed over threads.
        flops: Of convolutions and matrix products in one repetition, gradients included; 0 where
            the pipeline hides them.
        peak_memory: Bytes in use at the highest point of a repetition, above those before it.
        fraction: Of the dtype's matrix-product peak a second of one processor that those flops in
            the median of `cpu_seconds` are.
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
        """Median seconds of processors of a repetition."""
        return statistics.median(self.cpu_seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def as_dict(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        return {**asdict(self), "median": self.median, "spread": self.spread}


def compare(
    candidates: Sequence[Candidate], task: SpeedSettings, repeats: int = 15
) -> tuple[list[SpeedRow], Roofline]:
    """Time candidates in turns, and measure the machine's limits before and after them.

    Args:
        candidates: Which.
        task: What they do.
        repeats: Turns of each.
    """
    torch.set_num_threads(task.threads)
    dtypes = tuple(sorted({candidate.dtype for candidate in candidates}, reverse=True))
    before = measure_roofline(task.device, dtypes)
    workers = [_Worker(candidate, task) for candidate in candidates]
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


class _Worker:
    """A process that builds a candidate and runs it when asked."""

    def __init__(self, candidate: Candidate, task: SpeedSettings) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # torch reads this once, when it first allocates.
        os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(candidate.form != "naive-malloc"))
        self.process = context.Process(target=_serve, args=(theirs, candidate, task), daemon=True)
        self.process.start()

    def ask(self, question: str) -> Any:
        """Send a question and wait for its answer."""
        self.connection.send(question)
        return self.answer()

    def answer(self) -> Any:
        """Wait for an answer.

        Raises:
            RuntimeError: The process failed; with its error.
        """
        try:
            answer = self.connection.recv()
        except EOFError as error:
            raise RuntimeError("a candidate's process ended, perhaps for lack of memory") from error
        if isinstance(answer, Exception):
            raise RuntimeError(f"a candidate failed: {answer}") from answer
        return answer

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, candidate: Candidate, task: SpeedSettings) -> None:
    """Answer questions about one candidate; the first answer is its flops, once it is warm."""
    try:
        torch.set_num_threads(task.threads)
        run = _runner(candidate, task)
        run()
        flops = 0 if task.kind == "pipeline" else _flops(candidate, task)
        run()
        connection.send(flops)
        while True:
            if connection.recv() == "run":
                connection.send(time_call(run, task.device))
            else:
                connection.send(measure_peak_memory(run, task.device))
    except Exception as error:
        connection.send(RuntimeError(f"{candidate}: {type(error).__name__}: {error}"))


def _flops(candidate: Candidate, task: SpeedSettings) -> int:
    """Count the operations of one repetition of the eager model: the work is the same in each form.

    torch's counter takes the weight gradient of its own depthwise convolution, which the naive form
    uses, for a dense one, and does not look into compiled code.
    """
    run = _runner(replace(candidate, form="eager"), task)
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _runner(candidate: Candidate, task: SpeedSettings) -> Callable[[], None]:
    """Return the function that is timed."""
    cfg = None
    if candidate.name not in COMPONENTS:
        cfg = read_candidate_config(candidate, task.options, task.data_root)
    model = build_candidate(candidate, cfg, task.naive_file).to(task.device)
    if cfg is not None:
        autocast = partial(candidate.autocast, task.device)
        if task.kind == "training":
            return make_training_run(model.train(), cfg, task.batch, autocast)
        return make_test_run(model.eval(), cfg, task.images, autocast)
    x = _to(make_input(candidate, task.batch), task.device)
    model.train(task.kind == "training")
    if task.kind == "forward":

        def forward() -> None:
            with torch.no_grad(), candidate.autocast(task.device):
                model(x)

        return forward
    if isinstance(x, list):  # a neck hands a gradient on to the backbone
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


def _to(x: Any, device: str) -> Any:
    return [level.to(device) for level in x] if isinstance(x, list) else x.to(device)
