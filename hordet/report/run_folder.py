"""Reads the work folder of a run: settings, logs, environment, checkpoints."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config

from hordet.config.allowed import find_dangers
from hordet.config.load import rename_types
from hordet.config.safe import read_data
from hordet.errors import ConfigError, ReportError
from hordet.evaluation.headline import HEADLINES, JUDGING_METRICS

_NESTED = (dict, list, tuple)
# Settings that a report sets itself, or does not use.
_OWN = ("launcher", "tracker", "vis_backends", "visualizer", "work_dir")
_ENVIRONMENT = ("Python", "PyTorch", "TorchVision", "MMEngine", "CUDA available", "GPU 0", "seed")


@dataclass
class RunFolder:
    """A run, read from its work folder.

    Attributes:
        path: The work folder.
        name: Name of the run on the page.
        config: The config of the run.
        train: Logged iterations in order, with `step`, `loss`, `lr`, `grad_norm`, `time` ...
        validations: Logged validations in order, with `step` and metrics.
        environment: Versions and devices.
        checkpoint: The best checkpoint by the config's metric, or the last; None without any.
        dangers: What the config names that might run anything; a report builds nothing then.
        cut_lines: Number of log lines that were cut short and are ignored.
    """

    path: Path
    name: str
    config: Config
    train: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None
    cut_lines: int = 0
    dangers: list[str] = field(default_factory=list)

    def get_curve(self, key: str) -> tuple[list[float], list[float]]:
        """Return the steps and values of a quantity that was logged in training."""
        rows = [row for row in self.train if key in row]
        return [row["step"] for row in rows], [row[key] for row in rows]

    def get_metric(self, name: str) -> tuple[list[float], list[float]]:
        """Return the steps and values of a metric by the last part of its key, without any -1."""
        points = [
            (row["step"], value)
            for row in self.validations
            for key, value in row.items()
            if key.split("/")[-1] == name and value != -1
        ]
        return [step for step, _ in points], [value for _, value in points]

    @property
    def headline(self) -> tuple[str, str, float] | None:
        """Key, title and divisor of the metric by which the run is judged; None without any."""
        for key in JUDGING_METRICS:
            if self.get_metric(key)[1]:
                return key, *HEADLINES[key]
        return None


def read_run(path: str | Path) -> RunFolder:
    """Read a work folder.

    Args:
        path: The folder, with a subfolder of logs for each start of the run.

    Raises:
        ReportError: It is not a work folder, its config is more than data, or nothing was logged
            yet.
    """
    path = Path(path)
    sessions = sorted(folder.parent for folder in path.glob("*/vis_data"))
    configs = [s / "vis_data/config.py" for s in sessions if (s / "vis_data/config.py").is_file()]
    if not configs:
        raise ReportError(
            f"{path} is not the work folder of a run: it has no */vis_data/config.py. Give the "
            "folder into which `hordet train` wrote (--work-dir)."
        )
    try:
        # A dumped config is data; a work folder may come from anybody.
        config = read_data(configs[-1])
    except ConfigError as error:
        words = str(error).partition("\nWrite")[0]
        raise ReportError(
            words.replace("--safe-config refuses", "a report does not read")
        ) from error
    rename_types(config)
    run = RunFolder(path, path.resolve().name, config)
    run.dangers = list(islice(find_dangers({k: v for k, v in config.items() if k not in _OWN}), 5))
    for session in sessions:
        rows, cut = _read_rows(session / "vis_data/scalars.json")
        run.cut_lines += cut
        train = [row for row in rows if "loss" in row]
        # A resumed run repeats iterations; those of the later start are kept.
        start = train[0]["step"] if train else float("inf")
        run.train = [row for row in run.train if row["step"] < start] + train
        later = [row for row in rows if "loss" not in row]
        first = later[0]["step"] if later else float("inf")
        run.validations = [row for row in run.validations if row["step"] < first] + later
        for log in session.glob("*.log"):
            run.environment |= _read_environment(log.read_text(errors="replace"))
    if not run.train and not run.validations:
        raise ReportError(f"{path}: nothing is logged yet. Wait for the first log interval.")
    run.checkpoint = _find_checkpoint(path)
    return run


def make_names_distinct(paths: Sequence[Path]) -> list[str]:
    """Return names for folders: their last parts, as few as make all names different."""
    whole = [path.resolve() for path in paths]
    for count in range(1, max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-count:]) for path in whole]
        if len(set(names)) == len(set(whole)):
            return names
    return [str(path) for path in whole]


def _read_rows(path: Path) -> tuple[list[dict[str, float]], int]:
    """Return the logged lines, and the number of lines that were cut short."""
    rows, cut = [], 0
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            cut += 1
            continue
        if isinstance(row, dict) and _is_figure(row.get("step")):
            # Trackers write null where a loss was NaN, and texts of their own.
            rows.append({key: value for key, value in row.items() if _is_figure(value)})
    return rows, cut


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_environment(log: str) -> dict[str, str]:
    """Return versions and devices that mmengine wrote into a log."""
    found = {}
    for name in _ENVIRONMENT:
        match = re.search(rf"^ +{re.escape(name)}: (.+)$", log, re.MULTILINE)
        if match:
            found[name] = match.group(1)
    return found


def _find_checkpoint(path: Path) -> Path | None:
    """Return the best checkpoint of a work folder, or the last, or None."""
    best = sorted(path.glob("best_*.pth"), key=lambda file: file.stat().st_mtime)
    if best:
        return best[-1]
    last = path / "last_checkpoint"
    named = path / Path(last.read_text().strip()).name if last.is_file() else None
    return named if named and named.is_file() else None


def compare_settings(base: Any, config: Any) -> list[tuple[str, str, str]]:
    """Return the settings that differ: dotted key, value of the base, value of the run."""
    old, new = dict(_flatten(base)), dict(_flatten(config))
    keys = sorted(old.keys() | new.keys())
    none = "not set"
    rows = [(key, old.get(key, none), new.get(key, none)) for key in keys]
    return [row for row in rows if row[1] != row[2]]


def _flatten(value: Any, begin: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and values of nested settings."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{begin}.{key}" if begin else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(item, _NESTED) for item in value):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{begin}.{index}")
    else:
        yield begin, repr(list(value) if isinstance(value, tuple) else value)
