"""OpenVINO's files: made from ONNX, and run on the CPU."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from hordet.errors import ExportError
from hordet.export.exported_file import METADATA, ExportedFile, describe_runtime_error
from hordet.ops.files import replace_whole


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ExportError(
            "OpenVINO's files need OpenVINO: pip install -e '.[openvino]' in a checkout of hordet, "
            "or pip install openvino"
        ) from error
    return openvino


@functools.cache
def _get_core() -> Any:
    """Return the core of this process, which lives as long as the process.

    OpenVINO's CPU plugin gives the thread that starts it a stack for signals. When the last user
    of the plugin goes in another thread, the stack is unmapped but stays the thread's own, and the
    next signal that Python handles (SIGCHLD, SIGTERM) ends the process with SIGSEGV.
    """
    return _import_openvino().Core()


def _name(openvino: Any) -> str:
    """Return the runtime's name with its version, without the number of the build."""
    return f"OpenVINO {openvino.__version__.partition('-')[0]}"


def write_openvino(source: Path, path: Path, metadata: dict[str, Any]) -> None:
    """Write an ONNX file as OpenVINO's, in float32.

    Args:
        source: The ONNX file.
        path: The `.xml` file; the weights lie beside it in a `.bin` file of the same name.
        metadata: Written into the file, as JSON under `METADATA` of its run-time information.

    Raises:
        ExportError: OpenVINO is not installed, or lacks an operator.
    """
    openvino = _import_openvino()
    try:
        model = _get_core().read_model(source)
    except Exception as error:  # its exceptions have no common class
        raise ExportError(
            f"{_name(openvino)} cannot convert this model: {describe_runtime_error(error)}"
        ) from error
    model.set_rt_info(json.dumps(metadata), [METADATA])
    openvino.save_model(model, path, compress_to_fp16=False)


def compress_openvino(source: Path, destination: Path) -> int:
    """Write an OpenVINO file with its weights in float16; what is sensitive stays in float32.

    Args:
        source: An `.xml` file of `write_openvino`.
        destination: The `.xml` file to write.

    Returns:
        The number of weights that are in float16.

    Raises:
        ExportError: OpenVINO is not installed.
    """
    openvino = _import_openvino()
    core = _get_core()
    with replace_whole(destination.with_suffix(".bin")), replace_whole(destination) as unfinished:
        openvino.save_model(core.read_model(source), unfinished, compress_to_fp16=True)
    constants = [
        item.get_output_tensor(0)
        for item in core.read_model(destination).get_ops()
        if item.get_type_name() == "Constant"
    ]
    halves = [each.shape for each in constants if each.element_type == openvino.Type.f16]
    return sum(math.prod(shape) for shape in halves)


class OpenVinoFile(ExportedFile):
    """An OpenVINO file (`.xml`, with its `.bin` beside it) that hordet wrote, run by OpenVINO."""

    def _import_runtime(self) -> None:
        self.runtime = _name(_import_openvino())

    def _open(self, path: Path) -> str | None:
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise ExportError(f"{path} needs {weights.name} beside it: copy both, or export again")
        core = _get_core()
        model = core.read_model(path)
        # On CPUs that have bfloat16, OpenVINO would otherwise compute in it.
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
        }
        self._compiled = core.compile_model(model, "CPU", options)
        self.inputs = [item.any_name for item in model.inputs]
        self.outputs = [item.any_name for item in model.outputs]
        return str(model.get_rt_info([METADATA]).value) if model.has_rt_info([METADATA]) else None

    def _run(self, arrays: list[NDArray]) -> list[NDArray]:
        found = self._compiled(arrays)
        return [found[i].copy() for i in range(len(self.outputs))]

    def _describe_inputs(self) -> dict[str, Any]:
        return {item.any_name: str(item.partial_shape) for item in self._compiled.inputs}
