"""The measurements of `speed` as a table and as a plot."""

from collections.abc import Sequence
from pathlib import Path

from hordet.benchmark.roofline import Roofline
from hordet.benchmark.speed import SpeedRow, SpeedSettings
from hordet.benchmark.table import format_table

HEADER = (
    "candidate",
    "ms",
    "spread",
    "of the first",
    "CPU ms",
    "of the first",
    "peak MB",
    "GFLOP",
    "of the peak",
)


def format_speed_table(rows: Sequence[SpeedRow], roofline: Roofline, task: SpeedSettings) -> str:
    """Return a table in Markdown, with the machine's limits above it.

    Args:
        rows: The rows; the others are compared with the first.
        roofline: Measured in the same run.
        task: What was timed.
    """
    peaks = ", ".join(f"{name} {flops / 1e9:.0f} GFLOP/s" for name, flops in roofline.gemm.items())
    gpu = task.device == "cuda"
    if gpu:
        peaks += " (float32 and its convolutions without TF32, tf32 both with it)"
    alone = ", ".join(f"{flops / 1e9:.0f}" for flops in roofline.gemm_cpu.values())
    lines = [
        f"{task.kind}, batch {task.batch}, {task.device}, {task.threads} threads; matrix products "
        f"{peaks}; one processor's {alone}; copies {roofline.bandwidth / 1e9:.1f} GB/s.",
        "",
    ]
    table: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for row in rows:
        known = row.flops > 0
        table.append(
            [
                row.candidate,
                f"{row.median * 1e3:.1f}",
                f"{row.spread:.1%}",
                f"{row.median / rows[0].median:.2f}",
                f"{row.cpu_median * 1e3:.1f}",
                f"{row.cpu_median / rows[0].cpu_median:.2f}",
                f"{row.peak_memory / 2**20:.0f}",
                f"{row.flops / 1e9:.1f}" if known else "",
                f"{row.fraction:.0%}" if known else "",
            ]
        )
    return "\n".join([*lines, *format_table(*table)]) + "\n"


def draw_speed_plot(
    rows: Sequence[SpeedRow], roofline: Roofline, task: SpeedSettings, path: Path
) -> None:
    """Draw a bar for each candidate, and the time of its matrix products at the machine's limit.

    Args:
        rows: As for `format_speed_table`.
        roofline: As for `format_speed_table`.
        task: As for `format_speed_table`.
        path: A PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.45 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    names = [row.candidate for row in rows]
    medians = [row.median * 1e3 for row in rows]
    axes.barh(names, medians, xerr=[row.spread * m for row, m in zip(rows, medians, strict=True)])
    for i, row in enumerate(rows):
        if row.flops:
            ideal = row.flops / roofline.gemm[row.candidate.split(":")[-1]] * 1e3
            axes.plot([ideal] * 2, [i - 0.4, i + 0.4], color="black")
    axes.invert_yaxis()
    axes.set_xlabel("median milliseconds; black: its matrix products at the machine's limit")
    axes.set_title(f"{task.kind}, batch {task.batch}, {task.threads} threads")
    figure.savefig(path, dpi=120)
