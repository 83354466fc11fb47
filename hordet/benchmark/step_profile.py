"""Where the time of a training step goes: by part of the model and by operator."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from hordet.benchmark.candidates import Candidate, build_candidate, read_candidate_config
from hordet.benchmark.pipeline import make_loading, make_training_run
from hordet.benchmark.roofline import measure_roofline, time_call
from hordet.benchmark.speed import SpeedSettings
from hordet.benchmark.table import TableRow, format_table

# Marks a part of the model among the profiler's events.
MARK = "hordet.part "
# torch's own marks.
_NODE, _OPTIMIZER = "autograd::engine::evaluate_function: ", "Optimizer."
TARGETS, OPTIMIZER, ELSEWHERE, BETWEEN = "targets", "optimizer", "elsewhere", "between operators"
# What heads of mmdet and mmseg do beside their `forward`, and what assigns truth to predictions.
_METHODS = ("loss", "loss_and_predict", "loss_and_target", "loss_by_feat", "predict_by_feat")
_TARGETS = ("get_targets", "assign", "sample")
# Which of torch's operators the flop counter's are.
_COUNTED = {"aten::conv2d": "convolution", "ConvolutionBackward0": "convolution_backward"}
MOST_OPERATORS = 20


@dataclass(frozen=True)
class ProfileRow(TableRow):
    """A part of the model, or an operator.

    Attributes:
        name: Name of the module, or of the operator (of its node, in the backward pass).
        forward: Seconds of processor time of the forward pass.
        backward: Seconds of processor time of the backward pass.
        calls: Number of operators that were called.
        flops: Operations of convolutions and matrix products: of a part in its forward pass, of
            an operator in all; 0 if not known.
    """

    name: str
    forward: float
    backward: float
    calls: int
    flops: int


@dataclass(frozen=True)
class StepProfile:
    """A training step, profiled.

    Attributes:
        candidate: What was profiled.
        seconds: Median seconds of a step by the clock, without the profiler.
        profiled: Processor seconds of a step with it, which makes each operator slower.
        loading: Median seconds to load the images of a batch in one process; loaders do so in
            others, beside the steps.
        flops: Operations of convolutions and matrix products in a step.
        peak: Operations per second of the machine's fastest matrix product.
        parts: By part of the model, the longest first.
        operators: By operator, the longest first.
    """

    candidate: str
    seconds: float
    profiled: float
    loading: float
    flops: int
    peak: float
    parts: list[ProfileRow]
    operators: list[ProfileRow]

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        return asdict(self)


def profile_step(candidate: Candidate, task: SpeedSettings, repeats: int = 5) -> StepProfile:
    """Profile the training step of a config, in this process.

    Args:
        candidate: A config in one form and dtype.
        task: Batch, threads, data and options.
        repeats: Steps that are timed by the clock, and steps that are profiled.

    Returns:
        Numbers of one step: means over the profiled ones.
    """
    torch.set_num_threads(task.threads)
    cfg = read_candidate_config(candidate, task.options, task.data_root)
    model: Any = build_candidate(candidate, cfg, task.naive_file).train()
    autocast = partial(candidate.autocast, "cpu")
    load = make_loading(cfg, task.batch)
    batch = load()
    run = make_training_run(model, cfg, batch, autocast)
    peak = measure_roofline(dtypes=(candidate.dtype,)).gemm[candidate.dtype]
    run()
    seconds = statistics.median(time_call(run, "cpu")[0] for _ in range(repeats))
    with FlopCounterMode(display=False) as counter:
        run()
    loading = statistics.median(time_call(load, "cpu")[0] for _ in range(repeats))
    data = model.data_preprocessor(batch, training=True)
    flops: dict[str, int] = {}
    with torch.no_grad(), autocast(), mark_parts(model, partial(_count_part, flops)):
        model(**data, mode="loss")
    with mark_parts(model), profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            run()
    by_operator = counter.get_flop_counts()["Global"]
    counted = {str(operator).removeprefix("aten."): n for operator, n in by_operator.items()}
    flops |= {name: counted.get(operator, 0) for name, operator in _COUNTED.items()}
    parts, operators = gather_times(profiler.events(), repeats, flops)
    return StepProfile(
        candidate=str(candidate),
        seconds=seconds,
        profiled=sum(row.forward + row.backward for row in parts),
        loading=loading,
        flops=counter.get_total_flops(),
        peak=peak,
        parts=parts,
        operators=operators,
    )


def _mark_part(name: str) -> AbstractContextManager[Any]:
    """Return a context whose events belong to a part."""
    return record_function(MARK + name)


@contextmanager
def _count_part(flops: dict[str, int], name: str) -> Iterator[None]:
    """Count the operations of a part without those of parts that it calls.

    Args:
        flops: Takes them, by part.
        name: The part.
    """
    before = sum(flops.values())
    with FlopCounterMode(display=False) as counter:
        yield
    within = sum(flops.values()) - before
    flops[name] = flops.get(name, 0) + counter.get_total_flops() - within


@contextmanager
def mark_parts(
    model: nn.Module, enter: Callable[[str], AbstractContextManager[Any]] = _mark_part
) -> Iterator[list[str]]:
    """Mark the parts of a model among the profiler's events, while the context lasts.

    Parts are the children of the model, and those of a head that has heads, such as RoI heads. What
    assigns truth to predictions is a part of its own.

    Args:
        model: A detector of mmdet or segmentor of mmseg.
        enter: Makes the context in which a part of this name runs.

    Yields:
        The names of the parts.
    """
    parts = dict(model.named_children())
    for name, child in list(parts.items()):
        if any(hasattr(each, "loss") or hasattr(each, "roi_layers") for each in child.children()):
            parts |= {f"{name}.{key}": value for key, value in child.named_children()}
    changed: list[tuple[Any, str]] = []

    def mark(owner: Any, method: str, name: str) -> None:
        if not callable(getattr(owner, method, None)) or method in vars(owner):
            return
        setattr(owner, method, _within(partial(enter, name), getattr(owner, method)))
        changed.append((owner, method))

    for name, part in parts.items():
        for method in ("forward", *_METHODS):
            mark(part, method, name)
        helpers = [getattr(part, key, None) for key in dir(part) if key.endswith(("gner", "pler"))]
        for owner in (part, *filter(None, helpers)):
            for method in _TARGETS:
                mark(owner, method, TARGETS)
    try:
        yield list(parts)
    finally:
        for owner, method in changed:
            delattr(owner, method)


def _within(
    enter: Callable[[], AbstractContextManager[Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    def marked(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return function(*args, **kwargs)

    return marked


def gather_times(
    events: Any, steps: int, flops: dict[str, int]
) -> tuple[list[ProfileRow], list[ProfileRow]]:
    """Sum the profiler's events by part and by operator.

    An operator of the backward pass belongs to the part whose operator has its sequence number.

    Args:
        events: `torch.profiler.profile.events()` of a run within `mark_parts`.
        steps: Number of steps in the run.
        flops: Operations of a step by part, and by name of operator.

    Returns:
        Rows of the parts and rows of the operators, the longest first, for one step.
    """
    places: dict[int, tuple[str, bool, str]] = {}  # part, whether backward, operator
    part_of_sequence: dict[int, str] = {}

    def place(event: Any) -> tuple[str, bool, str]:
        if event.id in places:
            return places[event.id]
        parent = event.cpu_parent
        part, backward, operator = place(parent) if parent is not None else (ELSEWHERE, False, "")
        if event.name.startswith(MARK):
            part, operator = event.name.removeprefix(MARK), ""
        elif event.name.startswith(_OPTIMIZER):
            part, operator = OPTIMIZER, ""
        elif event.name.startswith(_NODE):
            part = part_of_sequence.get(event.sequence_nr, ELSEWHERE)
            backward, operator = True, event.name.removeprefix(_NODE)
        elif not operator:
            operator = event.name
        if not backward and event.sequence_nr >= 0:
            part_of_sequence[event.sequence_nr] = part
        places[event.id] = part, backward, operator
        return places[event.id]

    by_part, by_operator = _Sums(), _Sums()
    for event in sorted(events, key=lambda each: each.time_range.start):
        part, backward, operator = place(event)
        outermost = event.cpu_parent is None or place(event.cpu_parent)[2] != operator
        seconds = event.self_cpu_time_total / 1e6
        for sums, name in ((by_part, part), (by_operator, operator or BETWEEN)):
            sums.seconds[name][backward] += seconds
            sums.calls[name] += bool(operator) and outermost
    return by_part.make_rows(steps, flops), by_operator.make_rows(steps, flops)


class _Sums:
    """Seconds (forward, backward) and calls by name, over all steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.calls: Counter[str] = Counter()

    def make_rows(self, steps: int, flops: dict[str, int]) -> list[ProfileRow]:
        """Return a row for each name, of one step, the longest first."""
        rows = [
            ProfileRow(
                name,
                forward / steps,
                backward / steps,
                round(self.calls[name] / steps),
                flops.get(name, 0),
            )
            for name, (forward, backward) in self.seconds.items()
        ]
        return sorted(rows, key=lambda row: -(row.forward + row.backward))


def format_profile(found: StepProfile) -> str:
    """Return two tables in Markdown, the parts and the operators, with a line above them."""
    ideal = found.flops / found.peak
    lines = [
        f"{found.candidate}: a step takes {found.seconds * 1e3:.0f} ms, its convolutions and "
        f"matrix products {ideal * 1e3:.0f} ms at the machine's peak of {found.peak / 1e9:.0f} "
        f"GFLOP/s ({ideal / found.seconds:.0%}). Loading its images takes "
        f"{found.loading * 1e3:.0f} ms in one process. With the profiler the step takes "
        f"{found.profiled * 1e3:.0f} ms of processor time, which is shared out here:",
        "",
    ]
    tables = (
        ("part", "forward GFLOP", found.parts),
        ("operator", "GFLOP", found.operators[:MOST_OPERATORS]),
    )
    for word, gflop, rows in tables:
        header = (word, "forward ms", "backward ms", "share", "calls", gflop, "ms at the peak")
        cells = [
            (
                row.name,
                f"{row.forward * 1e3:.1f}",
                f"{row.backward * 1e3:.1f}",
                f"{(row.forward + row.backward) / found.profiled:.0%}",
                str(row.calls),
                f"{row.flops / 1e9:.2f}" if row.flops else "",
                f"{row.flops / found.peak * 1e3:.1f}" if row.flops else "",
            )
            for row in rows
        ]
        rule = ("---", *["---:"] * (len(header) - 1))
        lines += [*format_table(header, rule, *cells), ""]
    return "\n".join(lines)
