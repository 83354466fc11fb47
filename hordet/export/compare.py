"""Comparison of an exported file with its model in eager mode."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hordet.errors import ExportError
from hordet.export.graphs import get_reference, make_inputs
from hordet.export.model_graph import ModelGraph

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """Differences between an export and its model on one image.

    Attributes:
        size: Height and width of the image.
        differences: The largest difference of each output: of values beyond 1 and -1 relative to
            these, of logits to the largest one, for float32 holds seven digits; for classes, the
            share of pixels that differ.
        count: Number of objects that the model found; None for maps.
    """

    size: tuple[int, int]
    differences: dict[str, float]
    count: int | None = None

    @property
    def worst(self) -> float:
        """The largest of all differences."""
        return max(self.differences.values())

    def __str__(self) -> str:
        """Return the comparison as one line."""
        parts = [f"{name} {value:.1e}" for name, value in self.differences.items()]
        found = "" if self.count is None else f" ({self.count} objects)"
        return f"{self.size[0]} x {self.size[1]}: {', '.join(parts)}{found}"


def compare_with_model(
    run: Callable[..., Outputs], graph: ModelGraph, images: list[Tensor]
) -> list[Comparison]:
    """Run an export and the model on images.

    Args:
        run: The export; it takes the inputs of the graph.
        graph: From `build_graph`, of the model as it was trained.
        images: Batches of images, (N, 3, H, W) each.

    Returns:
        One comparison for each batch.

    Raises:
        ExportError: A detector found no object in any image, so nothing could be compared.
    """
    reference = get_reference(graph)
    rows = []
    for image in images:
        inputs = make_inputs(graph, image)
        with torch.no_grad():
            want = reference(*inputs)
        got = run(*inputs)
        count = len(want["boxes"]) if "boxes" in want else None
        size = (image.shape[2], image.shape[3])
        rows.append(Comparison(size, measure_differences(got, want), count))
    if all(row.count == 0 for row in rows):
        raise ExportError(
            "the model finds no object in the images to compare on, so the export cannot be "
            "checked: give --image FILE with objects in it"
        )
    return rows


def measure_differences(got: Outputs, want: Outputs) -> dict[str, float]:
    """Return the largest difference of each output; see `Comparison`.

    Objects are paired by class, box and score, because objects of equal score may come in another
    order. If an object has no partner, every difference is infinite.
    """
    if "boxes" in want:
        order = _match_objects(got, want)
        if order is None:
            return dict.fromkeys(want, float("inf"))
        got = {name: value[order] for name, value in got.items()}
    found = {}
    for name, value in want.items():
        if value.shape != got[name].shape:
            found[name] = float("inf")
        elif not value.numel():
            found[name] = 0.0
        elif value.is_floating_point():
            # A logit is a sum of terms as large as the largest logits, with errors of their size.
            scale = value.abs().max() if name.endswith("logits") else value.abs()
            found[name] = ((value - got[name]).abs() / scale.clamp_min(1)).max().item()
        else:
            found[name] = (value != got[name]).float().mean().item()
    return found


def _match_objects(got: Outputs, want: Outputs) -> Tensor | None:
    """Return the index in `got` of each object in `want`, or None if they cannot be paired."""
    if len(got["boxes"]) != len(want["boxes"]):
        return None
    if not len(want["boxes"]):
        return torch.arange(0)
    apart = (want["boxes"][:, None] - got["boxes"]).abs().amax(-1)
    apart = apart + (want["scores"][:, None] - got["scores"]).abs()
    apart[want["labels"][:, None] != got["labels"]] = float("inf")
    order = apart.argmin(dim=1)
    return order if len(order.unique()) == len(order) else None
