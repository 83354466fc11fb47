"""How the waits of a user grow with the annotations: start of a training, evaluation, report.

Each is a process of its own, as a person starts it, over one drawn image that has as many names as
the annotations need. So the images cost what a look at a file costs, and the annotations the rest.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from hordet.benchmark import first_iteration
from hordet.benchmark.table import TableRow, format_table
from hordet.errors import BenchmarkError

CONFIG = "shapes/mask-rcnn_hornet-nano_horfpn_7e"
CLASSES = ("circle", "square", "triangle", "star", "ring", "cross")
SIDE = 128  # of the image, in pixels
PER_IMAGE = 10  # annotations; COCO has 7
COMMANDS = ("train", "evaluate", "report")
# A new process counts the memory of the one that starts it as its own, so a small one starts it.
LAUNCHER = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
WORDS = {
    "train": "`hordet train` to the end of the first iteration",
    "evaluate": "`hordet evaluate` of as many boxes as annotations",
    "report": "`hordet report --no-predictions` (predictions take as long as `hordet test`)",
}


@dataclass(frozen=True)
class GrowthRow(TableRow):
    """One command on one number of annotations.

    Attributes:
        command: One of `COMMANDS`.
        annotations: Their number, in the training and in the validation file each.
        seconds: From start to end.
        gigabytes: Peak resident memory of the largest of its processes, in GiB.
    """

    command: str
    annotations: int
    seconds: float
    gigabytes: float


def measure_growth(counts: Sequence[int], root: Path) -> Iterator[GrowthRow]:
    """Run each command on each number of annotations.

    Args:
        counts: Numbers of annotations, ascending.
        root: Folder of the repository, with `configs`.

    Yields:
        Each row as it is measured.

    Raises:
        BenchmarkError: A run failed.
    """
    with TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copy(first_iteration.__file__, place)
        base = str(root / "configs" / f"{CONFIG}.py")
        (place / "start.py").write_text(
            f"_base_ = {base!r}\nimport first_iteration\n"
            "default_hooks = dict(first=dict(type='mmengine.FirstIterationHook'))\n"
        )
        data, run = place / "data", place / "run"
        with _draw_data(place, data, PER_IMAGE):  # a run to report on
            short = ["--cfg-options", "train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
            _time(["train", base, "--data-root", data, "--work-dir", run, *short], place)
        for count in counts:
            with _draw_data(place, data, count):
                start = ["train", place / "start.py", "--data-root", data]
                files = [data / "annotations" / f"instances_{part}.json" for part in ("val", "all")]
                words = {
                    "train": [*start, "--work-dir", place / "start"],
                    "evaluate": ["evaluate", *files],
                    "report": ["report", run, "--no-predictions"],
                }
                for command in COMMANDS:
                    yield GrowthRow(command, count, *_time(words[command], place))


def format_growth_table(rows: Sequence[GrowthRow]) -> str:
    """Lay the rows out, a number of annotations a line."""
    found = {(row.command, row.annotations): row for row in rows}
    counts = sorted({row.annotations for row in rows})
    header = ["annotations", *(f"{name}, {unit}" for name in COMMANDS for unit in ("s", "GiB"))]
    lines = []
    for count in counts:
        measured = [found[name, count] for name in COMMANDS]
        cells = [f"{value:.1f}" for row in measured for value in (row.seconds, row.gigabytes)]
        lines.append([f"{count:,}", *cells])
    table = format_table(header, ["---:" for _ in header], *lines)
    words = [f"- {name}: {WORDS[name]}." for name in COMMANDS]
    return "\n".join([*words, "", *table, ""])


def draw_growth_plot(rows: Sequence[GrowthRow], path: Path) -> None:
    """Draw seconds and GiB against annotations, with a line of what grows linearly, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, unit in zip(figure.subplots(1, 2), ("seconds", "gigabytes"), strict=True):
        for command in COMMANDS:
            own = [row for row in rows if row.command == command]
            counts = [row.annotations for row in own]
            axes.loglog(counts, [getattr(row, unit) for row in own], "o-", label=command)
        counts = sorted({row.annotations for row in rows})
        top = max(getattr(row, unit) for row in rows)
        linear = [top * count / counts[-1] for count in counts]
        axes.loglog(counts, linear, ":", color="gray", label="linear")
        axes.set(xlabel="annotations", ylabel={"gigabytes": "GiB"}.get(unit, unit))
        axes.legend()
    figure.savefig(path, dpi=120)


@contextmanager
def _draw_data(place: Path, data: Path, count: int) -> Iterator[None]:
    """Write a data set with this number of annotations into a folder, and remove it again."""
    image = np.full((SIDE, SIDE, 3), 128, np.uint8)
    draw = np.random.default_rng(0)
    corners = draw.integers(0, SIDE - 40, (PER_IMAGE, 2))
    shapes = []
    for number, (left, top) in enumerate(corners.tolist()):
        wide, high = (int(side) for side in draw.integers(8, 40, 2))
        cv2.rectangle(image, (left, top), (left + wide, top + high), (20 * number, 90, 220), -1)
        right, bottom = left + wide, top + high
        outline = [[left, top, right, top, right, bottom, left, bottom]]
        shape: dict[str, Any] = dict(bbox=[left, top, wide, high], area=wide * high, iscrowd=0)
        shapes.append(shape | dict(segmentation=outline, category_id=number % len(CLASSES) + 1))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count // PER_IMAGE):
        images.append(dict(id=index + 1, file_name=f"{index}.png", height=SIDE, width=SIDE))
        for shape in shapes:
            annotations.append(shape | dict(id=len(annotations) + 1, image_id=index + 1))
    categories = [dict(id=number, name=name) for number, name in enumerate(CLASSES, 1)]
    truth = json.dumps(dict(images=images, annotations=annotations, categories=categories))
    keys = ("image_id", "category_id", "bbox")
    found = [{key: one[key] for key in keys} | dict(score=0.5) for one in annotations]
    (data / "annotations").mkdir(parents=True)
    try:
        (data / "annotations" / "instances_all.json").write_text(json.dumps(found))
        drawn = place / "drawn.png"
        cv2.imwrite(str(drawn), image)
        for part in ("train", "val"):
            (data / "annotations" / f"instances_{part}.json").write_text(truth)
            (data / part).mkdir()
            for one in images:
                os.symlink(drawn, data / part / one["file_name"])
        yield
    finally:
        shutil.rmtree(data)


def _time(words: Sequence[Any], place: Path) -> tuple[float, float]:
    """Run the command `hordet`; return its seconds and the GiB of its largest process."""
    line = [sys.executable, "-m", "hordet", *map(str, words)]
    root = Path(__file__).parents[2]
    paths = [str(root), str(place), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    log = place / "log.txt"
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-S", "-c", LAUNCHER, *line],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    if done.returncode:
        raise BenchmarkError(
            f"`{' '.join(line)}` ended with {done.returncode}:\n{log.read_text()[-2000:]}"
        )
    seconds, kilobytes = map(float, done.stdout.split())
    return seconds, kilobytes / 2**20
