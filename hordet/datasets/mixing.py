"""Samples that are made of several images: mosaic and copy-paste, with a last part without mosaic.

The transforms are mmdet's and mmseg's. Here they learn what these leave out: masks in a mosaic,
images of different sizes in copy-paste, and an end of the mosaic that loader workers see and that a
resumed run repeats.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.datasets.dataset_wrappers import MultiImageMixDataset
from mmdet.datasets.transforms import CopyPaste as MMDetCopyPaste
from mmdet.datasets.transforms import Mosaic as MMDetMosaic
from mmdet.structures.mask import BitmapMasks

from hordet.datasets.batch_sampler import SamplePosition
from hordet.errors import DatasetError
from hordet.registry import DATASETS, TRANSFORMS

# Transforms that the last part of a training leaves out.
ENDING = ("hordet.Mosaic", "hordet.SegMosaic")


@DATASETS.register_module()
class MixDataset(MultiImageMixDataset):
    """mmdet's MultiImageMixDataset, whose mosaic ends at a place in the training.

    mmengine and mmdet end it by a hook that changes the data set. Workers have a copy of it and
    read ahead, so where the end falls would depend on their number, and a resumed run would differ.
    Here each sample tells by its own place whether it is of the last part.

    Args:
        dataset: Config of the data set of single images.
        pipeline: Transforms after its own; those with `get_indexes` get further images.
        mosaic_until: Pass over the data (`by_epoch`) or iteration at which the mosaic ends; None:
            never. A sample without a place is of the first part.
        by_epoch: The unit of `mosaic_until`.
        max_refetch: How many samples may lose all objects before this is an error.
    """

    def __init__(
        self,
        dataset: dict,
        pipeline: Sequence[dict],
        mosaic_until: int | None = None,
        by_epoch: bool = True,
        max_refetch: int = 15,
    ) -> None:
        """See the class."""
        super().__init__(dataset, pipeline, max_refetch=max_refetch)
        self.by_epoch = by_epoch
        # In shared memory, so that workers see a change of the plan.
        self._until = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.end_mosaic_at(mosaic_until)
        self._ended = False

    def end_mosaic_at(self, moment: int | None) -> None:
        """Set where the mosaic ends, here and in the data set within if that mixes images, too.

        Args:
            moment: As `mosaic_until`.
        """
        self._until[0] = torch.iinfo(torch.int64).max if moment is None else moment
        if isinstance(self.dataset, MixDataset):
            self.dataset.end_mosaic_at(moment)

    def __getitem__(self, index: int) -> Any:
        """Return a sample; in place of one that loses all its objects, another one.

        Raises:
            DatasetError: `max_refetch` samples in a row lost all their objects.
        """
        if isinstance(index, SamplePosition):  # further images of the sample are plain numbers
            moment = index.passes if self.by_epoch else index.iteration
            self._ended = moment >= int(self._until)
        for _ in range(self.max_refetch):
            results = self._mix(index)
            if results is not None:
                return results
            index = np.random.randint(len(self))
        raise DatasetError(
            f"{self.max_refetch} training samples in a row lost all their objects in the pipeline. "
            "Look at the sizes in it, or leave out mosaic, copy_paste or large_scale_jitter of the "
            "recipe"
        )

    def _mix(self, index: int) -> Any:
        results = self.dataset[index]
        for transform, kind in zip(self.pipeline, self.pipeline_types, strict=True):
            if self._ended and kind in ENDING:
                continue
            if hasattr(transform, "get_indexes"):
                found = transform.get_indexes(self.dataset)
                indexes = found if isinstance(found, Sequence) else [found]
                results["mix_results"] = [self.dataset[int(each)] for each in indexes]
            results = transform(results)
            if results is None:
                return None
            results.pop("mix_results", None)
        return results


@TRANSFORMS.register_module()
class Mosaic(MMDetMosaic):
    """mmdet's Mosaic with masks, cut back to the size of one image.

    Four images meet at a random point of a canvas of twice the size (Bochkovskiy et al. 2020,
    YOLOv4, arXiv:2004.10934, fig. 3); a window of the size of one is cut at a random place, so that
    objects keep their size. Objects outside of it are left out.

    Args:
        img_scale: Width and height to which each image is fitted, and of the result, pixels.
    """

    def __init__(self, img_scale: Sequence[int]) -> None:
        """See the class."""
        super().__init__(img_scale=(int(img_scale[0]), int(img_scale[1])))
        self._places: list[tuple] = []

    def transform(self, results: dict) -> dict:
        """Mix a sample with the three in its `mix_results`.

        Args:
            results: A sample with `img` (height, width, 3), `gt_bboxes`, `gt_bboxes_labels`,
                `gt_ignore_flags` and, if masks are loaded, `gt_masks`.
        """
        parts = [results, *results["mix_results"]]
        labels = np.concatenate([part["gt_bboxes_labels"] for part in parts])
        masks = [part.pop("gt_masks", None) for part in parts]
        # mmdet's transform drops objects; by numbers in place of labels it says which.
        ends = np.cumsum([len(part["gt_bboxes_labels"]) for part in parts])
        for part, end in zip(parts, ends, strict=True):
            number = len(part["gt_bboxes_labels"])
            part["gt_bboxes_labels"] = np.arange(end - number, end)
        self._places = []
        mixed = super().transform(results)
        width, height = self.img_scale
        left, top = np.random.randint(width + 1), np.random.randint(height + 1)
        mixed["img"] = np.ascontiguousarray(mixed["img"][top : top + height, left : left + width])
        mixed["img_shape"] = (height, width)
        boxes = mixed["gt_bboxes"]
        boxes.translate_([-left, -top])
        boxes.clip_((height, width))
        kept = ((boxes.widths > 0) & (boxes.heights > 0)).numpy()
        numbers = mixed["gt_bboxes_labels"][kept]
        mixed.update(gt_bboxes=boxes[kept], gt_ignore_flags=mixed["gt_ignore_flags"][kept])
        mixed["gt_bboxes_labels"] = labels[numbers]
        if masks[0] is not None:
            self._mix_masks(mixed, masks, numbers, ends, (left, top))
        return mixed

    def _mosaic_combine(self, *args: Any) -> tuple:
        """Note where each image goes: into the canvas, from which part of it, and its size."""
        paste, crop = super()._mosaic_combine(*args)
        self._places.append((paste, crop, args[2]))
        return paste, crop

    def _mix_masks(
        self,
        mixed: dict,
        masks: list,
        numbers: np.ndarray,
        ends: np.ndarray,
        corner: tuple[int, int],
    ) -> None:
        """Put the masks of the kept objects in, and fit the boxes to what is left of each."""
        width, height = self.img_scale
        left, top = corner
        drawn = np.zeros((len(numbers), height, width), np.uint8)
        owners = np.searchsorted(ends, numbers, side="right")
        for index, (each, place) in enumerate(zip(masks, self._places, strict=True)):
            rows = np.flatnonzero(owners == index)
            (x1, y1, x2, y2), (crop_x, crop_y, *_), (wide, high) = place
            begin_x, end_x = max(x1, left), min(x2, left + width)
            begin_y, end_y = max(y1, top), min(y2, top + height)
            if not len(rows) or begin_x >= end_x or begin_y >= end_y:
                continue
            chosen = each[numbers[rows] - (ends[index - 1] if index else 0)]
            part = to_bitmaps(chosen).resize((high, wide)).masks
            from_x, from_y = crop_x + begin_x - x1, crop_y + begin_y - y1
            drawn[rows, begin_y - top : end_y - top, begin_x - left : end_x - left] = part[
                :, from_y : from_y + end_y - begin_y, from_x : from_x + end_x - begin_x
            ]
        mixed["gt_masks"] = BitmapMasks(drawn, height, width)
        drop_hidden(mixed)


@TRANSFORMS.register_module()
class CopyPaste(MMDetCopyPaste):
    """mmdet's CopyPaste between images of any two sizes.

    Some objects of another image are pasted (Ghiasi et al., CVPR 2021, Simple Copy-Paste, section
    3). What of it does not fit into this image is left out. The image keeps its type of number.
    Objects of which fewer than 30 pixels are left, and whose box has changed by more than 10, are
    left out.

    Args:
        max_num_pasted: At most so many objects, less one.
    """

    def __init__(self, max_num_pasted: int = 100) -> None:
        """See the class."""
        super().__init__(max_num_pasted=max_num_pasted, mask_occluded_thr=30)

    def transform(self, results: dict) -> dict:
        """Paste objects of the one sample in `mix_results`.

        Args:
            results: A sample with `img` (height, width, 3), boxes, labels and masks.
        """
        dtype, shape = results["img"].dtype, results["img"].shape[:2]
        (source,) = results["mix_results"]
        for part in (results, source):
            part["gt_masks"] = to_bitmaps(part["gt_masks"])
        fit_sample(source, shape)
        pasted = super().transform(results)
        pasted["img"] = pasted["img"].astype(dtype)
        masks = pasted["gt_masks"].masks.astype(np.uint8)
        pasted["gt_masks"] = BitmapMasks(masks, *shape)
        drop_hidden(pasted)
        return pasted


@TRANSFORMS.register_module()
class SegMosaic:
    """mmseg's RandomMosaic of label maps, cut back to the size of one image.

    Args:
        img_scale: Height and width to which each image is fitted, and of the result, pixels.
    """

    def __init__(self, img_scale: Sequence[int]) -> None:
        """See the class."""
        from mmseg.datasets.transforms import RandomCrop, RandomMosaic  # detectors need none

        size = (int(img_scale[0]), int(img_scale[1]))
        self._mosaic = RandomMosaic(prob=1.0, img_scale=size)
        self._crop = RandomCrop(crop_size=size)

    def get_indexes(self, dataset: Any) -> list[int]:
        """Draw the three further images."""
        return self._mosaic.get_indices(dataset)

    def __call__(self, results: dict) -> dict:
        """Mix a sample with `img` and `gt_seg_map` with the three in its `mix_results`."""
        return self._crop(self._mosaic(results))


def to_bitmaps(masks: Any) -> BitmapMasks:
    """Return masks of either kind of mmdet as bitmaps."""
    if isinstance(masks, BitmapMasks):
        return masks
    # Polygons are drawn as bool, which OpenCV 4 does not resize.
    return BitmapMasks(masks.to_ndarray().astype(np.uint8), masks.height, masks.width)


def fit_sample(sample: dict, shape: tuple[int, int]) -> None:
    """Cut a sample at its right and lower side, or fill it up there, to a size.

    Args:
        sample: With `img`, boxes, labels, flags and bitmaps; changed in place. Objects that are cut
            away are left out.
        shape: Height and width, pixels.
    """
    image, masks = sample["img"], sample["gt_masks"].masks
    if image.shape[:2] == shape:
        return
    height, width = (min(pair) for pair in zip(image.shape[:2], shape, strict=True))
    fitted = np.zeros((*shape, *image.shape[2:]), image.dtype)
    fitted[:height, :width] = image[:height, :width]
    drawn = np.zeros((len(masks), *shape), masks.dtype)
    drawn[:, :height, :width] = masks[:, :height, :width]
    sample.update(img=fitted, img_shape=shape, gt_masks=BitmapMasks(drawn, *shape))
    drop_hidden(sample)


def drop_hidden(sample: dict) -> None:
    """Leave out objects without a pixel in their mask, and fit the boxes of the others to theirs.

    Args:
        sample: With boxes, labels, flags and bitmaps; changed in place.
    """
    seen = sample["gt_masks"].masks.any(axis=(1, 2))
    for key in ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags", "gt_masks"):
        sample[key] = sample[key][seen]
    sample["gt_bboxes"] = sample["gt_masks"].get_bboxes(type(sample["gt_bboxes"]))
