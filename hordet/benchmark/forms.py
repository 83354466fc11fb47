"""The forms in which `hordet benchmark runtimes` measures a model."""

from typing import NamedTuple


class Form(NamedTuple):
    """A runtime and the numbers that it computes with.

    Attributes:
        title: For people.
        file: The exported file; None: PyTorch's model itself.
    """

    title: str
    file: str | None = None


FORMS = {
    "eager": Form("PyTorch, eager"),
    "compiled": Form("PyTorch, compiled regions"),
    "onnx": Form("ONNX Runtime", "model.onnx"),
    "onnx-fp16": Form("ONNX Runtime, weights in fp16", "model.fp16.onnx"),
    "onnx-int8": Form("ONNX Runtime, int8", "model.int8.onnx"),
    "openvino": Form("OpenVINO", "model.xml"),
    "openvino-fp16": Form("OpenVINO, weights in fp16", "model.fp16.xml"),
}
