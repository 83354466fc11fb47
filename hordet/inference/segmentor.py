"""mmseg's EncoderDecoder, whose sliding window stays within a limit of memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder as MmsegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from hordet.inference.resizing import Axis, resize_columns, resize_rows
from hordet.inference.windows import Grid, window_rows
from hordet.registry import MODELS

GIB = 2**30


@dataclass(frozen=True)
class Rectangle:
    """A part of an image: rows and columns from the first to before the last."""

    top: int
    bottom: int
    left: int
    right: int


@MODELS.register_module()
class EncoderDecoder(MmsegEncoderDecoder):
    """mmseg's EncoderDecoder with a sliding window (`test_cfg.mode='slide'`) of bounded memory.

    While the maps of logits fit the limit, results are mmseg's, `seg_logits` included. Beyond it
    the image is predicted in strips, each from top to bottom, and only the classes are kept:
    `seg_logits` is then missing. Windows that cross from strip to strip are predicted again.

    Args:
        memory_limit: For maps of logits, in GiB; the model's own features come on top.
        windows_at_once: Windows of a row that go through the network together. More keep a GPU
            busy, and take so many times the memory of features.
        **options: Those of mmseg's EncoderDecoder.
    """

    def __init__(self, memory_limit: float = 2.0, windows_at_once: int = 1, **options: Any) -> None:
        """Build the parts."""
        if memory_limit <= 0:
            raise ValueError(f"memory_limit is {memory_limit}; it must be above 0, in GiB")
        if windows_at_once < 1:
            raise ValueError(f"windows_at_once is {windows_at_once}; it must be 1 or more")
        super().__init__(**options)
        self.memory_limit = memory_limit
        self.windows_at_once = windows_at_once

    def fits(self, size: tuple[int, int], out_size: tuple[int, int]) -> bool:
        """Tell whether the logits of a whole image fit the limit.

        Args:
            size: Height and width of the network's input.
            out_size: Those of the original image.
        """
        maps = size[0] * size[1] + 2 * out_size[0] * out_size[1]
        return 4 * self.out_channels * maps <= self.memory_limit * GIB

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Predict by sliding windows.

        Args:
            inputs: Images (N, 3, H, W).
            batch_img_metas: What is known of each.

        Returns:
            Logits (N, C, H, W).
        """
        height, width = inputs.shape[2:]
        whole = Rectangle(0, height, 0, width)
        maps = []
        for image, meta in zip(inputs, batch_img_metas, strict=True):
            logits = inputs.new_empty(self.out_channels, height, width)
            start = 0
            for rows in self._rows(image, meta, whole):
                logits[:, start : start + rows.shape[1]] = rows
                start += rows.shape[1]
            maps.append(logits)
        return torch.stack(maps) if len(maps) > 1 else maps[0][None]

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Predict the class of every pixel.

        Args:
            inputs: Images (N, 3, H, W).
            data_samples: What is known of each.

        Returns:
            The data samples with `pred_sem_seg` and, within the limit of memory, `seg_logits`.
        """
        if data_samples is None or self.test_cfg.get("mode") != "slide":
            return super().predict(inputs, data_samples)
        for image, sample in zip(inputs, data_samples, strict=True):
            size = sample.metainfo["ori_shape"][:2]
            if self.fits(image.shape[1:], size):
                super().predict(image[None], [sample])
                continue
            classes = torch.empty(1, *size, dtype=torch.long, device=inputs.device)
            for part in self.divide_into_strips(image.shape[1:], size):
                for place, logits in self.rectangle_rows(image, sample.metainfo, part):
                    classes[0, place.top : place.bottom, place.left : place.right] = self.decide(
                        logits.sigmoid() if self.out_channels == 1 else logits
                    )
            sample.pred_sem_seg = PixelData(data=classes)
        return data_samples

    def decide(self, scores: Tensor) -> Tensor:
        """Return the classes (H, W) of logits or probabilities (C, H, W), C = 1: probabilities."""
        if self.out_channels == 1:
            return (scores[0] > self.decode_head.threshold).long()
        return scores.argmax(dim=0)

    def divide_into_strips(
        self, size: tuple[int, int], out_size: tuple[int, int]
    ) -> list[Rectangle]:
        """Divide an image so that the buffer of windows takes up to half of the limit.

        Args:
            size: Height and width of the network's input.
            out_size: Those of the original image.
        """
        column = 4 * self.out_channels * min(self.test_cfg.crop_size[0], size[0])
        wide = max(1, int(self.memory_limit * GIB / 2 / column * out_size[1] / size[1]))
        number = -(-out_size[1] // wide)
        edges = [out_size[1] * i // number for i in range(number + 1)]
        pairs = zip(edges, edges[1:], strict=False)
        return [Rectangle(0, out_size[0], left, right) for left, right in pairs]

    def rectangle_rows(
        self, image: Tensor, meta: dict[str, Any], part: Rectangle
    ) -> Iterator[tuple[Rectangle, Tensor]]:
        """Predict a part of the original image by sliding windows.

        Args:
            image: The network's input (3, H, W), perhaps padded, flipped and of another size.
            meta: What is known of it, as mmseg's `postprocess_result` reads it.
            part: Rows and columns of the original image.

        Yields:
            Rows and columns of the original, and their logits (C, h, w).
        """
        padding = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
        before_left, after_right, before_top, after_bottom = padding
        height = image.shape[1] - before_top - after_bottom
        width = image.shape[2] - before_left - after_right
        rows, columns = (
            Axis(old, new, self.align_corners)
            for old, new in zip((height, width), meta["ori_shape"][:2], strict=True)
        )
        direction = meta.get("flip_direction") if meta.get("flip") else None
        top, bottom, left, right = part.top, part.bottom, part.left, part.right
        if direction == "vertical":
            top, bottom = rows.new - bottom, rows.new - top
        if direction == "horizontal":
            left, right = columns.new - right, columns.new - left
        first, last = rows.needed(top, bottom)
        start, end = columns.needed(left, right)
        source = Rectangle(
            first + before_top, last + before_top, start + before_left, end + before_left
        )
        narrow = (
            resize_columns(piece, columns, left, right) for piece in self._rows(image, meta, source)
        )
        done = top
        for logits in narrow if rows.old == rows.new else resize_rows(narrow, rows, top, bottom):
            place = Rectangle(done, done + logits.shape[1], part.left, part.right)
            done = place.bottom
            if direction == "horizontal":
                logits = logits.flip(2)
            if direction == "vertical":
                logits = logits.flip(1)
                place = Rectangle(
                    rows.new - place.bottom, rows.new - place.top, part.left, part.right
                )
            yield place, logits

    def _rows(self, image: Tensor, meta: dict, part: Rectangle) -> Iterator[Tensor]:
        """Yield the logits of rows of a part of the network's input."""
        rows, columns = (
            Grid(length, crop, stride)
            for length, crop, stride in zip(
                image.shape[1:], self.test_cfg.crop_size, self.test_cfg.stride, strict=True
            )
        )

        def predict(high: slice, wides: list[slice]) -> Tensor:
            crops = torch.stack([image[:, high, wide] for wide in wides])
            # A torch.Size tells mmseg's heads that these are windows.
            known = {**meta, "img_shape": crops.shape[2:]}
            return self.encode_decode(crops, [known] * len(wides))

        edges = part.top, part.bottom, part.left, part.right
        yield from window_rows(predict, rows, columns, *edges, self.windows_at_once)
