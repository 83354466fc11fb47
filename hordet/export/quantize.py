"""Post-training quantization of an ONNX file to int8, for ONNX Runtime on a CPU."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

# The operators that multiply by weights; all others stay in float32.
QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantize(source: Path, destination: Path, inputs: Iterable[tuple[Tensor, ...]]) -> int:
    """Write an int8 version of an ONNX file.

    Convolutions and products with weights compute in 8 bits. Weights have one scale for each output
    channel, activations the range that they have on the given inputs (MinMax calibration).

    Args:
        source: A file of `hordet.export.program.write_program`.
        destination: The file to write.
        inputs: Inputs of the graph for a few dozen typical images.

    Returns:
        The number of quantized operators.
    """
    with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
        # Constants are folded first, because weights that are computed are not quantized.
        folded = Path(scratch) / "folded.onnx"
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        names = [item.name for item in onnx.load(folded, load_external_data=False).graph.input]
        quantize_static(
            folded,
            destination,
            _Reader(names, inputs),
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=dict(MatMulConstBOnly=True),
        )
    model = onnx.load(destination)
    known = {item.key for item in model.metadata_props}
    for item in onnx.load(source, load_external_data=False).metadata_props:
        if item.key not in known:
            model.metadata_props.append(item)
    onnx.save(model, destination)
    integers = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return sum(node.op_type in QUANTIZED and node.input[1] in integers for node in model.graph.node)


class _Reader(CalibrationDataReader):
    """Gives the inputs to ONNX Runtime one by one."""

    def __init__(self, names: list[str], inputs: Iterable[tuple[Tensor, ...]]) -> None:
        self._names = names
        self._inputs: Iterator[tuple[Tensor, ...]] = iter(inputs)

    def get_next(self) -> dict | None:
        values = next(self._inputs, None)
        if values is None:
            return None
        return {n: v.numpy() for n, v in zip(self._names, values, strict=True)}
