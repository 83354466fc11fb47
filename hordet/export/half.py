"""Weights of an exported file in half precision: half its size, computed in float32."""

from pathlib import Path
from typing import Any

import numpy as np

from hordet.errors import ExportError
from hordet.export.openvino_file import compress_openvino
from hordet.ops.files import replace_whole

# The operators whose constants are weights; those of others are sizes, bounds and anchors.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What may stand between a weight and its operator: torch 2.6 does not fold these.
_MOVES = ("Transpose", "Reshape", "Split", "SplitToSequence", "SequenceAt", "Squeeze", "Unsqueeze")


def halve(source: Path, destination: Path) -> int:
    """Write a file's weights in float16; its runtime makes them float32 when it opens the file.

    Args:
        source: An `.onnx` or `.xml` file of `hordet.export.program.write_program`.
        destination: The file to write, of the same kind.

    Returns:
        The number of weights that are in float16.

    Raises:
        ExportError: The file is of another kind, or no weight of it fits into float16.
    """
    if source.suffix == ".xml":
        return compress_openvino(source, destination)
    if source.suffix != ".onnx":
        raise ExportError(f"got {source}; half precision needs an .onnx or .xml file")
    import onnx  # an extra

    model = onnx.load(source)
    wanted: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in WEIGHTED:
            wanted.update(node.input)
        elif node.op_type in _MOVES and wanted & {*node.output}:
            wanted.add(node.input[0])
    count = 0
    for weight in model.graph.initializer:
        if weight.name not in wanted or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        with np.errstate(over="ignore"):
            half = onnx.numpy_helper.to_array(weight).astype(np.float16)
        if not np.isfinite(half).all():
            continue  # beyond float16
        _replace(model, weight, half)
        count += half.size
    if not count:
        raise ExportError(f"{source} has no weight that fits into half precision")
    with replace_whole(destination) as unfinished:
        onnx.save(model, unfinished)
    return count


def _replace(model: Any, weight: Any, half: np.ndarray) -> None:
    """Store a weight in float16, and turn it into float32 before its first use."""
    import onnx

    name, stored = weight.name, f"{weight.name}_half"
    weight.CopyFrom(onnx.numpy_helper.from_array(half, stored))
    cast = onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
