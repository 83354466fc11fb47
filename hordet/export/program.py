"""Writes a graph to a file: by torch.export, then as ONNX, OpenVINO's or torch's own archive."""

import inspect
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from hordet.errors import ExportError
from hordet.export.exported_file import METADATA
from hordet.export.graphs import describe_dynamic_shapes, make_inputs
from hordet.export.model_graph import ModelGraph
from hordet.export.openvino_file import write_openvino

# What each ending stands for.
FORMATS = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch-export"}


def trace_graph(graph: ModelGraph, image: Tensor, dynamic: bool) -> ExportedProgram:
    """Export a graph by torch.export.

    Args:
        graph: From `make_exportable`, on the CPU.
        image: An example, (1, 3, H, W).
        dynamic: Leave height and width free, and for maps the batch size too; otherwise the graph
            accepts images of this size only.

    Raises:
        ExportError: torch.export cannot follow the model; the message quotes its error.
    """
    free = describe_dynamic_shapes(graph, image) if dynamic else None
    inputs = make_inputs(graph, image)
    if dynamic and len(inputs) == 1:
        # torch.export treats a size of one as a constant.
        inputs = (image.repeat(2, 1, 1, 1),)
    # Of guards on strides of channels-last maps, which its solver cannot prove; torch 2.6 lacks it.
    deferred = "prefer_deferred_runtime_asserts_over_guards"
    known = deferred in inspect.signature(torch.export.export).parameters
    options: dict[str, Any] = {deferred: True} if known else {}
    try:
        with torch.no_grad():
            # strict=False is the default of newer torch.
            return torch.export.export(graph, inputs, dynamic_shapes=free, strict=False, **options)
    except Exception as error:  # operators of other projects may raise anything here
        raise ExportError(
            f"torch.export cannot follow this model: {_shorten_error(error)}. --static may help, "
            "or --part features, which exports no heads"
        ) from error


def write_program(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Write a program as `.onnx`, as `.xml` (OpenVINO) or as `.pt2` (torch.export).

    The weights are inside the file; those of an ONNX file beyond 2 GB, and all of OpenVINO's, lie
    beside it.

    Args:
        program: From `trace_graph`.
        path: The file; its suffix decides the format.
        metadata: Written into the file, as JSON under the key `METADATA`.

    Raises:
        ExportError: An operator cannot be written; the message names it.
    """
    if path.suffix == ".pt2":
        torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata)})
    elif path.suffix == ".onnx":
        _write_onnx(program, path, metadata)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "model.onnx"
            _write_onnx(program, source, metadata)
            write_openvino(source, path, metadata)


def _write_onnx(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    # It warns of each constant that it keeps, which changes nothing.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        onnx_program = torch.onnx.export(
            program,
            input_names=["image", "size"][: len(program.graph_signature.user_inputs)],
            output_names=list(program.call_spec.out_spec.context),
            verbose=False,
        )
    except Exception as error:
        raise ExportError(
            f"this model cannot be written as ONNX: {_shorten_error(error)}"
        ) from error
    assert onnx_program is not None
    onnx_program.model.metadata_props[METADATA] = json.dumps(metadata)
    onnx_program.save(path)


def _shorten_error(error: Exception) -> str:
    """Return the class of an error and the first 400 characters of its message."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:400]}"
