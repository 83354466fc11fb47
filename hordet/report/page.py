"""Computes what the page's template shows, and writes the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from hordet.config.load import load_config
from hordet.engine.prepare import locate_data
from hordet.errors import ConfigError
from hordet.evaluation.headline import HEADLINES, JUDGING_METRICS
from hordet.ops.files import write_whole
from hordet.report import plots
from hordet.report.predictions import RunPredictions, predict_validation_images
from hordet.report.run_folder import RunFolder, compare_settings, make_names_distinct, read_run
from hordet.visualization.drawing import draw_sheet

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass
class Section:
    """The section of one run on the page.

    Attributes:
        run: The run.
        verdicts: Sentences that answer the first questions on a run.
        plots: Descriptions and plots.
        errors: Kind, number and lost AP50 of each kind of error.
        table: Header and rows of the table of classes.
        sheets: Titles, and images with truth beside prediction.
        settings: Key, value of the base, and value of the run, where they differ.
        base: Name of the config or run with which the settings are compared.
    """

    run: RunFolder
    verdicts: list[str] = field(default_factory=list)
    plots: list[tuple[str, str]] = field(default_factory=list)
    errors: list[tuple[str, int, float]] = field(default_factory=list)
    table: tuple[list[str], list[list[str]]] | None = None
    sheets: list[tuple[str, list[str]]] = field(default_factory=list)
    settings: list[tuple[str, str, str]] = field(default_factory=list)
    base: str = ""


def write_report(folders: Sequence[str | Path], out: str | Path, predictions: bool = True) -> Path:
    """Write a self-contained page on one or several runs.

    Args:
        folders: Work folders.
        out: The page's file.
        predictions: Whether to run each run's checkpoint over its validation images.

    Returns:
        The file.

    Raises:
        ReportError: A folder holds no run.
    """
    runs = [read_run(folder) for folder in folders]
    for run, name in zip(runs, make_names_distinct([run.path for run in runs]), strict=True):
        run.name = name
    sections = [_make_section(run, runs[0] if run is not runs[0] else None) for run in runs]
    for section in sections if predictions else ():
        if section.run.dangers:
            words = "; ".join(section.run.dangers)
            section.verdicts.append(f"Its model is not built, for its config may run code: {words}")
        elif section.run.checkpoint is not None:
            _add_predictions(section, predict_validation_images(section.run))
    environment = Environment(
        loader=PackageLoader("hordet.report", "."), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html").render(
        title=" and ".join(run.name for run in runs),
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        summary=[_summarize(section) for section in sections],
        comparison=_compare_runs(runs),
        curves=[*plots.plot_validation_curves(runs), *plots.plot_training_curves(runs)],
        sections=sections,
    )
    out = Path(out)
    write_whole(out, page)
    return out


def _make_section(run: RunFolder, first: RunFolder | None) -> Section:
    """Make the section of a run from its logs and its config."""
    section = Section(run, verdicts=[_describe_learning(run)])
    if run.cut_lines:
        section.verdicts.append(f"{run.cut_lines} lines of its log were cut short and left out.")
    base: Any = first.config if first else None
    section.base = first.name if first else ""
    if base is None:
        names = [file.name for file in run.path.glob("*.py")]
        for file in (file for name in names for file in sorted(CONFIGS.glob(f"*/{name}"))):
            try:
                base, section.base = load_config(file), f"{file.parent.name}/{file.name}"
            except ConfigError:
                continue
            locate_data(base)  # as in the run's own config
    if base is not None:
        skipped = ("work_dir", "launcher")
        rows = compare_settings(base.to_dict(), run.config.to_dict())
        section.settings = [row for row in rows if row[0].split(".")[0] not in skipped]
    return section


def _describe_learning(run: RunFolder) -> str:
    """Return a sentence on whether a run is learning, by its loss and its validations."""
    _, losses = run.get_curve("loss")
    words = []
    if len(losses) > 1:
        way = "fell" if losses[-1] < losses[0] else "did not fall"
        words.append(f"the loss {way} from {losses[0]:.3g} to {losses[-1]:.3g}")
    headline = run.headline
    if headline:
        key, name, divisor = headline
        _, values = run.get_metric(key)
        best = int(np.argmax(values))
        words.append(f"{name} is {values[-1] / divisor:.3f} at the last of {len(values)}"
                     f" validation{'s' if len(values) > 1 else ''}")  # fmt: skip
        if best < len(values) - 1:
            words.append(f"it was best, {values[best] / divisor:.3f}, at validation {best + 1}")
    learns = len(losses) > 1 and losses[-1] < losses[0]
    return f"{'It learns' if learns else 'It does not seem to learn'}: " + ", ".join(words) + "."


def _summarize(section: Section) -> dict[str, str]:
    """Return the row of a run in the table at the top."""
    run = section.run
    row = {"run": run.name}
    for key in JUDGING_METRICS:
        name, divisor = HEADLINES[key]
        values = run.get_metric(key)[1]
        if values:
            row[f"best {name}"] = f"{max(values) / divisor:.3f}"
    steps, losses = run.get_curve("loss")
    if losses:
        row["iterations"] = f"{steps[-1]:.0f}"
        row["last loss"] = f"{losses[-1]:.3f}"
    _, times = run.get_curve("time")
    if times:
        row["seconds an iteration"] = f"{np.median(times):.2f}"
    _, memory = run.get_curve("memory")
    if memory:
        row["GPU memory, MB"] = f"{max(memory):.0f}"
    return row


def _compare_runs(runs: Sequence[RunFolder]) -> str:
    """Return a sentence on which of several runs is better; empty for a single run."""
    if len(runs) < 2 or runs[0].headline is None:
        return ""
    sets = [(run.config.get("val_dataloader") or {}).get("dataset", {}) for run in runs]
    if len({_identify_images(part) for part in sets}) > 1:
        return "The runs were validated on different images, so their metrics cannot be compared."
    key, name, divisor = runs[0].headline
    best = {
        run.name: max(run.get_metric(key)[1]) / divisor for run in runs if run.get_metric(key)[1]
    }
    if len(best) < 2:
        return "The runs have no metric in common, so they cannot be compared."
    order = sorted(best, key=lambda item: -best[item])
    lead = best[order[0]] - best[order[1]]
    words = f"{order[0]} is better: best {name} {best[order[0]]:.3f}, {lead:.3f} above {order[1]}."
    return words + " Each is one run, and another seed alone may change a metric by a point or two."


def _identify_images(dataset: dict[str, Any]) -> str:
    """Return what identifies the images of a data set, without the place of its folder."""
    root = Path(dataset.get("data_root") or "").name
    return repr([root, dataset.get("ann_file"), dataset.get("data_prefix")])


def _add_predictions(section: Section, found: RunPredictions) -> None:
    """Add plots, tables and sheets of the predictions to a section."""
    section.verdicts.append(f"An image takes {found.seconds:.2f} s to predict on this machine.")
    for kind, scores in found.scores.items():
        text = "precision over recall"
        section.plots.append((text, plots.plot_precision_recall(scores, kind)))
    if found.errors is not None:
        errors = found.errors
        worst = max(errors.gains, key=lambda name: errors.gains[name])
        section.verdicts.append(
            f"Most is lost to {worst} errors: {errors.gains[worst]:.3f} of AP50, which is "
            f"{errors.ap50:.3f}."
        )
        section.errors = [(k, errors.counts[k], errors.gains[k]) for k in errors.gains]
        section.plots.append(("lost AP50", plots.plot_error_bars(errors.gains)))
        matrix = plots.plot_confusion(
            errors.confusion, [*found.classes, "background"], [*found.classes, "missed"]
        )
        section.plots.append(("confusion matrix", matrix))
        section.table = _make_detection_table(found)
    if found.confusion is not None:
        section.table = _make_segmentation_table(found.confusion, found.classes)
        name, overlap, *_ = section.table[1][0]
        section.verdicts.append(
            f"mIoU {found.summary['mIoU'] / 100:.3f}, pixel accuracy "
            f"{found.summary['aAcc'] / 100:.3f}; the weakest class is {name}, IoU {overlap}."
        )
        matrix = plots.plot_confusion(found.confusion, found.classes, found.classes)
        section.plots.append(("confusion matrix", matrix))
    for title, pairs in found.images:
        # One image each, so that a phone shows them one by one and a screen side by side.
        sheets = [draw_sheet([pair], found.classes, found.colors, "") for pair in pairs]
        section.sheets.append((title, [plots.embed_figure(sheet, "jpg") for sheet in sheets]))


def _make_detection_table(found: RunPredictions) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: each class with its AP by size and overlap, of masks if it can be."""
    kind = list(found.scores)[-1]
    scores = found.scores[kind]
    name = {"bbox": "box", "segm": "mask"}[kind]
    rows = []
    for index, label in enumerate(found.classes):
        values = scores.summarize_category(index)
        rows.append([label, *("–" if np.isnan(v) else f"{v:.3f}" for v in values.values())])
    heading = ["class", *(f"{name} {key}" for key in scores.summarize_category(0))]
    return heading, sorted(rows, key=lambda row: row[1])


def _make_segmentation_table(
    matrix: NDArray[np.int64], classes: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: each class with IoU and accuracy, the weakest first.

    Args:
        matrix: Pixels (K, K) by true (row) and predicted (column) class.
        classes: Names of the classes; those without true pixels come last.
    """
    right, true, guessed = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    rows = []
    for k, label in enumerate(classes):
        if not true[k]:
            rows.append([label, "–", "–", "0"])
            continue
        overlap, share = right[k] / (true[k] + guessed[k] - right[k]), true[k] / true.sum()
        rows.append([label, f"{overlap:.3f}", f"{right[k] / true[k]:.3f}", f"{share:.1%}"])
    return ["class", "IoU", "accuracy", "pixels"], sorted(rows, key=lambda row: row[1])
