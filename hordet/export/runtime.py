"""Runs an exported file in ONNX Runtime, alone or in place of a model's network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.structures import InstanceData
from torch import Tensor, nn

from hordet.errors import ExportError
from hordet.export.program import METADATA


class OnnxFile:
    """An ONNX file that hordet wrote, run by ONNX Runtime on the CPU.

    Args:
        path: The file.

    Attributes:
        outputs: Names of the outputs.
        metadata: What hordet wrote into the file: 'kind' ('detections', 'segmentation' or
            'features'), 'num_classes', 'classes' by name, and 'preprocessing', the settings of the
            data preprocessor ('mean', 'std', 'bgr_to_rgb', 'pad_size_divisor').

    Raises:
        ExportError: ONNX Runtime is not installed, or the file is missing, damaged or was not
            written by hordet.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                "ONNX files need ONNX Runtime: pip install -e '.[export]' in the folder of hordet"
            ) from error
        if not Path(path).is_file():
            raise ExportError(f"no file at {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # On a busy machine, threads that wait by spinning slow each other down by seconds.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common class
            raise ExportError(
                f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: "
                f"{' '.join(str(error).split())[:400]}. Export it again, or install a newer one"
            ) from error
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        if text is None:
            raise ExportError(
                f"{path} is an ONNX file, but `hordet export` did not write it, so its inputs and "
                "outputs are unknown: export the model by `hordet export`"
            )
        self.path = str(path)
        self.metadata: dict[str, Any] = json.loads(text)
        self._inputs = [item.name for item in self._session.get_inputs()]
        self.outputs = [item.name for item in self._session.get_outputs()]

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
        arrays = {
            name: value.numpy(force=True) for name, value in zip(self._inputs, inputs, strict=True)
        }
        try:
            outputs = self._session.run(self.outputs, arrays)
        except Exception as error:
            shapes = {name: list(array.shape) for name, array in arrays.items()}
            made = {item.name: item.shape for item in self._session.get_inputs()}
            raise ExportError(
                f"{self.path} does not accept inputs of {shapes}; it was made for {made}: "
                f"{' '.join(str(error).split())[:400]}"
            ) from error
        return {name: torch.from_numpy(a) for name, a in zip(self.outputs, outputs, strict=True)}


def predict_with(model: nn.Module, path: str | Path) -> None:
    """Let a file compute the outputs of a model's network; the rest stays the model's.

    Preprocessing, sliding windows, test-time augmentation, pasting of masks and metrics do not
    change. The layers that the file replaces are removed from the model.

    Args:
        model: A detector or segmentor, changed in place.
        path: A whole export of the same config.

    Raises:
        ExportError: As `OnnxFile`, or the file belongs to another kind of model or has another
            number of classes.
    """
    inner: Any = model  # mmdet's and mmseg's classes have no type annotations
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    file = OnnxFile(path)
    detector = isinstance(inner, BaseDetector)
    kind = "detections" if detector else "segmentation"
    wanted = "boxes" if detector else "logits"
    if file.metadata["kind"] != kind or wanted not in file.outputs:
        raise ExportError(
            f"{path} gives {', '.join(file.outputs)}, and {type(inner).__name__} needs {wanted}: "
            "export the whole model of this config, without --labels"
        )
    count = inner.roi_head.bbox_head.num_classes if detector else inner.num_classes
    if file.metadata["num_classes"] != count:
        raise ExportError(
            f"{path} has {file.metadata['num_classes']} classes, and the config has {count}: "
            "use the config it was exported with"
        )
    if detector:
        inner.predict = lambda *args, **options: _detect(inner, file, *args, **options)
        emptied: Mapping[nn.Module, tuple[str, ...]] = {
            inner: ("backbone", "neck", "rpn_head"),
            inner.roi_head: ("bbox_head",),
        }
    else:
        inner.encode_decode = lambda images, metas: file(images)["logits"]
        emptied = {inner: ("backbone", "neck", "auxiliary_head")}
    for owner, names in emptied.items():
        for name in names:
            if hasattr(owner, name):
                setattr(owner, name, None)


def _detect(
    model: Any,
    file: OnnxFile,
    batch_inputs: Tensor,
    batch_data_samples: list[DetDataSample],
    rescale: bool = True,
) -> list[DetDataSample]:
    """Predict as mmdet's TwoStageDetector does, one image at a time."""
    results = []
    head = model.roi_head
    for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
        meta = sample.metainfo
        found = file(image[None], image.new_tensor(meta["img_shape"][:2]))
        result = InstanceData(bboxes=found["boxes"], scores=found["scores"], labels=found["labels"])
        if head.with_mask:
            # The head chooses each object's class; there is one mask for all of them.
            masks = found["mask_logits"][:, None].expand(-1, head.mask_head.num_classes, -1, -1)
            [result] = head.mask_head.predict_by_feat(
                (masks,), [result], [meta], head.test_cfg, rescale=rescale
            )
        elif rescale and len(result):
            result.bboxes = scale_boxes(result.bboxes, [1 / s for s in meta["scale_factor"]])
        results.append(result)
    return model.add_pred_to_datasample(batch_data_samples, results)
