"""Predictions of one image in little memory: arrays, and masks as run lengths.

An image of 100 detections takes about 20 kB; its dense masks of 480 x 640 would take 30 MB.
"""

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hordet.datasets.checks.coco import check_file, check_masks
from hordet.datasets.formats.coco import is_id, is_size, read_coco, read_json
from hordet.datasets.plain_copies import fit_annotations
from hordet.errors import DatasetError, DatasetWarning, EvaluationError, list_first
from hordet.ops.run_lengths import encode_mask, encode_segmentation, find_bad_counts


@dataclass
class ImageResult:
    """The detections of one image.

    Attributes:
        image_id: Id of the image in the annotation file.
        size: Height and width of the image, in pixels.
        boxes: Boxes (N, 4) as left, top, width, height, in pixels and double precision.
        scores: Confidences (N,).
        categories: Category ids (N,).
        masks: COCO's compressed run lengths (N); None without masks.
        mask_scores: Confidences of the masks (N,), if a model scores masks separately.
    """

    image_id: int
    size: tuple[int, int]
    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    categories: NDArray[np.integer]
    masks: list[bytes] | None = None
    mask_scores: NDArray[np.floating] | None = None

    def get_scores(self, iou_type: str) -> NDArray[np.floating]:
        """Return the scores that rank this image's boxes ('bbox') or masks ('segm')."""
        return self.scores if iou_type == "bbox" or self.mask_scores is None else self.mask_scores

    def get_run_lengths(self) -> list[dict[str, Any]]:
        """Return the masks as COCO's dicts of size and counts."""
        return [{"size": list(self.size), "counts": counts} for counts in self.masks or []]

    def check(self) -> None:
        """Check that an average precision can be computed.

        Raises:
            EvaluationError: A score or box is not finite, or the numbers of boxes, scores,
                categories and masks differ.
        """
        arrays = {"boxes": self.boxes, "scores": self.scores, "mask scores": self.mask_scores}
        for name, array in arrays.items():
            if array is not None and not np.isfinite(array).all():
                bad = int((~np.isfinite(array.reshape(len(array), -1)).all(axis=1)).sum())
                raise EvaluationError(
                    f"image {self.image_id}: {bad} of {len(array)} {name} are NaN or infinite, so "
                    "detections cannot be ranked. The training has probably diverged: test an "
                    "earlier checkpoint, or lower the learning rate."
                )
        lengths = {
            "boxes": len(self.boxes),
            "scores": len(self.scores),
            "categories": len(self.categories),
            **({} if self.masks is None else {"masks": len(self.masks)}),
        }
        if len(set(lengths.values())) > 1:
            got = ", ".join(f"{number} {name}" for name, number in lengths.items())
            raise EvaluationError(
                f"image {self.image_id} has {got}; each detection needs one of each."
            )


def encode_masks(masks: Any, size: tuple[int, int], image_id: int) -> list[bytes]:
    """Encode the masks of an image; masks that are run lengths already are returned unchanged.

    Args:
        masks: Dense masks (N, H, W), a tensor or array of bool or uint8, or N dicts of COCO.
        size: Height and width of the image.
        image_id: Id of the image, for the message.

    Raises:
        EvaluationError: A mask does not have the size of the image.
    """
    if hasattr(masks, "detach"):
        masks = masks.detach().cpu().numpy()
    sizes = {tuple(mask["size"]) if isinstance(mask, Mapping) else mask.shape for mask in masks}
    if sizes - {tuple(size)}:
        got = " and ".join(str(item) for item in sorted(sizes - {tuple(size)}))
        raise EvaluationError(
            f"image {image_id}: masks of (height, width) {got}, but the image has {tuple(size)}. "
            "Predict masks at the original size (rescale=True), or correct the image's height "
            "and width in the annotation file."
        )
    if len(masks) and isinstance(masks[0], Mapping):
        counts = [mask["counts"] for mask in masks]
        return [item.encode() if isinstance(item, str) else item for item in counts]
    dense = np.ascontiguousarray(masks).view(np.uint8) if len(masks) else ()
    return [encode_mask(mask)["counts"] for mask in dense]


def iterate_coco_items(result: ImageResult, iou_type: str) -> Iterator[dict[str, Any]]:
    """Yield COCO's result dicts of an image; dicts of masks hold the box too."""
    boxes = result.boxes.tolist()
    scores = result.get_scores(iou_type).tolist()
    for i, category in enumerate(result.categories.tolist()):
        item = {"image_id": result.image_id, "bbox": boxes[i], "score": scores[i]}
        item["category_id"] = category
        if iou_type == "segm" and result.masks is not None:
            counts = result.masks[i].decode()
            item["segmentation"] = {"size": list(result.size), "counts": counts}
        yield item


class ResultFile:
    """COCO's result file, written image by image, one detection on each line.

    Args:
        path: The file; replaced.
        iou_type: 'bbox' or 'segm'.
    """

    def __init__(self, path: str | Path, iou_type: str) -> None:
        """Begin the file."""
        self._file = Path(path).open("w")
        self._iou_type = iou_type
        self._separator = "[\n"

    def add(self, result: ImageResult) -> None:
        """Write the detections of an image."""
        for item in iterate_coco_items(result, self._iou_type):
            self._file.write(self._separator + json.dumps(item))
            self._separator = ",\n"

    def close(self) -> None:
        """End the file."""
        self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
        self._file.close()


def write_results(path: str | Path, results: Iterable[ImageResult], iou_type: str) -> None:
    """Write COCO's result file without building the list in memory."""
    file = ResultFile(path, iou_type)
    for result in results:
        file.add(result)
    file.close()


def read_truth(
    path: str | Path, iou_type: str = "bbox", needed: Sequence[str] = ()
) -> dict[str, Any]:
    """Read COCO's annotation file as `hordet check` does, without its images.

    Args:
        path: The file.
        iou_type: 'bbox' or 'segm': what is scored. Masks need the sizes of their images.
        needed: What else each image must have: 'file_name', for whoever opens the images.

    Raises:
        EvaluationError: The file cannot be read, is no annotation file, or images, categories or
            objects in it are faulty; the message says which.

    Warns:
        DatasetWarning: What was computed, left out, or is faulty in a few objects.
    """
    path, with_mask = Path(path), iou_type == "segm"
    try:
        file = read_coco(path, path.parent, named="the path")
    except DatasetError as error:
        raise EvaluationError(str(error)) from error
    tolerated = "Of no image or category of the file they are left out, else scored as they are."
    needed = (*needed, *(("height", "width") if with_mask else ()))
    found = check_file(file, needed=needed, tolerated=tolerated)
    if not found.errors and with_mask and file.annotations:
        check_masks(found, file)
    if found.errors:
        raise EvaluationError(" ".join(found.errors))
    for caution in found.warnings:
        warnings.warn(caution, DatasetWarning, stacklevel=2)
    return fit_annotations(file, None, with_mask)[0]


def read_results(path: str | Path, truth: dict[str, Any], iou_type: str) -> list[ImageResult]:
    """Read COCO's result file of boxes or masks.

    Args:
        path: The file.
        truth: Content of the annotation file, for the sizes of the images.
        iou_type: 'bbox' or 'segm': what each detection must have.

    Raises:
        EvaluationError: The file is cut short, is not a result file, or is of other images.
    """
    items = _read_json(path)
    if not isinstance(items, list):
        raise EvaluationError(
            f"{path} is not a COCO result file: it must hold a list of detections, got "
            f"{type(items).__name__}. The annotation file is a separate argument."
        )
    part = "bbox" if iou_type == "bbox" else "segmentation"
    by_image: dict[int, list[dict]] = {}
    for index, item in enumerate(items):
        _require_detection(item, part, f"{path}: detection {index}")
        by_image.setdefault(item["image_id"], []).append(item)
    images = {image["id"]: image for image in truth["images"]}
    check_ids(by_image, images)
    known = {category["id"] for category in truth["categories"]}
    strange = {item["category_id"] for item in items} - known
    if strange:
        raise EvaluationError(
            f"{path} has detections of category ids {sorted(strange)[:5]}, which the annotation "
            f"file does not have; it has {sorted(known)[:5]} and so on. Category ids are not "
            "labels counted from 0: write COCO's category ids."
        )
    results = []
    for key, group in by_image.items():
        try:
            results.append(_make_result(images[key], group, iou_type))
        except EvaluationError as error:
            raise EvaluationError(f"{path}, {error}") from error
    return results


def _require_detection(item: Any, part: str, where: str) -> None:
    """Check the form of a detection; what image and category it is of is checked later.

    Raises:
        EvaluationError: A key is missing, or its value is of another type.
    """
    wanted = ("image_id", "category_id", "score", part)
    lacks = [key for key in wanted if not isinstance(item, dict) or key not in item]
    if lacks:
        raise EvaluationError(
            f"{where} lacks {', '.join(lacks)}. To score "
            f"{'boxes' if part == 'bbox' else 'masks'}, each needs {', '.join(wanted)}."
        )
    for key in ("image_id", "category_id"):
        if isinstance(item[key], float) and item[key].is_integer():
            item[key] = int(item[key])
    box, mask = item.get("bbox", [0] * 4), item.get("segmentation")
    faults = {
        "image_id": None if is_id(item["image_id"]) else "a whole number",
        "category_id": None if is_id(item["category_id"]) else "a whole number",
        "score": None if _is_real(item["score"]) else "a number",
        "bbox": None
        if isinstance(box, list) and len(box) == 4 and all(map(_is_real, box))
        else "four numbers, x, y, width, height",
    }
    if part == "segmentation" and not _is_mask(mask):
        faults[part] = "COCO's run lengths, dict(size=[height, width], counts=...), no polygons"
    for key, allowed in faults.items():
        if allowed:
            raise EvaluationError(
                f"{where} has {key}={str(item[key])[:60]!r}; it must be {allowed}. Write it so."
            )


def _is_real(value: Any) -> bool:
    """Tell whether a value is a number; NaN, of which a diverged training is told later, is one."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float)


def _is_mask(value: Any) -> bool:
    """Tell whether a value has the form of run lengths, compressed or not."""
    if not isinstance(value, dict):
        return False
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(is_size, size)):
        return False
    if isinstance(counts, str):
        return counts.isascii()
    return isinstance(counts, list) and all(map(is_id, counts))


def _read_json(path: str | Path) -> Any:
    try:
        return read_json(Path(path))[0]
    except DatasetError as error:
        raise EvaluationError(str(error)) from error


def check_ids(image_ids: Iterable[int], known: Mapping[int, Any] | Sequence[int]) -> None:
    """Check that the annotation file has all images that were predicted.

    Raises:
        EvaluationError: It lacks some.
    """
    strange = [key for key in image_ids if key not in known]
    if strange:
        raise EvaluationError(
            f"{len(strange)} predicted images are not in the annotation file: image ids "
            f"{list_first(strange)}. Use the annotation file of the predicted images."
        )


def _make_result(image: dict[str, Any], items: list[dict], iou_type: str) -> ImageResult:
    """Make the result of an image from COCO's result dicts."""
    # Boxes are scored without the size of their image.
    size = (image.get("height") or 0, image.get("width") or 0)
    masks = None
    boxes = np.zeros((len(items), 4))
    if iou_type == "segm":
        masks = encode_masks([item["segmentation"] for item in items], size, image["id"])
        masks = _require_whole_masks(masks, size, image["id"])
    if all("bbox" in item for item in items):
        boxes = np.array([item["bbox"] for item in items], dtype=np.float64)
    result = ImageResult(
        image["id"],
        size,
        boxes,
        np.array([item["score"] for item in items], dtype=np.float64),
        np.array([item["category_id"] for item in items]),
        masks,
    )
    result.check()
    return result


def _require_whole_masks(
    masks: Sequence[bytes | list[int]], size: tuple[int, int], image_id: int
) -> list[bytes]:
    """Return compressed run lengths that fill their image; those that are lists get compressed.

    Raises:
        EvaluationError: Some do not.
    """
    pixels = size[0] * size[1]
    plain = [runs for runs in masks if isinstance(runs, list)]
    bad = sum(min(runs, default=-1) < 0 or sum(runs) != pixels for runs in plain)
    bad += len(
        find_bad_counts([m.decode("latin-1") for m in masks if isinstance(m, bytes)], pixels)
    )
    if bad:
        raise EvaluationError(
            f"image {image_id}: {bad} of {len(masks)} masks have run lengths (counts) that are "
            f"damaged or do not fill {size[0]} x {size[1]} pixels. Write the results again."
        )
    return [
        encode_segmentation(dict(size=list(size), counts=runs), size)["counts"]
        if isinstance(runs, list)
        else runs
        for runs in masks
    ]
