"""Transforms that load images and label maps, and say which file is wrong and what to do.

What can be seen without decoding an image is checked before the run, by `check_datasets`; the
faults here show only once a file is read.
"""

import warnings

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

import hordet.datasets.timed_backend  # noqa: F401, it registers the backend `hordet.timed`
from hordet.datasets.images import ALLOWED, decode_image
from hordet.datasets.label_maps import decode_label_map, list_values
from hordet.errors import DatasetError, DatasetWarning
from hordet.registry import TRANSFORMS

IGNORED = 255


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """mmcv's `LoadImageFromFile` by the one reader, with errors that name the file and the cure.

    Sets `img` (height, width, 3) BGR uint8, `img_shape` and `ori_shape` (height, width). The
    options are mmcv's; with another `color_type` or `imdecode_backend` than the default, mmcv
    decodes.
    """

    def transform(self, results: dict) -> dict | None:
        """Load the image `results['img_path']`.

        Args:
            results: A data sample; where it has `instances`, its `height` and `width` are those
                the annotations were made for.

        Returns:
            `results`, or None for an unreadable image if `ignore_empty` is set.

        Raises:
            DatasetError: The file is missing, cannot be decoded, or is of another size than its
                annotations.

        Warns:
            DatasetWarning: Once a process for each kind: the image is nearly black, or of floats.
        """
        try:
            loaded = self._load(results)
        except DatasetError:
            if self.ignore_empty:
                return None
            raise
        if "instances" in results:
            recorded = (results["height"], results["width"])
            if tuple(loaded["ori_shape"]) != recorded:
                raise DatasetError(
                    f"The image {results['img_path']} is {_size(loaded['ori_shape'])}, but its "
                    f"annotations were made for {_size(recorded)} (width x height). Use the "
                    "original image, or correct `width` and `height` in the annotation file."
                )
        return loaded

    def _load(self, results: dict) -> dict:
        path = results["img_path"]
        try:
            if (self.color_type, self.imdecode_backend) != ("color", "cv2"):
                loaded = super().transform(results)
                if loaded is None:  # with ignore_empty
                    raise DatasetError("cannot be read")
                return loaded
            content = fileio.get(path, backend_args=self.backend_args)
            pixels, notes = decode_image(content)
        except DatasetError as error:
            raise DatasetError(
                f"Cannot decode the image {path}: it {error}. It must be a whole JPEG, PNG or "
                f"other file that OpenCV or Pillow reads, of {ALLOWED}: fetch it again or export "
                "it so, or take it out of the annotation file."
            ) from error
        except OSError as error:
            raise DatasetError(
                f"Cannot read the image {path}: {error}. Check data_root and data_prefix of its "
                "data set, and that the file is there and may be read."
            ) from error
        except Exception as error:
            # mmcv's other backends share no type of error; whatever they raise, the file is bad.
            raise DatasetError(
                f"Cannot decode the image {path} by {self.imdecode_backend}: {str(error).strip()}. "
                "Fetch it again, or leave out imdecode_backend and color_type."
            ) from error
        for note in notes:
            warn_once(note, path)
        results["img"] = pixels.astype(np.float32) if self.to_float32 else pixels
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


_SAID: set[str] = set()


def warn_once(note: str, path: str) -> None:
    """Warn of a kind of image the first time that this process reads one.

    Args:
        note: Of `decode_image`.
        path: The image.
    """
    kind = note.partition("(")[0]
    if kind not in _SAID:
        _SAID.add(kind)
        warnings.warn(
            f"Images such as {path} {note}. This is said once; hordet check counts them.",
            DatasetWarning,
            stacklevel=4,
        )


@TRANSFORMS.register_module()
class LoadSegAnnotations(BaseTransform):
    """Load a semantic label map and check it against its image and the classes.

    Takes the place of mmseg's `LoadAnnotations`, which wraps values over 255 and hands on values
    that are no class, so that a loss fails later with an index error. Obeys `reduce_zero_label`
    (0 is left out and i + 1 becomes i, as in ADE20K) and `label_map` (a subset of the classes) of
    the data set. Sets `gt_seg_map` (height, width) uint8, 255 = ignored.

    Args:
        num_classes: Number of classes of the data set, at most 255.
        backend_args: Arguments of mmengine's file backend.
    """

    def __init__(self, num_classes: int, backend_args: dict | None = None) -> None:
        """See the class; raises ValueError for a number of classes that no uint8 map holds."""
        if not 1 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must be 1 to {IGNORED}, got {num_classes}.")
        self.num_classes = num_classes
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load the label map `results['seg_map_path']`.

        Args:
            results: A data sample of an mmseg data set, with `ori_shape` if its image is loaded.

        Returns:
            `results` with `gt_seg_map`.

        Raises:
            DatasetError: The file is missing, cannot be decoded, is no map of one channel, is of
                another size than its image, or holds a value that is no class.
        """
        path = results["seg_map_path"]
        values = self._read(path)
        expected = results.get("ori_shape", values.shape)
        if values.shape != tuple(expected):
            raise DatasetError(
                f"The label map {path} is {_size(values.shape)}, its image "
                f"{results.get('img_path')} is {_size(expected)} (width x height). Both must have "
                "one size: export the map at the size of the image, without interpolation."
            )
        results["gt_seg_map"] = self._to_classes(values, results)
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results

    def _read(self, path: str) -> np.ndarray:
        """Integer values of a label map, (height, width)."""
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise DatasetError(
                f"Cannot read the label map {path}: {error}. Check data_root, data_prefix and "
                "seg_map_suffix of its data set, and that the file is there and may be read."
            ) from error
        try:
            return decode_label_map(content, path)
        except DatasetError as error:
            raise DatasetError(f"The label map {path} {error}") from error

    def _to_classes(self, values: np.ndarray, results: dict) -> np.ndarray:
        """Map the values of a file to classes, (height, width) uint8."""
        reduce_zero_label = results.get("reduce_zero_label", False)
        label_map = results.get("label_map") or {}
        # With a subset of the classes, the file still speaks of all of them.
        known = len(label_map) or self.num_classes
        first = int(reduce_zero_label)
        allowed = np.isin(values, [0, IGNORED]) | ((values >= first) & (values < first + known))
        if not allowed.all():
            wrong = np.unique(values[~allowed])
            raise DatasetError(
                f"The label map {results['seg_map_path']} holds {list_values(wrong)}, but with "
                f"{known} classes and reduce_zero_label={reduce_zero_label} the values are "
                f"{first} to {first + known - 1}, and {IGNORED}"
                + (
                    " or 0 for pixels to ignore. "
                    if reduce_zero_label
                    else " for pixels to ignore. "
                )
                + self._cure(wrong, known, reduce_zero_label)
            )
        lookup = np.full(IGNORED + 1, IGNORED, np.uint8)
        lookup[first : first + known] = [label_map.get(k, k) for k in range(known)]
        return lookup[values]

    @staticmethod
    def _cure(wrong: np.ndarray, known: int, reduce_zero_label: bool) -> str:
        """What to do about values that are no class."""
        if not reduce_zero_label and wrong.tolist() == [known]:
            return (
                'If 0 means "other" and classes count from 1, set reduce_zero_label=True in the '
                "data set; otherwise correct num_classes and the data set's classes."
            )
        return "Correct num_classes and the data set's classes, or write 255 where there is none."

    def __repr__(self) -> str:
        """The call that makes this transform."""
        return f"{type(self).__name__}(num_classes={self.num_classes})"


def _size(shape: tuple[int, ...]) -> str:
    """'640x480' for (480, 640)."""
    return f"{shape[1]}x{shape[0]}"
