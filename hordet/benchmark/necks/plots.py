"""The neck study as plots: accuracy over latency, and the neighbors of gnConv beside FPN."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hordet.benchmark.necks.plan import NECKS, NEIGHBORS, get_rate
from hordet.benchmark.necks.report import NeckRow
from hordet.errors import ConfigError

# What the neighbors are beside in their plot, and its color.
_BESIDE = {"FPN": "C0", "HorFPN-7x7": "C2"}


def draw_neck_plot(rows: Sequence[NeckRow], path: Path) -> None:
    """Draw accuracy over latency with both spreads, one panel for each data set and backbone.

    Args:
        rows: From `build_rows`; those of `NECKS` are drawn.
        path: A PNG file.

    Raises:
        ConfigError: No row has costs.
    """
    from matplotlib.figure import Figure

    rows = [
        row
        for row in rows
        if row.neck in NECKS and row.rate == get_rate(row.neck, row.dataset) and row.cost
    ]
    if not rows:
        raise ConfigError(
            "there is nothing to plot: no neck has both its accuracy and its costs; train with "
            "--jobs and measure with --costs first"
        )
    panels = [list(group) for _, group in groupby(rows, key=lambda r: (r.dataset, r.backbone))]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.5 * columns, 3 * lines + 0.5), layout="constrained")
    every_axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in every_axes[len(panels) :]:
        axes.remove()
    for axes, panel in zip(every_axes, panels, strict=False):
        for row in panel:
            color = f"C{[*NECKS].index(row.neck)}"
            x, y = row.cost["milliseconds"], row.mean
            spreads = dict(xerr=row.cost["spread"], yerr=row.deviation)
            axes.errorbar(x, y, **spreads, fmt="o", color=color, capsize=3, label=row.neck)
        axes.set_title(f"{panel[0].dataset}, {panel[0].backbone}")
        axes.set_xlabel("ms an image")
        axes.set_ylabel(panel[0].metric)
        axes.grid(alpha=0.3)
    handles: dict[str, Any] = {}
    for axes in every_axes[: len(panels)]:  # a panel may lack some necks
        shown, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, shown, strict=True))
    names = [name for name in NECKS if name in handles]
    shown = [handles[name] for name in names]
    figure.legend(shown, names, loc="outside lower center", ncols=min(5, len(names)))
    figure.savefig(path, dpi=80)


def draw_neighbor_plot(rows: Sequence[NeckRow], path: Path) -> None:
    """Draw the accuracy of the neighbors, FPN and HorFPN-7x7: a panel a data set, a line a fusion.

    A small dot is a seed, a large one their mean. FPN and HorFPN have more seeds; drawn are those
    that the neighbors have, too.

    Args:
        rows: From `build_rows`.
        path: A PNG file.

    Raises:
        ConfigError: No neighbor was trained.
    """
    from matplotlib.figure import Figure

    panels = []
    for _, group in groupby(rows, key=lambda row: (row.dataset, row.backbone)):
        panel = [row for row in group if row.rate == get_rate(row.neck, row.dataset)]
        if any(row.neck in NEIGHBORS for row in panel):
            panels.append([row for row in panel if row.neck in NEIGHBORS or row.neck in _BESIDE])
    if not panels:
        raise ConfigError(
            "there is nothing to plot: no neighbor was trained; train with --jobs first, such as "
            "hordet benchmark necks --jobs 2 'nuclei/efficientnet-lite0/se/*'"
        )
    height = 1.2 + 0.2 * max(map(len, panels))
    figure = Figure(figsize=(5 * len(panels), height), layout="constrained")
    seeds = {seed for panel in panels for r in panel if r.neck in NEIGHBORS for seed in r.accuracy}
    every_axes = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, panel in zip(every_axes, panels, strict=True):
        found = {r.neck: [v for seed, v in r.accuracy.items() if seed in seeds] for r in panel}
        means = {neck: sum(values) / len(values) for neck, values in found.items() if values}
        names = sorted(means, key=lambda neck: means[neck])
        for place, neck in enumerate(names):
            color = _BESIDE.get(neck, "C7")
            axes.plot(found[neck], [place] * len(found[neck]), ".", color=color, alpha=0.6)
            axes.plot(means[neck], place, "o", color=color)
            if neck in _BESIDE:
                axes.axvline(means[neck], color=color, alpha=0.4, linewidth=1)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_title(f"{panel[0].dataset}, {panel[0].backbone}")
        axes.set_xlabel(f"{panel[0].metric}, seeds {', '.join(map(str, sorted(seeds)))}")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)
