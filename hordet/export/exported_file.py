"""What the files of all runtimes have in common: hordet's metadata, and words for what fails."""

import json
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hordet.errors import ExportError

# The key of a file's metadata under which hordet keeps its own, as JSON.
METADATA = "hordet"
# Raised when a reader of older files could not use a newer one.
FORMAT = 1

# In these words ONNX Runtime and OpenVINO report an operator that they lack.
_LACKED = (
    r"(?:Could not find an implementation for|No Op registered for) ([\w.:]+)",
    r"([\w.:]+)\(-?\d+\) is not a registered function/op",
    r"does not support the following ONNX operations: ([\w.:, ]+)",
    r"No conversion rule (?:found )?for (?:operations?|operators?)?:? ?([\w.:, ]+)",
)
# Which export does without an operator.
_WITHOUT = {
    "DFT": "--transform dft, which computes global filters by products of real matrices",
    "NonMaxSuppression": "--part features, backbone and neck alone",
    "RoiAlign": "--part features, backbone and neck alone",
    "NonZero": "--part features, backbone and neck alone",
}


class ExportedFile(ABC):
    """A file that hordet wrote, run by its runtime on the CPU.

    Args:
        path: The file.

    Attributes:
        path: The file.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        metadata: What hordet wrote into the file: 'kind' ('detections', 'segmentation' or
            'features'), 'num_classes', 'classes' by name, 'preprocessing', the settings of the data
            preprocessor ('mean', 'std', 'bgr_to_rgb', 'pad_size_divisor'), and what
            `hordet.export.exporter.make_metadata` names besides.

    Raises:
        ExportError: The runtime is not installed, or the file is missing, damaged, of a newer
            hordet or was not written by hordet.
    """

    runtime: str  # its name, for people
    inputs: list[str]
    outputs: list[str]

    def __init__(self, path: str | Path) -> None:
        """Open the file."""
        self._import_runtime()
        if not Path(path).is_file():
            raise ExportError(f"no file at {path}")
        self.path = str(path)
        try:
            text = self._open(Path(path))
        except ExportError:
            raise
        except Exception as error:  # the exceptions of runtimes have no common class
            raise ExportError(
                f"{self.runtime} cannot open {path}: {describe_runtime_error(error)}"
            ) from error
        self.metadata = read_metadata(text, self.path)

    @abstractmethod
    def _import_runtime(self) -> None:
        """Import the runtime, and keep it.

        Raises:
            ExportError: It is not installed.
        """

    @abstractmethod
    def _open(self, path: Path) -> str | None:
        """Open the file, set `inputs` and `outputs`, and return hordet's metadata as JSON."""

    @abstractmethod
    def _run(self, arrays: list[NDArray]) -> list[NDArray]:
        """Run the graph on an array for each input; return one for each output."""

    @abstractmethod
    def _describe_inputs(self) -> dict[str, Any]:
        """Return the shape of each input that the file was made for."""

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            inputs: Images (N, 3, H, W) from the data preprocessor. For detections N is 1, and a
                second input (2,), float, is the height and width without padding.

        Returns:
            The outputs by name.

        Raises:
            ExportError: The file does not accept these inputs, such as images of another size.
        """
        arrays = [value.numpy(force=True) for value in inputs]
        try:
            outputs = self._run(arrays)
        except Exception as error:
            shapes = {
                name: list(array.shape) for name, array in zip(self.inputs, arrays, strict=True)
            }
            raise ExportError(
                f"{self.path} does not accept inputs of {shapes}; it was made for "
                f"{self._describe_inputs()}: {' '.join(str(error).split())[:400]}"
            ) from error
        return {name: torch.from_numpy(a) for name, a in zip(self.outputs, outputs, strict=True)}


def read_metadata(text: str | None, path: str) -> dict[str, Any]:
    """Return hordet's metadata of a file.

    Args:
        text: As JSON; None if the file has none.
        path: Of the file, for messages.

    Raises:
        ExportError: The file is not hordet's, or is of a newer one.
    """
    if text is None:
        raise ExportError(
            f"{path} can be opened, but `hordet export` did not write it, so its inputs and "
            "outputs are unknown: export the model by `hordet export`"
        )
    try:
        metadata = dict(json.loads(text))
        newer = metadata.get("format", FORMAT) > FORMAT
    except (ValueError, TypeError) as error:
        raise ExportError(f"what hordet wrote into {path} is damaged: export it again") from error
    if newer:
        raise ExportError(
            f"{path} was written by hordet {metadata.get('version')} in form {metadata['format']}, "
            f"and this hordet reads forms up to {FORMAT}: update hordet, or export the model again"
        )
    if "kind" not in metadata:
        raise ExportError(f"what hordet wrote into {path} is damaged, no kind: export it again")
    return metadata


def describe_runtime_error(error: Exception) -> str:
    """Return why a runtime cannot open a file: the operator that it lacks and a way around it."""
    words = " ".join(str(error).split())
    for pattern in _LACKED:
        if found := re.search(pattern, words):
            name = re.split("[.:]", found[1].strip(" ,.:"))[-1]
            way = _WITHOUT.get(name, "--static, or --part features, which has no heads")
            return (
                f"it lacks the operator {name}. Install a newer one, or export again with {way} "
                f"({words[:300]})"
            )
    return (
        f"{words[:400]}. If the file is whole, install a newer runtime; if it may be cut short, or "
        "is no export, copy or export it again"
    )
