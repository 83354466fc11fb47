"""One model in several runtimes: what it scores, how long an image takes, how large its file is.

Each form has a process of its own, and the processes take turns, image by image, so other programs
on the machine slow down all of them equally. Every form predicts all images, and is scored by them.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope

from hordet.benchmark.forms import FORMS
from hordet.benchmark.roofline import compute_spread
from hordet.benchmark.table import TableRow, format_table
from hordet.benchmark.worker import Worker
from hordet.datasets.roots import list_metrics, walk_datasets
from hordet.datasets.shapes.cache import draw_missing_shapes
from hordet.engine.modes import compile_regions
from hordet.engine.runner import load_model
from hordet.errors import BenchmarkError, UserError
from hordet.evaluation.headline import select_headline
from hordet.export.exporter import ExportSettings, export_half, export_int8, export_model
from hordet.export.runtime import predict_with

WEIGHTS = "weights.pth"


@dataclass(frozen=True)
class RuntimeRow(TableRow):
    """The measurements of one form.

    Attributes:
        form: A key of `FORMS`.
        metrics: Headline metrics, 0 to 1 each; see `hordet.evaluation.headline`.
        seconds: Seconds of each image: from its pixels, as the test pipeline resized them, to
            predictions in its own size.
        megabytes: MiB of the file, or of the parameters and buffers of PyTorch's model.
        problem: Why there are no measurements; empty if there are.
    """

    form: str
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    megabytes: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class RuntimeTask:
    """What every form is measured on.

    Attributes:
        cfg: The config, from `hordet.engine.runner.read_config`.
        checkpoint: Its weights.
        folder: Where the exported files are written.
        images: Number of test images, from the first on; None: all.
        calibration: Number of training images that set the ranges of int8.
        threads: Threads of every runtime.
    """

    cfg: Any
    checkpoint: str
    folder: Path
    images: int | None = None
    calibration: int = 32
    threads: int = 2


def measure_runtimes(task: RuntimeTask, forms: Sequence[str]) -> list[RuntimeRow]:
    """Export a model to every form that needs it, and let all predict the same images in turns.

    Args:
        task: What is measured.
        forms: Keys of `FORMS`.

    Returns:
        A row for each form; one that cannot be exported or run has its reason in `problem`.

    Raises:
        BenchmarkError: The config has no test data.
        DatasetError: They are not there.
    """
    torch.set_num_threads(task.threads)
    count = _choose_images(task)
    model = load_model(task.cfg, task.checkpoint)
    problems = _export(model, task, forms)
    # Every process takes the weights that were loaded and, if need be, trusted here.
    saved = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta))
    torch.save(saved, task.folder / WEIGHTS)
    workers = {form: Worker(_serve, form, task) for form in forms if form not in problems}
    sizes: dict[str, float] = {}
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    metrics: dict[str, dict[str, float]] = {}

    def collect(form: str, question: Any = None) -> Any:
        worker = workers[form]
        try:
            return worker.answer() if question is None else worker.ask(question)
        except RuntimeError as error:
            problems[form] = str(error)
            worker.stop()
            del workers[form]

    try:
        for form in list(workers):
            sizes[form] = collect(form)  # built and warm
        for index in range(count):
            for form in list(workers):
                taken = collect(form, index)
                if form in workers:
                    seconds[form].append(taken)
        for form in list(workers):
            metrics[form] = collect(form, "score")
    finally:
        for worker in workers.values():
            worker.stop()
    return [
        RuntimeRow(form, problem=problems[form])
        if form in problems
        else RuntimeRow(form, metrics[form], tuple(seconds[form]), sizes[form])
        for form in forms
    ]


def format_runtime_table(rows: Sequence[RuntimeRow], task: RuntimeTask) -> str:
    """Return the table as Markdown, and what could not be measured below it.

    Args:
        rows: The rows; times are compared with the first that was measured.
        task: What was measured.
    """
    good = [row for row in rows if not row.problem]
    titles = list(good[0].metrics) if good else []
    count = len(good[0].seconds) if good else 0
    header = ["runtime", *titles, "ms", "spread", "of the first", "MiB"]
    table: list[Sequence[str]] = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for row in good:
        median = statistics.median(row.seconds)
        spread = compute_spread(row.seconds) / median if len(row.seconds) > 1 else 0.0
        share = median / statistics.median(good[0].seconds)
        table.append(
            [
                FORMS[row.form].title,
                *(f"{row.metrics[title]:.4f}" for title in titles),
                f"{median * 1e3:.1f}",
                f"{spread:.1%}",
                f"{share:.2f}",
                f"{row.megabytes:.1f}",
            ]
        )
    lines = [f"{count} images in turns, one by one, CPU, {task.threads} threads.", ""]
    lines += format_table(*table)
    lost = [
        f"- {FORMS[row.form].title} was not measured: {row.problem}" for row in rows if row.problem
    ]
    return "\n".join([*lines, *([""] if lost else []), *lost]) + "\n"


def _choose_images(task: RuntimeTask) -> int:
    """Leave the images that are asked for in the config's test data; return their number."""
    cfg = task.cfg
    if not cfg.get("test_dataloader") or not cfg.get("test_evaluator"):
        raise BenchmarkError("the config has no test data (test_dataloader and test_evaluator)")
    draw_missing_shapes(cfg)
    dataset = _build_dataset(cfg)
    if task.images is None or task.images >= len(dataset):
        return len(dataset)
    next(walk_datasets(cfg.test_dataloader.dataset))["indices"] = task.images
    # An image without a prediction would count as missed, so the truth has the same images.
    ids = {dataset.get_data_info(index).get("img_id") for index in range(task.images)}
    for number, metric in enumerate(list_metrics(cfg.test_evaluator)):
        if metric.get("ann_file"):
            truth = json.loads(Path(metric["ann_file"]).read_text())
            truth["images"] = [item for item in truth["images"] if item["id"] in ids]
            truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
            shorter = task.folder / f"truth_{number}.json"
            shorter.write_text(json.dumps(truth))
            metric["ann_file"] = str(shorter)
    return task.images


def _export(model: Any, task: RuntimeTask, forms: Sequence[str]) -> dict[str, str]:
    """Write the files of all forms; return why one could not be written, by form."""
    problems: dict[str, str] = {}
    for suffix, whole in ((".onnx", "onnx"), (".xml", "openvino")):
        mine = [form for form in forms if form.startswith(whole)]
        if not mine:
            continue
        path = task.folder / f"model{suffix}"
        try:
            export_model(model, task.cfg, path, ExportSettings())
        except UserError as error:
            problems |= dict.fromkeys(mine, str(error))
            continue
        for form in mine:
            try:
                if form.endswith("fp16"):
                    export_half(path)
                elif form.endswith("int8"):
                    export_int8(model, task.cfg, path, task.calibration)
            except UserError as error:
                problems[form] = str(error)
    return problems


def _build_dataset(cfg: Any) -> Any:
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        return DATASETS.build(cfg.test_dataloader.dataset)


def _serve(connection: Connection, form: str, task: RuntimeTask) -> None:
    """Predict an image on request and send its seconds; the size is sent first, after a warm-up."""
    try:
        torch.set_num_threads(task.threads)
        MMLogger.get_instance("hordet", log_level="ERROR")
        model = load_model(task.cfg, task.folder / WEIGHTS)
        dataset = _build_dataset(task.cfg)
        name = FORMS[form].file
        if name is not None:
            predict_with(model, task.folder / name)
        elif form == "compiled" and not compile_regions(model):
            model.compile(dynamic=True)  # a model without HorNet blocks or gnConv fusions
        with DefaultScope.overwrite_default_scope(task.cfg.get("default_scope", "mmengine")):
            evaluator = Evaluator(task.cfg.test_evaluator)
        evaluator.dataset_meta = dataset.metainfo
        for index in {0, len(dataset) // 2, len(dataset) - 1}:  # of several sizes
            _predict(model, pseudo_collate([dataset[index]]))
        connection.send(_measure_size(model, task.folder, name))
        while (question := connection.recv()) != "score":
            batch = pseudo_collate([dataset[question]])
            begin = time.perf_counter()
            samples = _predict(model, batch)
            taken = time.perf_counter() - begin
            evaluator.process(samples, batch)
            connection.send(taken)
        connection.send(select_headline(evaluator.evaluate(len(dataset))))
    except Exception as error:
        connection.send(RuntimeError(f"{form}: {type(error).__name__}: {error}"))


def _predict(model: Any, batch: Any) -> Any:
    with torch.no_grad():
        return model.test_step(batch)


def _measure_size(model: Any, folder: Path, name: str | None) -> float:
    """Return the MiB of a file with its weights, or of a model's parameters and buffers."""
    if name is None:
        return sum(value.nbytes for value in model.state_dict().values()) / 2**20
    paths = [folder / name]
    if name.endswith(".xml"):
        paths.append(paths[0].with_suffix(".bin"))
    return sum(path.stat().st_size for path in paths) / 2**20
