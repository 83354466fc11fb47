"""Bilinear resizing of an image that comes in rows, as torch's `interpolate` does it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """One side of an image that is resized.

    Attributes:
        old: Its length before, in pixels.
        new: Its length after.
        align_corners: As in torch's `interpolate`.
    """

    old: int
    new: int
    align_corners: bool

    def source(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two old pixels of each new one from start to end, and the second's weight."""
        places = torch.arange(start, end, dtype=torch.float32)
        if self.align_corners:
            places = places * ((self.old - 1) / max(self.new - 1, 1))
        else:
            places = ((places + 0.5) * (self.old / self.new) - 0.5).clamp(min=0)
        low = places.floor().long().clamp(max=self.old - 1)
        return low, (low + 1).clamp(max=self.old - 1), places - low

    def needed(self, start: int, end: int) -> tuple[int, int]:
        """Return the stretch of old pixels that new ones from start to end are made of."""
        if self.old == self.new:
            return start, end
        low, high, _ = self.source(start, end)
        return int(low[0]), int(high[-1]) + 1


def resize_columns(rows: Tensor, axis: Axis, start: int, end: int) -> Tensor:
    """Resize the width of rows (C, n, w), whose first column is the first that is needed."""
    if axis.old == axis.new:
        return rows
    low, high, weight = (item.to(rows.device) for item in axis.source(start, end))
    first = low[0].item()
    return torch.lerp(rows[:, :, low - first], rows[:, :, high - first], weight.to(rows))


def resize_rows(pieces: Iterable[Tensor], axis: Axis, start: int, end: int) -> Iterator[Tensor]:
    """Resize the height of rows that come in pieces.

    Args:
        pieces: Rows (C, n, W) from the first that is needed, in order.
        axis: The height.
        start: First new row.
        end: New row below the last.

    Yields:
        New rows (C, m, W) from start to end, in order.
    """
    low, high, weight = axis.source(start, end)
    offset, done, held = int(low[0]), 0, None
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=1)
        ready = int((high < offset + held.shape[1]).sum())
        if ready > done:
            part = slice(done, ready)
            lower, upper = (held[:, (item[part] - offset).to(held.device)] for item in (low, high))
            yield torch.lerp(lower, upper, weight[part, None].to(held))
            done = ready
        if done < end - start:
            passed = int(low[done]) - offset
            held, offset = held[:, passed:], offset + passed
