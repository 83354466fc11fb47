"""How long a user waits: one image predicted, and a training's first iteration.

Each run is a process of its own, from the command to its end, as a person starts it. Checkouts take
turns, so that a busy machine disturbs them alike; a first round, which fills the disk cache and
compiles Python's files, is not counted.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope

from hordet.benchmark import first_iteration
from hordet.benchmark.table import format_table
from hordet.config.load import load_config
from hordet.datasets.shapes.cache import ensure_shapes
from hordet.errors import BenchmarkError, ConfigError


@dataclass
class StartRow:
    """One command's waits.

    Attributes:
        command: `infer` or `train`.
        seconds: From start to end, by checkout, in the order of the rounds.
        processor_seconds: What the processors worked meanwhile; a busy machine hardly disturbs it.
    """

    command: str
    seconds: dict[str, list[float]]
    processor_seconds: dict[str, list[float]]

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return asdict(self)


def measure(config: str, checkouts: Sequence[Path], rounds: int) -> list[StartRow]:
    """Time `infer` on one drawn image with random weights, and `train --tiny` to an iteration.

    Args:
        config: A config's path below `configs`, without `.py`; each checkout reads its own.
        checkouts: Root folders; those without `hordet/cli` have `tools/infer.py`, `tools/train.py`.
        rounds: Runs of each command in each checkout.

    Raises:
        ConfigError: A checkout has no such config or no such commands.
        BenchmarkError: A run failed.
    """
    for root in checkouts:
        if not (root / "configs" / f"{config}.py").is_file():
            raise ConfigError(f"{root} has no configs/{config}.py: name a config of both checkouts")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        weights = place / "random.pth"
        _write_weights(checkouts[0] / "configs" / f"{config}.py", weights)
        # Alone in a folder of the path, for another checkout has no such module.
        shutil.copy(first_iteration.__file__, place)
        image = ensure_shapes(num_train=8, num_val=4) / "val"
        image = min(image.iterdir())
        rows = [StartRow(name, _empty(checkouts), _empty(checkouts)) for name in _COMMANDS]
        for number in range(rounds + 1):
            for row in rows:
                for root in checkouts if number % 2 else reversed(checkouts):
                    words = _COMMANDS[row.command](root, config, weights, image, place)
                    seconds, worked = _time(root, row.command, words, place)
                    if number:
                        row.seconds[str(root)].append(seconds)
                        row.processor_seconds[str(root)].append(worked)
    return rows


def format_start_table(rows: Sequence[StartRow]) -> str:
    """Lay the medians out, and how many times as long each other checkout takes."""
    checkouts = list(rows[0].seconds)
    first, *others = checkouts
    names = ["this checkout", *(f"`{name}`" for name in others)]
    header = ["command", *(f"{name}, s" for name in names), *("ratio" for _ in others)]
    cells = []
    for row in rows:
        wait = {name: statistics.median(row.seconds[name]) for name in checkouts}
        work = {name: statistics.median(row.processor_seconds[name]) for name in checkouts}
        times = [f"{wait[name]:.2f} ({work[name]:.2f})" for name in checkouts]
        ratios = [
            f"{wait[name] / wait[first]:.2f} ({work[name] / work[first]:.2f})" for name in others
        ]
        cells.append([f"`hordet {row.command}`", *times, *ratios])
    rule = ["---", *("---:" for _ in header[1:])]
    count = len(rows[0].seconds[first])
    words = (
        f"Medians of {count} rounds, with seconds of processor time in brackets; `infer` predicts "
        "one image, `train` ends after the first iteration."
    )
    return "\n".join([words, "", *format_table(header, rule, *cells), ""])


def _predict(root: Path, config: str, weights: Path, image: Path, place: Path) -> Iterator[Any]:
    """Yield the words of a run that predicts one image."""
    yield from (root / "configs" / f"{config}.py", weights, image, "--tiny")
    yield from ("--out", place / "predictions")


def _train(root: Path, config: str, weights: Path, image: Path, place: Path) -> Iterator[Any]:
    """Yield the words of a run that ends after one iteration, by a config that adds the hook."""
    path = place / f"{root.name}.py"
    path.write_text(
        f"_base_ = {str(root / 'configs' / f'{config}.py')!r}\n"
        "import first_iteration\n"
        "default_hooks = dict(first=dict(type='mmengine.FirstIterationHook'))\n"
    )
    yield from (path, "--tiny", "--work-dir", place / "work_dir")


_COMMANDS: dict[str, Callable[..., Iterator[Any]]] = {"infer": _predict, "train": _train}


def _time(root: Path, command: str, words: Iterator[Any], place: Path) -> tuple[float, float]:
    """Run a command of a checkout; return its seconds, and those of the processors."""
    start = ["-m", "hordet", command]
    if not (root / "hordet" / "cli").is_dir():
        start = [str(root / "tools" / f"{command}.py")]
    path = os.pathsep.join([str(root), str(place)])
    line = [sys.executable, *start, *map(str, words)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        line, cwd=place, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if result.returncode:
        raise BenchmarkError(
            f"`{' '.join(line)}` ended with {result.returncode} in {root}:\n{result.stderr[-2000:]}"
        )
    return seconds, worked


def _empty(checkouts: Sequence[Path]) -> dict[str, list[float]]:
    return {str(root): [] for root in checkouts}


def _write_weights(config: Path, target: Path) -> None:
    """Write random weights of a config's model, as a checkpoint."""
    cfg = load_config(config, tiny=True)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model = MODELS.build(cfg.model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, target)
