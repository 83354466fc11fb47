"""Runs an exported file in its runtime, alone or in place of a model's network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor, nn

from hordet.errors import ExportError
from hordet.export.exported_file import METADATA, ExportedFile
from hordet.export.openvino_file import OpenVinoFile
from hordet.ops.unwrapping import unwrap_model


class OnnxFile(ExportedFile):
    """An ONNX file that hordet wrote, run by ONNX Runtime; see `ExportedFile`."""

    def _import_runtime(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                "ONNX files need ONNX Runtime: pip install -e '.[export]' in a checkout of hordet, "
                "or pip install onnx onnxruntime onnxscript"
            ) from error
        self._onnxruntime = onnxruntime
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"

    def _open(self, path: Path) -> str | None:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # On a busy machine, threads that wait by spinning slow each other down by seconds.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = self._onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [item.name for item in self._session.get_inputs()]
        self.outputs = [item.name for item in self._session.get_outputs()]
        return self._session.get_modelmeta().custom_metadata_map.get(METADATA)

    def _run(self, arrays: list[NDArray]) -> list[NDArray]:
        return self._session.run(self.outputs, dict(zip(self.inputs, arrays, strict=True)))

    def _describe_inputs(self) -> dict[str, Any]:
        return {item.name: item.shape for item in self._session.get_inputs()}


def open_exported(path: str | Path) -> ExportedFile:
    """Open a `.onnx` or `.xml` file that hordet wrote, in its runtime.

    Raises:
        ExportError: As `ExportedFile`.
    """
    return OpenVinoFile(path) if Path(path).suffix.lower() == ".xml" else OnnxFile(path)


def predict_with(model: nn.Module, path: str | Path, classes: Sequence[str] = ()) -> None:
    """Let a file compute the outputs of a model's network; the rest stays the model's.

    Preprocessing, sliding windows, test-time augmentation, pasting of masks and metrics do not
    change. The layers that the file replaces are removed from the model.

    Args:
        model: A detector or segmentor, changed in place.
        path: A whole export of the same config.
        classes: Names of the data's classes; those of the file must be the same, if both are known.

    Raises:
        ExportError: As `ExportedFile`, or the file belongs to another kind of model, has other
            classes, no masks, or takes images that are normalized otherwise.
    """
    inner = unwrap_model(model)
    file = open_exported(path)
    detector = isinstance(inner, BaseDetector)
    kind = "detections" if detector else "segmentation"
    wanted = ["boxes"] if detector else ["logits"]
    if detector and inner.roi_head.with_mask:
        wanted.append("mask_logits")
    if file.metadata["kind"] != kind or not {*wanted} <= {*file.outputs}:
        raise ExportError(
            f"{path} gives {', '.join(file.outputs)}, and {type(inner).__name__} needs "
            f"{' and '.join(wanted)}: export the whole model of this config, without --labels"
        )
    count = inner.roi_head.bbox_head.num_classes if detector else inner.num_classes
    if file.metadata.get("num_classes") != count:
        raise ExportError(
            f"{path} has {file.metadata.get('num_classes')} classes, and the config has {count}: "
            "use the config it was exported with"
        )
    known = file.metadata.get("classes") or ()
    if known and classes and [*known] != [*classes]:
        wrong = next(pair for pair in zip(known, classes, strict=False) if pair[0] != pair[1])
        raise ExportError(
            f"{path} has other classes than the config's test data: {wrong[0]!r} in the place of "
            f"{wrong[1]!r}. Use the config it was exported with"
        )
    _check_normalization(inner.data_preprocessor, file)
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


def _check_normalization(preprocessor: Any, file: ExportedFile) -> None:
    """Refuse a file whose model was given images of another mean, deviation or channel order."""
    given = file.metadata.get("preprocessing") or {}
    swaps = bool(given.get("bgr_to_rgb") or given.get("rgb_to_bgr"))
    own = getattr(
        preprocessor, "_channel_conversion", getattr(preprocessor, "channel_conversion", swaps)
    )
    if swaps != bool(own):
        raise ExportError(
            f"{file.path} {'swaps' if swaps else 'keeps'} the order of an image's channels, and "
            f"the config {'swaps' if own else 'keeps'} it (bgr_to_rgb): use the config it was "
            "exported with"
        )
    for name in ("mean", "std"):
        want = given.get(name)
        got = getattr(preprocessor, name, None)
        if want is None or got is None:
            continue
        if got.flatten().tolist() != torch.tensor(want, dtype=got.dtype).tolist():
            raise ExportError(
                f"{file.path} is for images with {name} {list(want)}, and the config has "
                f"{[round(value, 4) for value in got.flatten().tolist()]}: use the config it was "
                "exported with"
            )


def _detect(
    model: Any,
    file: ExportedFile,
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
