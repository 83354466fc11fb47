"""Costs of the models of the neck study: parameters, multiply-adds, milliseconds."""

import copy
import platform
import statistics
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import nn

from hordet.benchmark.complexity import count_forward
from hordet.benchmark.necks.plan import SETTINGS, Training
from hordet.benchmark.necks.recipe import make_config
from hordet.benchmark.roofline import compute_spread, time_call
from hordet.registry import MODELS

WARM_UP = 3


def measure_costs(
    trainings: Iterable[Training], root: Path, threads: int, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Count and time the part of each model that depends on the neck.

    In detection that is backbone and neck, because all heads are the same; in segmentation also the
    head. A turn is one forward pass of every model, so other programs on the machine slow down all
    models equally.

    Args:
        trainings: Trainings of the models; all seeds of a variant share one model.
        root: Folder of the repository, with `configs`.
        threads: Number of threads of torch.
        repeats: Number of turns.

    Returns:
        A row for each model: variant, parameters, multiply-adds (torch's counter: convolutions and
        matrix products) and FFT for one image, median milliseconds, and their spread (half the
        distance between the quartiles). And how these were measured.
    """
    torch.set_num_threads(threads)
    # The rate has no cost.
    models = {training.variant[:3]: build_part(training, root) for training in trainings}
    rows: list[dict[str, Any]] = []
    for (dataset, backbone, neck), model in models.items():
        # A copy, because the counter adds attributes to the modules. Without gradients, because it
        # looks for the node of each input that could have one, and a weight's view has none here.
        counted = copy.deepcopy(model).to("meta").requires_grad_(False)
        cost = count_forward(counted, (3, *SETTINGS[dataset].image))
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
    times: list[list[float]] = [[] for _ in rows]  # milliseconds
    for turn in range(WARM_UP + repeats):
        for row, model, milliseconds in zip(rows, models.values(), times, strict=True):
            image = torch.zeros(1, 3, *SETTINGS[row["dataset"]].image)
            with torch.no_grad():
                taken, _ = time_call(partial(model, image), "cpu")
            if turn >= WARM_UP:
                milliseconds.append(1000 * taken)
    for row, milliseconds in zip(rows, times, strict=True):
        row.update(
            milliseconds=statistics.median(milliseconds), spread=compute_spread(milliseconds)
        )
    timing = dict(
        threads=threads, repeats=repeats, processor=_name_processor(), torch=torch.__version__
    )
    return rows, timing


def build_part(training: Training, root: Path) -> nn.Module:
    """Build the backbone, the neck and, in segmentation, the head of a training's model.

    Args:
        training: The training.
        root: Folder of the repository, with `configs`.

    Returns:
        A module that takes an image.
    """
    cfg = make_config(training, root)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    names = ("backbone", "neck", "decode_head")
    parts = [getattr(model, name) for name in names if getattr(model, name, None) is not None]
    return nn.Sequential(*parts).eval()


def _name_processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
