"""From a model to a file that is known to say what the model says."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hordet.errors import ExportError
from hordet.export.compare import Comparison, Outputs, compare
from hordet.export.graphs import Part, build_graph, find_smallest_sides, make_exportable
from hordet.export.images import prepare_images, read_image, resize_image
from hordet.export.program import SUFFIXES, trace, write
from hordet.export.runtime import OnnxFile
from hordet.ops.files import replace_whole

# Sides of the images that an export of free size is compared on too, in those of the example.
SCALES = (0.73, 1.31)


@dataclass(frozen=True)
class Settings:
    """What is exported and how.

    Attributes:
        part: 'whole', or 'features' for backbone and neck.
        labels: Of a segmentor, classes in place of logits.
        dynamic: Leave height and width free, and of maps the number of images.
        transform: How global filters compute: 'fft' is for one size.
        size: Height and width of the example; by default those of the image it is made of.
        image: A file to compare on; by default the first image of the test data.
        limit: The largest difference to the model that is accepted; see `Comparison`.
    """

    part: Part = "whole"
    labels: bool = False
    dynamic: bool = True
    transform: Literal["fft", "dft"] = "dft"
    size: tuple[int, int] | None = None
    image: str | None = None
    limit: float = 1e-4


def export(model: nn.Module, cfg: Any, path: Path, settings: Settings) -> list[Comparison]:
    """Write a model to a file, run the file, and keep it if it says what the model says.

    Args:
        model: From `hordet.engine.runner.load_model`.
        cfg: Its config.
        path: An `.onnx` or `.pt2`; replaced only by a file that passed.
        settings: What and how.

    Returns:
        The file beside the model, for each size of image.

    Raises:
        ExportError: The model cannot be exported, or the export differs by more than the limit.
    """
    if path.suffix not in SUFFIXES:
        raise ExportError(f"got {path}; allowed are files that end in {' or '.join(SUFFIXES)}")
    graph = build_graph(model, settings.part, settings.labels)
    ready = make_exportable(graph, settings.transform, settings.dynamic)
    images = _images(graph, cfg, settings)
    with replace_whole(path) as unchecked:
        program = trace(ready, images[0], settings.dynamic)
        write(program, unchecked, describe(graph, cfg))
        rows = compare(_runner(unchecked), graph, images)
        worst = max(row.worst for row in rows)
        if not worst <= settings.limit:
            raise ExportError(
                f"the export differs from the model by {worst:.1e}, and the limit is "
                f"{settings.limit:.1e}: {'; '.join(map(str, rows))}. No file is kept; if this is "
                "near enough for you, raise --limit"
            )
    return rows


def export_int8(model: nn.Module, cfg: Any, path: Path, count: int) -> tuple[Path, int]:
    """Write the int8 form of an exported `NAME.onnx` beside it, as `NAME.int8.onnx`.

    Args:
        model: As in `export`.
        cfg: As in `export`.
        path: The exported file.
        count: Training images that set the ranges of activations.

    Returns:
        The file, and how many operators compute in int8.

    Raises:
        ExportError: The file is no ONNX, or there are no training data.
    """
    if path.suffix != ".onnx":
        raise ExportError(f"got {path}; int8 needs an .onnx")
    from hordet.export.quantize import quantize  # ONNX Runtime is an extra

    detections = OnnxFile(path).metadata["kind"] == "detections"
    inputs = (
        (image, size) if detections else (image,)
        for image, size in prepare_images(cfg, model, "train", count)
    )
    target = path.with_suffix(".int8.onnx")
    return target, quantize(path, target, inputs)


def describe(graph: Any, cfg: Any) -> dict[str, Any]:
    """Return what an ONNX file says of itself; see `hordet.export.runtime.OnnxFile`."""
    model = graph.model
    head = model.roi_head.bbox_head if graph.kind == "detections" else model
    preprocessing = {"mean", "std", "bgr_to_rgb", "rgb_to_bgr", "pad_size_divisor"}
    return {
        "kind": graph.kind,
        "num_classes": getattr(head, "num_classes", None),
        "classes": list(model.dataset_meta.get("classes", ())),
        "preprocessing": {
            key: value
            for key, value in (cfg.model.get("data_preprocessor") or {}).items()
            if key in preprocessing
        },
    }


def _images(graph: nn.Module, cfg: Any, settings: Settings) -> list[Tensor]:
    """Return what an export is compared on: one image at the sizes it is for."""
    if settings.image:
        image = read_image(graph.model, settings.image)
    else:
        image, _ = next(prepare_images(cfg, graph.model, "test", 1))
    height, width = settings.size or tuple(image.shape[2:])
    example = resize_image(image, (height, width))
    if not settings.dynamic:
        return [example]
    least = find_smallest_sides(graph, example)
    sizes = [(round(scale * height), round(scale * width)) for scale in SCALES]
    sizes = [(max(high, least[0]), max(wide, least[1])) for high, wide in sizes]
    return [example, *(resize_image(image, size) for size in sizes)]


def _runner(path: Path) -> Callable[..., Outputs]:
    """Open a file that was just written."""
    if path.suffix == ".onnx":
        return OnnxFile(path)
    return torch.export.load(path).module()
