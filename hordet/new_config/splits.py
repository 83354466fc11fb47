"""Finds the training and validation splits by the usual names, or holds out a validation split."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from hordet.errors import DatasetError

WORDS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}}


def find_split(path: Path) -> str | None:
    """Return 'train' or 'val' if a relative path contains such a word (digits ignored), else None.

    Args:
        path: Such as `annotations/instances_train2017.json` or `images/validation`.
    """
    words = set(re.findall("[a-z]+", path.as_posix().lower()))
    found = [split for split, names in WORDS.items() if names & words]
    return found[0] if len(found) == 1 else None


def hold_out(names: Sequence[str], share: float) -> set[str]:
    """Choose images for validation, the same ones each time.

    The images are sorted by the hash of their names and the first are chosen, so neighbors in a
    folder are chosen independently of each other.

    Args:
        names: Names of all images.
        share: Share of the images for validation, between 0 and 1.

    Raises:
        DatasetError: The share leaves training or validation without an image.
    """
    number = max(1, round(share * len(names)))
    if not 0 < share < 1 or number >= len(names):
        raise DatasetError(
            f"--hold-out {share} of {len(names)} images leaves one side empty: give the share of "
            "validation images, between 0 and 1, so that both sides have an image."
        )
    return set(sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())[:number])


def refuse_hold_out(share: float | None, found: str) -> None:
    """Refuse to hold out images where there is a validation split.

    Args:
        share: Share of the images to hold out, if the user gave one.
        found: The validation split.

    Raises:
        DatasetError: There is a share.
    """
    if share is not None:
        raise DatasetError(
            f"--hold-out {share}, but there is a validation split: {found}. To validate on it, "
            "leave --hold-out away. To hold out images of training, move that split elsewhere."
        )


def explain_no_validation(root: Path, looked_for: str) -> DatasetError:
    """Return the error for data without a validation split, with what the user can do."""
    return DatasetError(
        f"{root} has no validation split (looked for {looked_for}). Metrics on training images do "
        "not show how well new images are predicted. Add a validation split, or add --hold-out "
        "0.2: a fifth of the training images is then used for validation, listed in files beside "
        "the config; the data are not changed. If neighboring images are alike, such as frames of "
        "a video, split the data yourself, by video."
    )
