"""Views of test-time augmentation that go through a network together."""

from collections.abc import Iterator, Sequence

from torch import Tensor


def require_number_of_views(number: int) -> int:
    """Return a number of views that go together.

    Raises:
        ValueError: It is below 1.
    """
    if number < 1:
        raise ValueError(f"views_at_once is {number}; it must be 1 or more")
    return number


def group_views(inputs: Sequence[Sequence[Tensor]], at_once: int) -> Iterator[list[int]]:
    """Yield the numbers of views to predict together, in order.

    Only views of the same sizes go together: a batch of others would be padded, and an image's
    prediction depends on its padding.

    Args:
        inputs: For each view the images (3, H, W).
        at_once: Views of a group, at most.
    """
    group: list[int] = []
    for number, images in enumerate(inputs):
        if group and (len(group) == at_once or not _fit(inputs[group[0]], images)):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _fit(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether the images of two views are of the same sizes, one by one."""
    return [image.shape for image in one] == [image.shape for image in other]
