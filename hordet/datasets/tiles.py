"""Where a large image is cut into overlapping patches, for inference and for training data."""

from collections.abc import Sequence


class Tiles:
    """Overlapping patches as SAHI places them (Akyon et al., ICIP 2022).

    The last of a row or column is moved back to end with the image; an image that is smaller
    than a patch is one patch of its own size.

    Args:
        patch_size: Height and width of a patch in pixels, or one number for both.
        patch_overlap_ratio: Share of a patch that its neighbor has too.

    Raises:
        ValueError: A size is no whole number above 0, or the share is not from 0 to below 1.
    """

    def __init__(self, patch_size: int | Sequence[int], patch_overlap_ratio: float) -> None:
        """Check and keep the settings."""
        pair = [patch_size] * 2 if isinstance(patch_size, int) else list(patch_size)
        if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
            raise ValueError(
                f"patch_size is {patch_size}; it must be a whole number of pixels above 0, or "
                "(height, width)"
            )
        if not 0 <= patch_overlap_ratio < 1:
            raise ValueError(
                f"patch_overlap_ratio is {patch_overlap_ratio}; it must be from 0 to below 1, the "
                "share of a patch that its neighbor has too"
            )
        self.height, self.width = pair
        self.overlap_ratio = patch_overlap_ratio

    def of(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """Return (left, top, right, bottom) of each patch of an image, row after row."""
        from sahi.slicing import get_slice_bboxes  # with shapely: which only slicing needs

        boxes = get_slice_bboxes(
            height,
            width,
            self.height,
            self.width,
            auto_slice_resolution=False,
            overlap_height_ratio=self.overlap_ratio,
            overlap_width_ratio=self.overlap_ratio,
        )
        return [(left, top, right, bottom) for left, top, right, bottom in boxes]
