"""Export of a model to a file whose outputs were compared with the model's."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hordet.errors import ExportError
from hordet.export.compare import Comparison, Outputs, compare_with_model
from hordet.export.graphs import Part, build_graph, find_smallest_sides, find_step, make_exportable
from hordet.export.half import halve
from hordet.export.images import prepare_images, read_image, resize_image
from hordet.export.metadata import make_metadata
from hordet.export.model_graph import ModelGraph
from hordet.export.program import FORMATS, trace_graph, write_program
from hordet.export.runtime import OnnxFile, open_exported
from hordet.ops.files import replace_whole

# An export of free size is also compared on images of these sizes, relative to the example's.
SCALES = (0.73, 1.31)


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and how.

    Attributes:
        part: 'whole', or 'features' for backbone and neck.
        labels: Return classes instead of logits; for segmentors.
        dynamic: Leave height and width free, and for maps the number of images too.
        transform: How global filters compute: 'fft' works for one size only.
        size: Height and width of the example image; by default its own size.
        image: Image file to compare on; by default the first image of the test data.
        limit: The largest accepted difference to the model; see `Comparison`.
    """

    part: Part = "whole"
    labels: bool = False
    dynamic: bool = True
    transform: Literal["fft", "dft"] = "dft"
    size: tuple[int, int] | None = None
    image: str | None = None
    limit: float = 1e-4


def export_model(
    model: nn.Module, cfg: Any, path: Path, settings: ExportSettings
) -> list[Comparison]:
    """Write a model to a file, run the file, and keep it if its outputs equal the model's.

    Args:
        model: From `hordet.engine.runner.load_model`.
        cfg: Its config.
        path: An `.onnx`, `.xml` (OpenVINO) or `.pt2` (torch.export) file; it is replaced only after
            the comparison passed.
        settings: What to export, and how.

    Returns:
        A comparison for each image size.

    Raises:
        ExportError: The model cannot be exported, or the export differs by more than the limit.
    """
    if path.suffix not in FORMATS:
        raise ExportError(f"got {path}; allowed are files that end in {' or '.join(FORMATS)}")
    graph = build_graph(model, settings.part, settings.labels)
    ready = make_exportable(graph, settings.transform, settings.dynamic)
    images = _prepare_comparison_images(graph, cfg, settings)
    with ExitStack() as stack:
        if path.suffix == ".xml":  # OpenVINO finds the weights by the name of the file
            stack.enter_context(replace_whole(path.with_suffix(".bin")))
        unchecked = stack.enter_context(replace_whole(path))
        program = trace_graph(ready, images[0], settings.dynamic)
        write_program(program, unchecked, make_metadata(graph, cfg))
        rows = compare_with_model(_open_export(unchecked), graph, images)
        worst = max(row.worst for row in rows)
        if not worst <= settings.limit:
            raise ExportError(
                f"the export differs from the model by {worst:.1e}, and the limit is "
                f"{settings.limit:.1e}: {'; '.join(map(str, rows))}. No file is kept. To accept "
                "this difference, raise --limit"
            )
    return rows


def check_int8(cfg: Any, path: Path) -> None:
    """Refuse a quantization that cannot be made, before anything is exported for it.

    Args:
        cfg: The config of the model.
        path: The exported file.

    Raises:
        ExportError: The file is no ONNX file, or there are no training data.
    """
    if path.suffix != ".onnx":
        raise ExportError(f"got {path}; int8 needs an .onnx file: leave --int8 out, or name one")
    if not cfg.get("train_dataloader"):
        raise ExportError(
            "--int8 takes its ranges from training images, and the config has no train_dataloader: "
            "give the config that the model was trained with, or leave --int8 out"
        )


def export_int8(model: nn.Module, cfg: Any, path: Path, count: int) -> tuple[Path, int]:
    """Quantize an exported `NAME.onnx` to int8, and write it beside that as `NAME.int8.onnx`.

    Args:
        model: As in `export_model`.
        cfg: As in `export_model`.
        path: The exported file.
        count: Number of training images from which the ranges of activations are measured.

    Returns:
        The file, and the number of operators that compute in int8.

    Raises:
        ExportError: The file is not an ONNX file, or there are no training data.
    """
    check_int8(cfg, path)
    from hordet.export.quantize import quantize  # ONNX Runtime is an extra

    detections = OnnxFile(path).metadata["kind"] == "detections"
    inputs = (
        (image, size) if detections else (image,)
        for image, size in prepare_images(cfg, model, "train", count)
    )
    target = path.with_suffix(".int8.onnx")
    return target, quantize(path, target, inputs)


def export_half(path: Path) -> tuple[Path, int]:
    """Write the weights of an exported file in half precision, beside it as `NAME.fp16.SUFFIX`.

    Args:
        path: The exported file, `.onnx` or `.xml`.

    Returns:
        The file, and the number of weights in half precision.

    Raises:
        ExportError: The file is of another kind.
    """
    target = path.with_suffix(f".fp16{path.suffix}")
    return target, halve(path, target)


def _prepare_comparison_images(
    graph: ModelGraph, cfg: Any, settings: ExportSettings
) -> list[Tensor]:
    """Return the image that an export is compared on, at each size that the export is for."""
    if settings.image:
        image = read_image(graph.model, settings.image)
    else:
        image, _ = next(prepare_images(cfg, graph.model, "test", 1))
    height, width = settings.size or (image.shape[2], image.shape[3])
    if settings.dynamic and (step := find_step(graph)) > 1:
        height, width = -(-height // step) * step, -(-width // step) * step
    example = resize_image(image, (height, width))
    if not settings.dynamic:
        return [example]
    least, step = find_smallest_sides(graph, example), find_step(graph)
    sizes = [(round(scale * height), round(scale * width)) for scale in SCALES]
    sizes = [(max(high, least[0]), max(wide, least[1])) for high, wide in sizes]
    sizes = [(-(-high // step) * step, -(-wide // step) * step) for high, wide in sizes]
    return [example, *(resize_image(image, size) for size in sizes)]


def _open_export(path: Path) -> Callable[..., Outputs]:
    """Open a file that was just written, as a function of its inputs."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    return open_exported(path)
