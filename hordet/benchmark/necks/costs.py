"""What the models of the neck study cost: parameters, multiply-adds, milliseconds in turns."""

import copy
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import nn

from hordet.benchmark.complexity import count
from hordet.benchmark.necks.plan import SETTINGS, Training
from hordet.benchmark.necks.recipe import make_config
from hordet.benchmark.roofline import time_call
from hordet.registry import MODELS

WARM_UP = 3


def measure(
    trainings: Iterable[Training], root: Path, threads: int, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Count and time the part of each model that its neck can change.

    That is backbone and neck in detection, whose heads are the same for all; in segmentation the
    head as well. A turn is one forward of every model, in the order of the trainings, so a busy
    neighbor slows all of them alike.

    Args:
        trainings: Whose models; the seeds of a candidate share one.
        root: The repository, which has `configs`.
        threads: Of torch.
        repeats: Turns.

    Returns:
        A row a model: candidate, parameters, multiply-adds (torch's counter: convolutions and
        matrix products) and FFT of one image, median milliseconds, and their spread (half the
        distance between the quartiles). And how these were taken.
    """
    torch.set_num_threads(threads)
    models = {training.candidate: build_part(training, root) for training in trainings}
    rows = []
    for (dataset, backbone, neck), model in models.items():
        # The counter leaves its notes in the modules.
        cost = count(copy.deepcopy(model).to("meta"), (3, *SETTINGS[dataset].image))
        rows.append(
            dict(
                dataset=dataset,
                backbone=backbone,
                neck=neck,
                parameters=cost.parameters,
                multiply_adds=cost.matrix_multiply_adds,
                fft=cost.fft,
            )
        )
    times: list[list[float]] = [[] for _ in rows]
    for turn in range(WARM_UP + repeats):
        for row, model, seconds in zip(rows, models.values(), times, strict=True):
            image = torch.zeros(1, 3, *SETTINGS[row["dataset"]].image)
            with torch.no_grad():
                taken, _ = time_call(lambda model=model, x=image: model(x), "cpu")
            if turn >= WARM_UP:
                seconds.append(1000 * taken)
    for row, seconds in zip(rows, times, strict=True):
        low, _, high = statistics.quantiles(seconds, n=4)
        row.update(milliseconds=statistics.median(seconds), spread=(high - low) / 2)
    timing = dict(threads=threads, repeats=repeats, processor=_processor(), torch=torch.__version__)
    return rows, timing


def build_part(training: Training, root: Path) -> nn.Module:
    """Build backbone, neck and, in segmentation, head of a training's model: image -> their output.

    Args:
        training: Which.
        root: The repository, which has `configs`.
    """
    cfg = make_config(training, root)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    names = ("backbone", "neck", "decode_head")
    parts = [getattr(model, name) for name in names if getattr(model, name, None) is not None]
    return nn.Sequential(*parts).eval()


def _processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
