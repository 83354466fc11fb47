"""Which part of a data set trains and which one validates: by the usual names, or held out."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from hordet.errors import DatasetError

WORDS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}}


def find_split(path: Path) -> str | None:
    """Return 'train' or 'val' if a relative path has such a word in it (digits aside), else None.

    Args:
        path: Such as `annotations/instances_train2017.json` or `images/validation`.
    """
    words = set(re.findall("[a-z]+", path.as_posix().lower()))
    found = [split for split, names in WORDS.items() if names & words]
    return found[0] if len(found) == 1 else None


def hold_out(names: Sequence[str], share: float) -> set[str]:
    """Choose the names of images that are to validate; the same ones each time.

    They are the first by the hash of their names, so that neighbors in a folder are no more likely
    to be chosen together than any others.

    Args:
        names: Of all images.
        share: Of the images that are to validate, between 0 and 1.

    Raises:
        DatasetError: The share leaves one side without an image.
    """
    number = max(1, round(share * len(names)))
    if not 0 < share < 1 or number >= len(names):
        raise DatasetError(
            f"--hold-out {share} of {len(names)} images leaves one side empty: it is the share "
            "that validates, between 0 and 1, and both sides need an image."
        )
    return set(sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())[:number])


def explain_no_validation(root: Path, looked_for: str) -> DatasetError:
    """The error for data without a validation split, with the ways out."""
    return DatasetError(
        f"{root} has no validation split (looked for {looked_for}). A figure on training images "
        "says nothing about new ones. Give it one, or add --hold-out 0.2: a fifth of the training "
        "images then validates, listed in files beside the config; the data are not touched. If "
        "neighboring images are alike, as frames of a video are, split by video yourself."
    )
