"""From a graph to a file: torch.export, then ONNX or torch's own archive."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from hordet.errors import ExportError
from hordet.export.graphs import describe_dynamic_shapes, make_inputs

# The key under which an ONNX file says what hordet needs to know of it.
METADATA = "hordet"
SUFFIXES = (".onnx", ".pt2")


def trace(graph: nn.Module, image: Tensor, dynamic: bool) -> ExportedProgram:
    """Export a graph by torch.export.

    Args:
        graph: From `exportable`, on the CPU.
        image: An example, (1, 3, H, W).
        dynamic: Leave height and width free, and of maps the batch; else the graph is for images
            of this size alone.

    Raises:
        ExportError: torch.export cannot follow the model; the message has its words.
    """
    free = describe_dynamic_shapes(graph, image) if dynamic else None
    inputs = make_inputs(graph, image)
    if dynamic and len(inputs) == 1:
        inputs = (image.repeat(2, 1, 1, 1),)  # torch.export takes a batch of one for constant
    try:
        with torch.no_grad():
            return torch.export.export(
                graph,
                inputs,
                describe_dynamic_shapes=free,
                # Guards on strides of channels-last maps, which its solver cannot prove.
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # whatever an operator of any model raises while it is read
        raise ExportError(
            f"torch.export cannot follow this model: {_first_lines(error)}. --static may help, or "
            "--part features, which leaves the heads out"
        ) from error


def write(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Write a program as `.onnx`, weights inside (beside, beyond 2 GB), or as `.pt2`.

    Args:
        program: From `trace`.
        path: The file; its suffix says which kind.
        metadata: Written into an ONNX file, as JSON under the key 'hordet'.

    Raises:
        ExportError: An operator has no ONNX form; the message names it.
    """
    if path.suffix == ".pt2":
        torch.export.save(program, path)
        return
    try:
        onnx_program = torch.onnx.export(
            program,
            input_names=["image", "size"][: len(program.graph_signature.user_inputs)],
            output_names=list(program.call_spec.out_spec.context),
            verbose=False,
        )
    except Exception as error:
        raise ExportError(f"this model has no ONNX form: {_first_lines(error)}") from error
    assert onnx_program is not None
    onnx_program.model.metadata_props[METADATA] = json.dumps(metadata)
    onnx_program.save(path)


def _first_lines(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:400]}"
