"""The report's plots: small figures that are legible on a phone."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hordet.evaluation.coco_eval import CocoScores
from hordet.evaluation.headline import HEADLINES, JUDGING_METRICS
from hordet.report.run_folder import RunFolder
from hordet.visualization.fonts import name_classes, plain_text, spell

COLORS = ("#1f5fa8", "#d1495b", "#2a9d58", "#8e5ea2", "#c77d0a", "#3a3a3a")
CLASSES_AT_MOST = 30


def embed_figure(figure: Figure, kind: str = "svg") -> str:
    """Return a figure as a data URL for an HTML image.

    Args:
        figure: The figure.
        kind: 'svg' or 'jpg'.
    """
    data = io.BytesIO()
    if kind == "jpg":
        figure.savefig(data, format=kind, dpi=110, pil_kwargs={"quality": 80})
    else:
        figure.savefig(data, format=kind)
    mime = {"svg": "image/svg+xml", "jpg": "image/jpeg"}[kind]
    return f"data:{mime};base64,{base64.b64encode(data.getvalue()).decode()}"


def _make_axes(title: str, x: str = "", y: str = "", height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _finish(figure: Figure, axes: Axes, names: int) -> str:
    if names > 1:
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set(text=spell(text.get_text()), **plain_text(text.get_text()))
    return embed_figure(figure)


def plot_training_curves(runs: Sequence[RunFolder]) -> list[str]:
    """Draw loss, learning rate and gradient norm over iterations, one line for each run."""
    made = []
    for key, title, scale in (
        ("loss", "Training loss", "linear"),
        ("lr", "Learning rate", "linear"),
        ("grad_norm", "Gradient norm", "log"),
    ):
        if not any(run.get_curve(key)[0] for run in runs):
            continue
        figure, axes = _make_axes(title, "iteration")
        for run, color in zip(runs, _choose_colors(runs), strict=True):
            if run.get_curve(key)[0]:
                axes.plot(*run.get_curve(key), color=color, label=run.name, lw=1.5)
        axes.set_yscale(scale)
        made.append(_finish(figure, axes, len(runs)))
    return made


def plot_validation_curves(runs: Sequence[RunFolder]) -> list[str]:
    """Draw the metrics by which runs are judged over the validations, one line for each run."""
    made = []
    for key in JUDGING_METRICS:
        name, divisor = HEADLINES[key]
        if not any(run.get_metric(key)[0] for run in runs):
            continue
        figure, axes = _make_axes(f"{name} on validation", "epoch or iteration")
        for run, color in zip(runs, _choose_colors(runs), strict=True):
            steps, values = run.get_metric(key)
            if not steps:
                continue
            scaled = [value / divisor for value in values]
            axes.plot(steps, scaled, color=color, marker="o", ms=4, label=run.name)
        axes.set_ylim(0, 1)
        made.append(_finish(figure, axes, len(runs)))
    return made


def plot_precision_recall(scores: CocoScores, kind: str) -> str:
    """Draw precision over recall: the mean over classes at three overlaps."""
    name = {"bbox": "Boxes", "segm": "Masks"}[kind]
    figure, axes = _make_axes(f"{name}: precision and recall", "recall", "precision")
    recall = np.linspace(0, 1, 101)
    table = np.ma.masked_less(scores.precision[:, :, :, 0, -1], 0)
    for threshold, color in zip((0, 5, 8), COLORS, strict=False):
        mean = np.ma.filled(table[threshold].mean(axis=1), 0)
        axes.plot(recall, mean, color=color, label=f"overlap {0.5 + 0.05 * threshold:.2f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return _finish(figure, axes, 3)


def plot_error_bars(gains: dict[str, float]) -> str:
    """Draw the AP50 that correcting each kind of error would add."""
    figure, axes = _make_axes("AP50 that is lost to each kind of error", "AP50")
    names = list(gains)[::-1]
    bars = axes.barh(names, [gains[name] for name in names], color=COLORS[1])
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=9)
    axes.set_xlim(0, max(0.05, 1.2 * max(gains.values())))
    return embed_figure(figure)


def plot_confusion(matrix: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str]) -> str:
    """Draw a confusion matrix with each row divided by its sum.

    Args:
        matrix: Counts by true (row) and predicted (column) class; only the CLASSES_AT_MOST largest
            rows are drawn.
        rows: Names of the rows.
        columns: Names of the columns.
    """
    kept = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:CLASSES_AT_MOST])
    part = matrix[np.ix_(kept, kept)]
    share = part / np.maximum(matrix.sum(axis=1)[kept, None], 1)
    side = max(3.2, 0.34 * len(kept) + 1.2)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    across, down = ([name_classes(names)[i] for i in kept] for names in (columns, rows))
    axes.set_xticks(range(len(kept)), across, rotation=90, fontsize=8, **plain_text(*across))
    axes.set_yticks(range(len(kept)), down, fontsize=8, **plain_text(*down))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i, j in np.argwhere(share >= 0.005) if len(kept) <= 15 else ():
        shade = "white" if share[i, j] > 0.5 else "black"
        axes.text(j, i, f"{share[i, j]:.2f}", ha="center", va="center", fontsize=7, color=shade)
    return embed_figure(figure)


def _choose_colors(runs: Sequence[RunFolder]) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(len(runs))]
