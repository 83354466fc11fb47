"""Logits of sliding windows, row after row, in the memory of one row of windows.

mmseg adds each window, padded to the size of the image, to a map of the whole image: twice
C x H x W numbers, 24 GB for 150 classes at 3648 x 5472. Here windows go into a buffer that is one
window high; its rows leave as soon as no later window reaches them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Bytes of logits that leave at once; enough for fast arithmetic, little beside the buffer.
PIECE = 32 * 2**20


@dataclass(frozen=True)
class Grid:
    """Windows along one side of an image, as mmseg places them.

    Attributes:
        length: Of the side, in pixels.
        crop: Of a window.
        stride: From a window to the next; the last one is moved back to end with the side.
    """

    length: int
    crop: int
    stride: int

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Start and end of each window."""
        number = max(self.length - self.crop + self.stride - 1, 0) // self.stride + 1
        ends = [min(i * self.stride + self.crop, self.length) for i in range(number)]
        return [(max(end - self.crop, 0), end) for end in ends]

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the windows that overlap a stretch of the side."""
        return [(low, high) for low, high in self.spans if low < end and high > start]

    def counts(self, start: int, end: int) -> Tensor:
        """Count the windows over each pixel of a stretch."""
        counts = torch.zeros(self.length)
        for low, high in self.spans:
            counts[low:high] += 1
        return counts[start:end]


def window_rows(
    predict: Callable[[slice, list[slice]], Tensor],
    rows: Grid,
    columns: Grid,
    top: int,
    bottom: int,
    left: int,
    right: int,
    at_once: int = 1,
) -> Iterator[Tensor]:
    """Yield the mean logits of all windows over a rectangle, from its top to its bottom.

    Args:
        predict: Gives the logits (n, C, h, w) of the windows at these rows and n places along
            them.
        rows: Windows along the height.
        columns: Windows along the width.
        top: First row of the rectangle.
        bottom: Row below its last.
        left: First column.
        right: Column right of its last.
        at_once: Windows that are predicted together, at most.

    Yields:
        Logits (C, n, right - left) of the next n rows.
    """
    buffer, height = None, min(rows.crop, rows.length)
    weights = columns.counts(left, right)
    spans = rows.within(top, bottom)
    for index, (first, last) in enumerate(spans):
        for (start, end), logits in _predict_row(
            predict, slice(first, last), columns.within(left, right), at_once
        ):
            if buffer is None:
                buffer = logits.new_zeros(len(logits), height, right - left)
                weights = weights.to(logits)
            part = logits[:, :, max(left - start, 0) : right - start]
            place = slice(max(start - left, 0), end - left)
            # Row y of the image is row y modulo the height of the buffer.
            turn = height - first % height
            buffer[:, first % height :, place][:, :turn] += part[:, :turn]
            if turn < height:
                buffer[:, : height - turn, place] += part[:, turn:]
        assert buffer is not None  # each row has a window
        finished = spans[index + 1][0] if index + 1 < len(spans) else last
        piece = max(1, PIECE // (buffer.element_size() * buffer[:, 0].numel()))
        for begin in range(first, finished, piece):
            places = torch.arange(begin, min(begin + piece, finished), device=buffer.device)
            wanted = (places >= top) & (places < bottom)
            if wanted.any():
                kept = places[wanted]
                counts = rows.counts(int(kept[0]), int(kept[-1]) + 1).to(buffer)
                yield buffer[:, kept % height] / (counts[:, None] * weights)
            buffer[:, places % height] = 0


def _predict_row(
    predict: Callable[[slice, list[slice]], Tensor],
    high: slice,
    spans: list[tuple[int, int]],
    at_once: int,
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield the columns of each window of a row, and its logits (C, h, w)."""
    for index in range(0, len(spans), at_once):
        group = spans[index : index + at_once]
        yield from zip(group, predict(high, [slice(*span) for span in group]), strict=True)
