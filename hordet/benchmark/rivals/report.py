"""The face-off as a page and a plot: the metric over the minutes, and what a model costs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from hordet.benchmark.rivals.plan import OURS, RIVALS, SCRATCH, TASKS, WEIGHTS
from hordet.benchmark.rivals.results import TINY, RivalResults
from hordet.benchmark.table import TableRow, format_table
from hordet.errors import ConfigError

NOTE = """\
*Measured here, small data.* Every rival gets the same images, the same splits, the same {threads}
cores ({processor}, torch {torch}) and the same minutes.

- **Minutes** are wall clock from the first step of the training to the end of the last. Import,
  building the model and starting the loaders do not count, for anyone. There is no validation
  during a training; each model is evaluated once, at its end.
- **The schedule** fits itself to the minutes: the learning rate rises for 3 % of them and falls as
  a half cosine for the rest, by the time that is spent. All have this, in place of their own
  epochs, but `yolo26n-seg`, which has a setting of its own for time.
- **The rest of a recipe** (optimizer, rate, batch, augmentation, anchors) is each rival's own
  default, but for what the list below says. Images are resized to {sizes}.
- **One scorer**: pycocotools on the boxes and masks that a rival writes (100 detections an image),
  and hordet's mIoU on the label maps.
- **From weights** is the same ImageNet EfficientNet-Lite0 for all; **from scratch** is none.
- **ms** is the median of an image of the validation split, after its decoding, on {threads}
  threads. **Memory** is the peak resident memory of the process that trains.
- More than one seed: mean ± standard deviation.
{dry}
The rivals:

{rivals}
"""
DRY = "\n**These are dry runs of two steps: no number below means anything.**\n"
PLOT = "![metric over minutes, a panel a data set and start]({})"
STARTS = {WEIGHTS: "from weights", SCRATCH: "from scratch"}
NO_MACHINE = dict(threads=2, processor="not run yet", torch="?")


@dataclass(frozen=True)
class RivalRow(TableRow):
    """The runs of one rival with one start on one data set.

    Attributes:
        dataset: A key of `TASKS`.
        start: `WEIGHTS` or `SCRATCH`.
        rival: A key of `RIVALS`.
        metric: The metric of the accuracy.
        accuracy: Accuracy by minutes, from 0 to 1, of each seed.
        iterations: Steps by minutes, mean over the seeds.
        parameters: Number of parameters.
        milliseconds: Of an image, median over the runs.
        peak_memory: Highest of the runs, in bytes.
    """

    dataset: str
    start: str
    rival: str
    metric: str
    accuracy: dict[float, list[float]]
    iterations: dict[float, float]
    parameters: int
    milliseconds: float
    peak_memory: int

    def compute_mean(self, minutes: float) -> float:
        """Return the mean accuracy over the seeds."""
        return statistics.fmean(self.accuracy[minutes])


def build_rows(results: RivalResults) -> list[RivalRow]:
    """Return a row for each rival, start and data set that has results, in the plan's order."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in results.records:
        key = record["dataset"], record["start"], record["rival"]
        groups.setdefault(key, []).append(record)
    rows = []
    for dataset, task in TASKS.items():
        for start in STARTS:
            for rival in RIVALS:
                records = groups.get((dataset, start, rival), [])
                if records:
                    rows.append(_build_row(dataset, start, rival, task.metric, records))
    return rows


def _build_row(
    dataset: str, start: str, rival: str, metric: str, records: list[dict[str, Any]]
) -> RivalRow:
    """Return the row of some records."""
    by_minutes: dict[float, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: (record["minutes"], record["seed"])):
        by_minutes.setdefault(record["minutes"], []).append(record)
    return RivalRow(
        dataset,
        start,
        rival,
        metric,
        {key: [r["metrics"][metric] for r in group] for key, group in by_minutes.items()},
        {
            key: statistics.fmean(r["iterations"] for r in group)
            for key, group in by_minutes.items()
        },
        records[0]["parameters"],
        statistics.median(r["milliseconds"] for r in records),
        max(r["peak_memory"] for r in records),
    )


def format_rival_page(
    rows: Sequence[RivalRow], results: RivalResults, plot: str | None = None
) -> str:
    """Return the page as Markdown: how it was measured, a table a comparison, who leads, problems.

    Args:
        rows: From `build_rows`.
        results: The results from which the rows were built.
        plot: The image of `draw_rival_plot`, as the page links to it; None shows none.
    """
    lines = [
        NOTE.format(
            **(results.machine or NO_MACHINE),
            sizes=", ".join(
                f"{' x '.join(map(str, task.size))} ({name})" for name, task in TASKS.items()
            ),
            dry=DRY if results.kind == TINY else "",
            rivals="\n".join(f"- `{name}`: {rival.note}" for name, rival in RIVALS.items()),
        )
    ]
    if plot:
        lines += [PLOT.format(plot), ""]
    for (dataset, start), group in groupby(rows, key=lambda row: (row.dataset, row.start)):
        compared = list(group)
        minutes = sorted({length for row in compared for length in row.accuracy})
        header = ("rival", *(f"{m:g} min" for m in minutes), "steps", "parameters, M", "ms")
        rule = ("---", *["---:"] * (len(minutes) + 4))
        lines += [
            f"## {dataset}, {STARTS[start]}: {TASKS[dataset].metric}",
            "",
            *format_table(
                (*header, "memory, GiB"), rule, *(_format_cells(row, minutes) for row in compared)
            ),
            "",
        ]
        sentences = _compare(compared, minutes)
        lines += [*sentences, ""] if sentences else []
    if not rows:
        lines += ["*No run has results yet: `hordet benchmark rivals --jobs 1` makes them.*", ""]
    if results.problems:
        lines += ["## Runs without results", ""]
        lines += [f"- `{name}`: {problem}" for name, problem in results.problems.items()]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _format_cells(row: RivalRow, minutes: Sequence[float]) -> list[str]:
    """Return the cells of a row; steps are those of the longest training."""
    cells = [row.rival]
    for length in minutes:
        values = row.accuracy.get(length, [])
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):.3f}{spread}" if values else "")
    cells.append(f"{row.iterations[max(row.iterations)]:.0f}")
    cells += [f"{row.parameters / 1e6:.2f}", f"{row.milliseconds:.1f}"]
    return [*cells, f"{row.peak_memory / 2**30:.2f}"]


def _compare(rows: Sequence[RivalRow], minutes: Sequence[float]) -> list[str]:
    """Return a sentence a length: by how much hordet leads or trails the best rival."""
    ours = next((row for row in rows if row.rival == OURS), None)
    lines = []
    for length in minutes:
        others = [row for row in rows if row.rival != OURS and length in row.accuracy]
        if ours is None or length not in ours.accuracy or not others:
            continue
        best = max(others, key=lambda row: row.compute_mean(length))
        gap = ours.compute_mean(length) - best.compute_mean(length)
        verb = "leads" if gap > 0 else "trails"
        lines.append(f"- {length:g} minutes: hordet {verb} `{best.rival}` by {abs(gap):.3f}.")
    return lines


def draw_rival_plot(rows: Sequence[RivalRow], path: Path) -> None:
    """Draw the metric over the minutes, one panel for each data set and start.

    Args:
        rows: From `build_rows`.
        path: A PNG file.

    Raises:
        ConfigError: There is no row.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise ConfigError("there is nothing to plot: no run has results; run some with --jobs 1")
    panels = [list(group) for _, group in groupby(rows, key=lambda row: (row.dataset, row.start))]
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    every_axes = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, panel in zip(every_axes, panels, strict=True):
        for row in panel:
            color = f"C{[*RIVALS].index(row.rival)}"
            means = [row.compute_mean(length) for length in row.accuracy]
            width = 2.5 if row.rival == OURS else 1.2
            axes.plot([*row.accuracy], means, "o-", color=color, lw=width, label=row.rival)
            for length, values in row.accuracy.items():
                axes.plot([length] * len(values), values, ".", color=color, ms=4)
        axes.set_title(f"{panel[0].dataset}, {STARTS[panel[0].start]}")
        axes.set_xlabel("minutes of training")
        axes.set_ylabel(panel[0].metric)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=80)
