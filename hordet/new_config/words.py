"""Statistics of data as text."""

import numpy as np

from hordet.errors import list_first


def format_range(values: np.ndarray) -> str:
    """Return the median, smallest and largest of whole numbers, as in `256 (200 to 320)`."""
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{int(np.median(values))} ({low} to {high})"


def format_count(number: int, word: str) -> str:
    """Return '1 class' or '2 classes'."""
    return f"{number:,} {word if number == 1 else word + 'es'}"


def describe_classes(counts: dict[str, int], without: str) -> list[str]:
    """Return lines on the classes, most frequent first, and on those without examples.

    Args:
        counts: Number of objects or pixels by class.
        without: Describes classes without any, such as 'without any object'.
    """
    most = sorted(counts.items(), key=lambda item: -item[1])
    named = [f"{name} {number:,}" for name, number in most if number]
    empty = [name for name, number in counts.items() if not number]
    lines = [f"{format_count(len(counts), 'class')}: {list_first(named, 12)}"]
    return lines + ([f"{len(empty)} {without}: {list_first(empty, 12)}"] if empty else [])
