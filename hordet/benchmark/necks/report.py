"""The neck study as a table: mean and spread over the seeds, and costs."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hordet.benchmark.necks.plan import (
    NECKS,
    SEEDS,
    SETTINGS,
    TRIALS,
    TRIED_RATES,
    get_rate,
    list_trainings,
    name_comparison,
)
from hordet.benchmark.necks.results import StudyResults, read_training
from hordet.benchmark.table import TableRow, format_table

NOTE = """\
*Measured here, small data.* Every neck has the same budget on a data set, and every training has
one thread. The trainings use the configs of this repository with another neck and with this budget:

{budget}

How to read the tables:

- **Rate** multiplies the learning rate of the neck's fusions (`custom_keys` of layer decay). FPN
  and HorFPN-7x7 have the better of two, 3 and 6, on nuclei (EfficientNet-Lite0) and on shapes;
  CamVid and nuclei with HorNet-nano take that of nuclei. The last tables show the trials with seed
  {seed}; a neck with one number there was not tried at another rate. Operators of
  [neighbors](neighbours.md) have FPN's rate, and two seeds.
- **Chosen on the same images:** rates, start, skip and kernel were chosen on these validation
  images and partly on these seeds, most of all seed {seed}. HorFPN had more such trials than FPN.
  The intervals count neither this nor the number of comparisons.
- **Accuracy** is the mean ± standard deviation over the seeds. **Difference** is the mean of the
  differences seed by seed, with its 95 % interval (Student's t) in brackets. An interval that holds
  0 says that the seeds cannot tell the two apart.
- **Backbones:** EfficientNet-Lite0 starts from ImageNet weights, HorNet-nano from scratch.
- **Necks** have five levels of 64 channels with batch norm. On CamVid all of them have one simple
  head (`hordet.ESegHead`), because UperNet's heads contain an FPN. The rows UPerHead and
  HorUPerHead are UperNet's heads without a neck.
- **Parameters, multiply-adds** (convolutions and matrix products, + FFT) **and milliseconds** are
  of backbone and neck, on CamVid with the head, for one image. {timing}
"""
TIMED = """\
Milliseconds
  are medians of {repeats} turns of all models, ± half the distance between the quartiles, on
  {threads} threads of {processor}, torch {torch}."""
NOT_TIMED = "They are\n  not measured yet: `hordet benchmark necks --costs`."
PLOT = "![accuracy over milliseconds, a panel a data set and backbone]({})"
HEADER = ("", "rate", "seeds", "", "difference", "to", "parameters, M", "multiply-adds, G", "ms")
RULE = ("---", "---:", "---:", "---:", "---:", "---", "---:", "---:", "---:")


@dataclass(frozen=True)
class NeckRow(TableRow):
    """The accuracy and cost of one neck at one rate on one data set and backbone.

    Attributes:
        dataset: A key of `SETTINGS`.
        backbone: Name of the backbone.
        neck: Name of the neck.
        rate: What multiplies the learning rate of its fusions.
        metric: The metric of the accuracy.
        accuracy: Accuracy by seed, from 0 to 1.
        difference: Difference to the neck that it is compared with, by seed, if both are known.
        cost: Its row of `hordet.benchmark.necks.costs.measure_costs`; empty if not measured.
    """

    dataset: str
    backbone: str
    neck: str
    rate: float
    metric: str
    accuracy: dict[int, float]
    difference: dict[int, float]
    cost: dict[str, Any]

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return statistics.fmean(self.accuracy.values())

    @property
    def deviation(self) -> float:
        """Standard deviation of the accuracy; 0 for one seed."""
        return _compute_deviation(self.accuracy.values())

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers of the row, for JSON."""
        return {**super().as_dict(), "mean": self.mean, "deviation": self.deviation}


def _compute_deviation(values: Iterable[float]) -> float:
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else 0.0


def build_rows(results: StudyResults) -> list[NeckRow]:
    """Return a row for each variant with at least one training, by data set and backbone."""
    found = {read_training(record): record["metrics"] for record in results.trainings}
    costs = {(row["dataset"], row["backbone"], row["neck"]): row for row in results.costs}
    accuracy: dict[tuple[str, str, str, float], dict[int, float]] = {}
    for training in list_trainings():
        if training in found:
            of_seed = accuracy.setdefault(training.variant, {})
            of_seed[training.seed] = found[training][SETTINGS[training.dataset].metric]
    rows = []
    for variant, of_seed in accuracy.items():
        dataset, backbone, neck, _ = variant
        to = name_comparison(neck)
        other = accuracy.get((dataset, backbone, to, get_rate(to, dataset)), {})
        difference = {seed: of_seed[seed] - other[seed] for seed in of_seed if seed in other}
        metric = SETTINGS[dataset].metric
        rows.append(NeckRow(*variant, metric, of_seed, difference, costs.get(variant[:3], {})))
    return sorted(rows, key=lambda row: ([*SETTINGS].index(row.dataset), row.backbone))


def format_neck_table(
    rows: Sequence[NeckRow], results: StudyResults, plot: str | None = None
) -> str:
    """Return the table as Markdown, one section for each data set and backbone.

    Args:
        rows: From `build_rows`.
        results: The results from which the rows were built.
        plot: The image of `plots.draw_neck_plot`, as the page links to it; None shows none.
    """
    timing = TIMED.format(**results.timing) if results.timing else NOT_TIMED
    budget = "\n".join(f"- {name}: {words}" for name, words in results.budget.items())
    lines = [NOTE.format(budget=budget, timing=timing, seed=SEEDS[0])]
    if plot:
        lines += [PLOT.format(plot), ""]
    chosen = [row for row in rows if row.rate == get_rate(row.neck, row.dataset)]
    for (dataset, backbone), group in groupby(chosen, key=lambda row: (row.dataset, row.backbone)):
        header = list(HEADER)
        header[0], header[3] = "neck or head", SETTINGS[dataset].metric
        lines += [
            f"## {dataset}, {backbone}",
            "",
            *format_table(header, RULE, *map(_format_cells, group)),
            "",
        ]
    for dataset, backbone in TRIALS:
        lines += _format_trials(rows, dataset, backbone)
    return "\n".join(lines)


def _format_trials(rows: Sequence[NeckRow], dataset: str, backbone: str) -> list[str]:
    """Return the table of the rates tried on a data set: a line a neck, a column a rate."""
    found = {
        (row.neck, row.rate): row.accuracy[SEEDS[0]]
        for row in rows
        if (row.dataset, row.backbone) == (dataset, backbone)
        and row.neck in NECKS
        and SEEDS[0] in row.accuracy
    }
    if not found:
        return []
    header = ("neck", *(f"rate {rate:g}" for rate in TRIED_RATES))
    lines = []
    for neck in NECKS:
        cells = [f"{found[neck, r]:.3f}" if (neck, r) in found else "" for r in TRIED_RATES]
        if any(cells):
            lines.append([neck, *cells])
    metric = SETTINGS[dataset].metric
    title = f"## Learning rates: {dataset}, {backbone}, seed {SEEDS[0]}, {metric}"
    rule = ("---", *["---:"] * len(TRIED_RATES))
    return [title, "", *format_table(header, rule, *lines), ""]


def _format_cells(row: NeckRow) -> list[str]:
    """Return the cells of a row."""
    difference, to = "", name_comparison(row.neck)
    if row.difference and to != row.neck:
        difference = format_interval(row.difference.values())
    cells = [row.neck, f"{row.rate:g}", str(len(row.accuracy))]
    cells.append(_format_mean(f"{row.mean:.3f}", row.accuracy.values()))
    cells += [difference, to if difference else ""]
    cost = row.cost
    if not cost:
        return [*cells, "", "", ""]
    fft = f" + {cost['fft'] / 1e9:.2f}" if cost["fft"] else ""
    cells.append(f"{cost['parameters'] / 1e6:.2f}")
    cells.append(f"{cost['multiply_adds'] / 1e9:.2f}{fft}")
    return [*cells, f"{cost['milliseconds']:.1f} ± {cost['spread']:.1f}"]


def format_interval(differences: Iterable[float]) -> str:
    """Return the mean of paired differences and its 95 % interval, as '+0.010 (-0.002, +0.022)'.

    The interval is Student's: mean ± t(0.975, n - 1) s / sqrt(n). One difference has none.

    Args:
        differences: One a seed.
    """
    from scipy.stats import t

    values = list(differences)
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.3f} ({mean - half:+.3f}, {mean + half:+.3f})"


def _format_mean(mean: str, values: Iterable[float]) -> str:
    """Return a mean with the standard deviation of its values, if there are several."""
    values = list(values)
    return f"{mean} ± {_compute_deviation(values):.3f}" if len(values) > 1 else mean
