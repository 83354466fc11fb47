"""Detection in large images: patch by patch and as a whole, merged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import nn

from hordet.datasets.tiles import Tiles
from hordet.inference.merging import DetectionMerger
from hordet.ops.run_lengths import encode_crop, encode_mask
from hordet.registry import MODELS


@MODELS.register_module()
class SlicedDetector(BaseTTAModel):
    """A detector that looks at overlapping patches of an image, and at the whole.

    Small objects are seen at their own resolution, large ones as a whole (SAHI; Akyon et al., ICIP
    2022). Each patch goes through the test pipeline as if it were an image. Masks become run
    lengths of the image batch by batch, so memory is that of one batch of patches. In the look at
    the whole the masks are dense before that, unless the mask head is a `hordet.RleMaskHead`.

    Args:
        module: The detector, or its config.
        pipeline: Transforms of an image that is loaded, up to its packing, or their configs.
        patch_size: Height and width of a patch in pixels of the image, or one number for both.
        patch_overlap_ratio: Share of a patch that its neighbor has too. An object smaller than
            that lies in one patch as a whole.
        full_image: Also look at the whole image, for objects that no patch holds.
        merge_type: As DetectionMerger has it, and so the next two.
        match_metric: What measures the overlap of boxes.
        match_threshold: Least overlap of boxes that are one object's.
        batch_size: Patches at once.

    Raises:
        ValueError: A setting is not what it may be.
    """

    def __init__(
        self,
        module: dict[str, Any] | nn.Module,
        pipeline: Sequence[Any],
        patch_size: int | Sequence[int] = 640,
        patch_overlap_ratio: float = 0.25,
        full_image: bool = True,
        merge_type: str = "tiles",
        match_metric: str = "IOS",
        match_threshold: float = 0.5,
        batch_size: int = 1,
    ) -> None:
        """Build the detector."""
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be a whole number above 0")
        super().__init__(module)
        self.pipeline = Compose(pipeline)
        self.patches = Tiles(patch_size, patch_overlap_ratio)
        self.full_image = full_image
        self.merge = DetectionMerger(merge_type, match_metric, match_threshold)
        self.batch_size = batch_size

    def test_step(self, data: dict[str, Any]) -> list[DetDataSample]:
        """Predict a batch of images.

        Args:
            data: `inputs`, images (C, H, W) as they were loaded, and `data_samples`.

        Returns:
            The data samples with `pred_instances`, whose masks are COCO's run lengths.
        """
        pairs = zip(data["inputs"], data["data_samples"], strict=True)
        found = [self._look(image.permute(1, 2, 0).numpy(), sample) for image, sample in pairs]
        for sample, merged in zip(data["data_samples"], self.merge_preds(found), strict=True):
            sample.pred_instances = merged
        return data["data_samples"]

    def merge_preds(self, data_samples_list: list[list[InstanceData]]) -> list[InstanceData]:
        """Merge what was found in the patches of each image, in the image's pixels.

        An image that fits one patch is predicted as without patches: nothing is merged.
        """
        merged = [
            self.merge(InstanceData.cat(found)) if len(found) > 1 else found[0]
            for found in data_samples_list
        ]
        for found in merged:
            found.pop("areas")
        return merged

    def _look(self, image: NDArray[Any], sample: DetDataSample) -> list[InstanceData]:
        """Find the objects in each patch of an image (H, W, C), and in the whole."""
        height, width = image.shape[:2]
        places = self.patches.of(height, width)
        batches = [places[i : i + self.batch_size] for i in range(0, len(places), self.batch_size)]
        if self.full_image and len(places) > 1:
            batches.append([(0, 0, width, height)])
        found = []
        for batch in batches:
            inputs = []
            for left, top, right, bottom in batch:
                patch = np.ascontiguousarray(image[top:bottom, left:right])
                size = patch.shape[:2]
                keys = {"img_id", "img_path"} & set(sample.metainfo_keys())
                known = {key: sample.metainfo[key] for key in keys}
                inputs.append(self.pipeline(dict(known, img=patch, img_shape=size, ori_shape=size)))
            predicted = self.module.test_step(pseudo_collate(inputs))
            for place, one in zip(batch, predicted, strict=True):
                found.append(_move(one.pred_instances, place, (height, width)))
        return found


def _move(
    found: InstanceData, place: tuple[int, int, int, int], size: tuple[int, int]
) -> InstanceData:
    """Move what was found in a patch to its place in an image of (height, width)."""
    left, top = place[:2]
    moved = InstanceData(**{key: value for key, value in found.items() if key != "masks"})
    moved.bboxes = found.bboxes + found.bboxes.new_tensor([left, top, left, top])
    moved.areas = moved.bboxes.new_tensor(place).expand(len(moved.bboxes), 4)
    if "masks" not in found:
        return moved
    masks = found.masks
    if not isinstance(masks, list):
        dense = torch.as_tensor(masks).to(torch.uint8).cpu().numpy()
        moved.masks = [encode_mask(mask, left, top, size) for mask in dense]
    elif tuple(place) == (0, 0, size[1], size[0]):
        moved.masks = masks
    else:  # of RleMaskHead; COCO's bitmaps lie in columns
        moved.masks = [encode_crop(coco_mask.decode(mask).T, left, top, *size) for mask in masks]
    return moved
