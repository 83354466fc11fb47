"""What to predict: images, folders, globs, videos, and lists of them; broken ones are told."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hordet.errors import DatasetError, list_first

IMAGES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
STDIN = "-"
# A container may state a few frames more than there are; less than this share is a broken file.
WHOLE = 0.95


@dataclass(frozen=True)
class Source:
    """A file with one image or a video.

    Attributes:
        path: The file.
        file_name: How it was found: its name, or its path within the folder or glob.
        stem: `file_name` without its ending, made unique; what its outputs are called.
    """

    path: Path
    file_name: str
    stem: str

    @property
    def is_video(self) -> bool:
        """Tell by the ending of the file."""
        return self.path.suffix.lower() in VIDEOS


@dataclass(frozen=True)
class InputImage:
    """An image, or a frame of a video.

    Attributes:
        source: Where it is from.
        pixels: Blue, green, red, uint8 (H, W, 3).
        frame: Number of the frame from 0; None for an image.
        frames_per_second: Of the video.
    """

    source: Source
    pixels: NDArray[np.uint8]
    frame: int | None = None
    frames_per_second: float = 0.0

    @property
    def file_name(self) -> str:
        """Return the name for result files; frames have their number behind a `#`."""
        name = self.source.file_name
        return name if self.frame is None else f"{name}#{self.frame}"

    @property
    def stem(self) -> str:
        """Return what a file on this image alone is called; frames have a folder."""
        stem = self.source.stem
        return stem if self.frame is None else f"{stem}/{self.frame:06d}"


def find_sources(
    words: Iterable[str],
    lines: Iterable[str] = (),
    apart: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[list[Source], list[str]]:
    """Find the files that the words of a command line mean.

    Args:
        words: Files; folders, searched with all that is in them; globs, of which `**` reaches into
            folders; `-` for the lines.
        lines: Names of files, one a line.
        apart: A folder whose files are left out, such as that of earlier results.
        say: Takes a sentence about the files of folders and globs that are left out for their
            endings, if there are any.

    Returns:
        The files, in order, each once, and a sentence about each word that means none.
    """
    found: dict[Path, str] = {}
    left_out: set[Path] = set()
    missing = []
    for word in words:
        given = (line.strip() for line in lines) if word == STDIN else (word,)
        for name in filter(None, given):
            try:
                files = list(_files(name))
            except OSError as error:  # such as a name that is too long
                missing.append(f"{name}: {error.strerror}")
                continue
            if not any(wanted for _, _, wanted in files):
                missing.append(_why_none(name))
            for path, file_name, wanted in files:
                if apart and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(apart)):
                    continue
                if wanted:
                    found.setdefault(path, file_name)
                else:
                    left_out.add(path)
    if say and left_out - found.keys():
        say(_count_left_out(left_out - found.keys()))
    sources, taken = [], set()
    for path, file_name in found.items():
        first = stem = Path(file_name).with_suffix("").as_posix()
        number = 1
        while stem in taken:
            number += 1
            stem = f"{first}-{number}"
        taken.add(stem)
        sources.append(Source(path, file_name, stem))
    return sources, missing


def _files(name: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield the files that one word means, their names within it, and whether they are taken."""
    path = Path(name)
    if path.is_file():
        yield path, path.name, True
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if _is_visible(file, path):
                yield file, file.relative_to(path).as_posix(), _has_ending(file)
    elif glob.has_magic(name):
        fixed = Path()
        for part in path.parts[:-1]:
            if glob.has_magic(part):
                break
            fixed /= part
        for match in map(Path, sorted(glob.glob(name, recursive=True))):
            if _is_visible(match, fixed):
                yield match, match.relative_to(fixed).as_posix(), _has_ending(match)


def _is_visible(file: Path, root: Path) -> bool:
    """Tell whether a path is a file that is not hidden; a link to nothing is one, and is told."""
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and (file.is_file() or (file.is_symlink() and not os.path.exists(file)))


def _has_ending(file: Path) -> bool:
    return file.suffix.lower() in IMAGES + VIDEOS


def _count_left_out(files: Iterable[Path]) -> str:
    """Say how many files of which ending are left out."""
    counts = Counter(file.suffix.lower() or "without an ending" for file in files)
    order = sorted(counts, key=lambda ending: (-counts[ending], ending))
    listed = [f"{counts[ending]} {ending}" for ending in order]
    return (
        f"left out by their endings: {list_first(listed, 8)}. Endings that count are "
        f"{' '.join(IMAGES + VIDEOS)}; a file that is named itself is read whatever its ending"
    )


def _why_none(name: str) -> str:
    if Path(name).is_dir() or glob.has_magic(name):
        return (
            f"{name}: no image or video is there; endings that count are "
            f"{' '.join(IMAGES + VIDEOS)}"
        )
    if "://" in name:
        return f"{name}: addresses are not fetched; download the file and name it"
    return f"{name}: no such file or folder"


def read_images(source: Source, read: Callable[[Path], NDArray[np.uint8]]) -> Iterator[InputImage]:
    """Yield the image of a source, or the frames of its video.

    Args:
        source: The file.
        read: Reads a file with one image.

    Raises:
        DatasetError: The file cannot be read; of a video perhaps after some frames.
    """
    if source.path.is_symlink() and not os.path.exists(source.path):
        raise DatasetError(
            f"{source.path} is a link to {os.readlink(source.path)}, which leads to no file. Link "
            "it again or remove it"
        )
    if not source.is_video:
        yield InputImage(source, read(source.path))
        return
    video = cv2.VideoCapture(str(source.path))
    stated, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    number = 0
    try:
        while True:
            whole, frame = video.read()
            if not whole:
                break
            pixels: NDArray[np.uint8] = np.asarray(frame, dtype=np.uint8)
            yield InputImage(source, pixels, number, rate if rate > 0 else 25.0)
            number += 1
    finally:
        video.release()
    if not number:
        raise DatasetError(f"{source.path} is no video that OpenCV reads, or is cut short")
    if number < WHOLE * stated:
        raise DatasetError(
            f"{source.path} is cut short: {number} of {stated:.0f} frames could be read"
        )
