"""Multi-scale and flipped test of segmentors, in memory that does not grow with the views."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel as MmsegSegTTAModel
from mmseg.structures import SegDataSample
from torch import Tensor

from hordet.inference.segmentor import GIB, EncoderDecoder, Rectangle
from hordet.inference.views import group_views, require_number_of_views
from hordet.registry import MODELS


@MODELS.register_module()
class SegTTAModel(MmsegSegTTAModel):
    """The mean probability of all views, as mmseg's SegTTAModel has it.

    mmseg keeps the logits of every view until the last; here each is added to one sum. Where a
    `hordet.EncoderDecoder` slides and an image's maps are beyond its limit, the image is
    predicted in bands: all views of one band, then of the next.

    Args:
        views_at_once: Views that follow one another, are of one size, such as an image and its
            flip, and go through the network together, at most; not in bands.
        **options: Those of mmengine's BaseTTAModel.
    """

    def __init__(self, views_at_once: int = 1, **options: Any) -> None:
        """Build the segmentor."""
        super().__init__(**options)
        self.views_at_once = require_number_of_views(views_at_once)

    def test_step(self, data: dict[str, Any]) -> list[SegDataSample]:
        """Predict a batch of images.

        Args:
            data: `inputs` and `data_samples`: for each view a list over the images.

        Returns:
            The last view's data samples, with the `pred_sem_seg` of all.
        """
        views = list(zip(data["inputs"], data["data_samples"], strict=True))
        predictions = []
        for index in range(len(views[0][0])):
            pairs = [(inputs[index], samples[index]) for inputs, samples in views]
            predictions.append(self._predict(pairs))
        return predictions

    def _predict(self, views: list[tuple[Tensor, SegDataSample]]) -> SegDataSample:
        """Predict one image from its views."""
        first, last = views[0][1], views[-1][1]
        size = first.metainfo["ori_shape"][:2]
        largest = max((image.shape[-2:] for image, _ in views), key=lambda shape: shape.numel())
        banded = isinstance(self.module, EncoderDecoder)
        banded = banded and self.module.test_cfg.get("mode") == "slide"
        if banded and not self.module.fits(largest, size):
            classes = self._in_bands(views, (largest[0], largest[1]), size)
        else:
            total: Any = 0.0
            for group in group_views([[image] for image, _ in views], self.views_at_once):
                inputs, samples = zip(*(views[i] for i in group), strict=True)
                batch = {"inputs": [*inputs], "data_samples": [*samples]}
                for made in self.module.test_step(batch):
                    total = total + self._probability(made.seg_logits.data)
                    del made.seg_logits  # the sample lives as long as its batch
            classes = self._decide(total / len(views))
        last.pred_sem_seg = PixelData(data=classes[None])
        if "gt_sem_seg" in first:
            last.gt_sem_seg = first.gt_sem_seg
        last.set_metainfo({"img_path": first.metainfo.get("img_path")})
        return last

    def _in_bands(
        self,
        views: list[tuple[Tensor, SegDataSample]],
        largest: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        """Return the classes (H, W) of an image whose maps are beyond the limit."""
        model: Any = self.module
        classes: Tensor | None = None
        prepared = [
            model.data_preprocessor({"inputs": [image], "data_samples": [sample]}, False)
            for image, sample in views
        ]
        for strip in model.divide_into_strips(largest, size):
            for band in self._bands(strip):
                total: Tensor | None = None
                for view in prepared:
                    meta = view["data_samples"][0].metainfo
                    for place, logits in model.rectangle_rows(view["inputs"][0], meta, band):
                        if total is None:
                            shape = (band.bottom - band.top, band.right - band.left)
                            total = logits.new_zeros(len(logits), *shape)
                        rows = slice(place.top - band.top, place.bottom - band.top)
                        total[:, rows] += self._probability(logits)
                assert total is not None  # there is a view
                if classes is None:
                    classes = torch.empty(size, dtype=torch.long, device=total.device)
                decided = self._decide(total / len(views))
                classes[band.top : band.bottom, band.left : band.right] = decided
        assert classes is not None
        return classes

    def _bands(self, strip: Rectangle) -> Iterator[Rectangle]:
        """Divide a strip so that a band's sum of probabilities takes a quarter of the limit."""
        row = 4 * self.module.out_channels * (strip.right - strip.left)
        height = max(1, int(self.module.memory_limit * GIB / 4 / row))
        for top in range(0, strip.bottom, height):
            yield Rectangle(top, min(top + height, strip.bottom), strip.left, strip.right)

    def _probability(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits (C, H, W)."""
        return logits.softmax(dim=0) if self.module.out_channels > 1 else logits.sigmoid()

    def _decide(self, probability: Tensor) -> Tensor:
        """Return the classes (H, W) of probabilities (C, H, W)."""
        if self.module.out_channels == 1:
            return (probability[0] > self.module.decode_head.threshold).long()
        return probability.argmax(dim=0)
