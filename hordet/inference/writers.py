"""Where predictions go: overlays, label maps, COCO results."""

import errno
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from hordet.datasets.checks.coco import find_class_faults
from hordet.datasets.formats.coco import CocoFile, spell_path
from hordet.datasets.formats.image_paths import explain_matches, match_names, offer_names
from hordet.errors import ConfigError, FileWriteError, list_first
from hordet.evaluation.coco_results import ResultFile, read_truth
from hordet.inference.prediction import NO_CLASS, ClassMap, Instances, Prediction
from hordet.inference.predictor import Predictor
from hordet.inference.sources import InputImage, Source
from hordet.ops.files import replace_whole, write_whole


@dataclass
class AnnotationIds:
    """The ids that an annotation file gives to images and categories.

    Attributes:
        path: The file.
        images: Id of each image by its name: as in the file, and by `require` as it was found.
        categories: Id of each class of the model; None for one that the file has no category for.
        note: Which classes these are; empty if there are none.
    """

    path: Path
    images: dict[str, int]
    categories: list[int | None]
    note: str = ""

    @classmethod
    def read(cls, path: str | Path, classes: Sequence[str]) -> "AnnotationIds":
        """Read a COCO annotation file.

        Raises:
            EvaluationError: It is none.
            ConfigError: It has no category for any class, or one that is spelled otherwise.
        """
        path = Path(path)
        truth = read_truth(path, needed=("file_name",))
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        lacking = [name for name in classes if name not in ids]
        # As in the check: a file need not have all classes.
        if [*find_class_faults(path, [*ids], classes, needed=())]:
            raise ConfigError(
                f"{path} has no category for {list_first(lacking)}, which the model knows; it "
                f"has {list_first([*ids])}. Give the annotation file of the model's classes"
            )
        note = ""
        if lacking:
            note = (
                f"{path} has no category for {list_first(lacking)}: objects of these classes are "
                "left out of results.json, which has its ids; overlays show them"
            )
        images = {image["file_name"]: image["id"] for image in truth["images"]}
        return cls(path, images, [ids.get(name) for name in classes], note)

    def require(self, sources: Sequence[Source]) -> str:
        """Find the images in the annotation file before they are predicted, by what they are.

        Names in the file may be absolute, lead through other folders, have backslashes, URL
        escapes, or accents in Unicode's other form, as for training.

        Returns:
            A sentence on those that have another spelling in the file; '' if there are none.

        Raises:
            ConfigError: Some are not in it; if all are there under another name, the message has
                the way to a corrected copy.
        """
        stated = [*self.images]
        strange = [s for s in sources if s.is_video or s.file_name not in self.images]
        found: dict[str, str] = {}
        # What a name in the file means depends on the folder that the inputs were found in.
        meant: dict[Path, dict[str, str]] = {}
        for source in strange:
            folder = _locate_start(source)
            if folder not in meant:
                meant[folder] = {_spell_place(folder, spell_path(name)): name for name in stated}
            name = meant[folder].get(_spell_place(folder, source.file_name))
            if name is not None and not source.is_video:
                found[source.file_name] = name
        self.images |= {place: self.images[name] for place, name in found.items()}
        lost = [source for source in strange if source.file_name not in found]
        if not lost and not found:
            return ""
        if not lost:
            place, name = next(iter(found.items()))
            return (
                f"{len(found)} of {len(sources)} images are in {self.path} in another spelling: "
                f"{place} is {ascii(name)}"
            )
        names = [source.file_name for source in lost]
        matched = match_names(stated, [source.file_name for source in lost if not source.is_video])
        cure = "Give the folder that its file_name starts from, or leave --annotations out"
        if len(matched) == len(lost):
            file = CocoFile(self.path, {"images": []}, named="--annotations")
            places = {name: place for name, (place, _) in matched.items()}
            cure = f"{explain_matches(matched)} {offer_names(file, places)}"
        raise ConfigError(
            f"{len(lost)} images are not in the annotation file, such as {names[0]!r}; "
            f"it has {', '.join(stated[:3])}. {cure}"
        )


def _locate_start(source: Source) -> Path:
    """Return the folder from which the name of a source starts."""
    return Path(os.path.abspath(source.path)).parents[source.file_name.count("/")]


def _spell_place(folder: Path, name: str) -> str:
    """Return a path in one spelling, so that equal ones are of one file."""
    return unicodedata.normalize("NFC", os.path.abspath(os.path.join(folder, name)))


class PredictionWriter:
    """Writes predictions as they come into a folder; a context.

    - `overlays/NAME.jpg`, of a video `overlays/NAME.mp4`.
    - Objects: `results.json`, the result list of COCO, and `images.json`, an annotation file
      without annotations that says what its ids mean: `COCO(images).loadRes(results)`.
    - Class maps: `labels/NAME.png`, 8 bits, values as in the label files of the model's data:
      class indices and 255 for none, or from 1 and 0 for none if these count from 1 (ADE20K).

    Files take their place when they are whole: `results.json` and `images.json` at the end, a video
    after its last frame. Of a run that is broken off they are kept as `results.unfinished.json` and
    so on, and what an earlier run left there stays as it is.

    Attributes:
        unfinished: Files that a run which was broken off has kept.

    Args:
        folder: Made if it is not there; files of the same names are replaced.
        predictor: Where the predictions are from.
        numbers: Ids of an annotation file; without one, images and classes count from 1.
        overlays: Whether to draw.
    """

    def __init__(
        self,
        folder: str | Path,
        predictor: Predictor,
        numbers: AnnotationIds | None = None,
        overlays: bool = True,
    ) -> None:
        """See the class."""
        self.folder = Path(folder)
        self.classes, self.colors = predictor.classes, predictor.colors
        self.overlays = overlays
        self._reduced = predictor.reduce_zero_label
        self._numbers = numbers
        self._categories: list[int | None] = (
            numbers.categories if numbers else [*range(1, len(self.classes) + 1)]
        )
        self._images: list[dict] = []
        self._results: ResultFile | None = None
        self._video: tuple[Source, cv2.VideoWriter, tuple[int, int]] | None = None
        self._result_files, self._video_file = ExitStack(), ExitStack()
        self.unfinished: list[Path] = []

    def __enter__(self) -> "PredictionWriter":
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the files take their places; those of a run that is broken off are kept apart."""
        self._end_video(error)
        try:
            self._finish_results()
        except OSError as failure:
            if error is None:
                self._result_files.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._result_files.__exit__(kind, error, traceback)

    @property
    def note(self) -> str:
        """Return why overlays show classes by number, or nothing."""
        if not self.overlays or len(self.classes) < 2:
            return ""
        from hordet.visualization.fonts import explain_numbers

        return explain_numbers(self.classes)

    def write(self, image: InputImage, prediction: Prediction, drawn: Prediction) -> None:
        """Write what is said of an image.

        Args:
            image: The image.
            prediction: Goes to the files of results.
            drawn: Goes to the overlay, such as the objects above a threshold.
        """
        if isinstance(prediction, Instances):
            self._write_result(image, prediction)
        else:
            self._write_labels(image, prediction)
        if self.overlays:
            # Here, for matplotlib takes half a second to load.
            from hordet.visualization.drawing import draw_overlay

            rgb = np.ascontiguousarray(image.pixels[..., ::-1])
            overlay = draw_overlay(rgb, drawn.panel(), self.classes, self.colors)
            self._write_overlay(image, np.ascontiguousarray(overlay[..., ::-1]))

    def _write_result(self, image: InputImage, prediction: Instances) -> None:
        number = len(self._images) + 1
        if self._numbers:
            number = self._numbers.images[image.file_name]
        named = zip(self.classes, self._categories, strict=True)
        known = [name for name, key in named if key is not None]
        if len(known) < len(self.classes):
            prediction = prediction.select(classes=known)
        result = prediction.coco_result(number, [key or 0 for key in self._categories])
        result.check()
        if self._results is None:
            kind = "bbox" if prediction.masks is None else "segm"
            path = self.folder / "results.json"
            temporary = self._result_files.enter_context(_take_place(path, self.unfinished))
            self._results = ResultFile(temporary, kind)
        self._results.add(result)
        height, width = prediction.size
        entry = dict(id=number, file_name=image.file_name, width=width, height=height)
        self._images.append(entry)

    def _finish_results(self) -> None:
        """End the list of results, and write what its ids mean."""
        if self._results is None:
            return
        self._results.close()
        named = zip(self._categories, self.classes, strict=True)
        categories = [dict(id=key, name=name) for key, name in named if key is not None]
        listing = dict(images=self._images, annotations=[], categories=categories)
        path = self.folder / "images.json"
        temporary = self._result_files.enter_context(_take_place(path, self.unfinished))
        temporary.write_text(json.dumps(listing, indent=1), encoding="utf-8")

    def _write_labels(self, image: InputImage, prediction: ClassMap) -> None:
        values = prediction.labels
        if self._reduced:
            values = np.where(values == NO_CLASS, np.uint8(0), values + 1)
        _write_image(self.folder / "labels" / f"{image.stem}.png", values)

    def _write_overlay(self, image: InputImage, overlay: NDArray[np.uint8]) -> None:
        path = self.folder / "overlays" / image.source.stem
        if image.frame is None:
            _write_image(path.with_name(f"{path.name}.jpg"), overlay)
            return
        if self._video is None or self._video[0] != image.source:
            self._end_video()
            path = path.with_name(f"{path.name}.mp4")
            with ExitStack() as files:
                temporary = files.enter_context(_take_place(path, self.unfinished))
                video, size = _open_video(temporary, image.frames_per_second, overlay)
                self._video_file = files.pop_all()
            self._video = (image.source, video, size)
        _, video, (width, height) = self._video
        # The legend may need more or fewer lines than in the first frame.
        canvas = np.full((height, width, 3), 255, dtype=np.uint8)
        part = overlay[:height, :width]
        canvas[: part.shape[0], : part.shape[1]] = part
        video.write(canvas)

    def _end_video(self, error: BaseException | None = None) -> None:
        if self._video:
            self._video[1].release()
            self._video = None
            kind = None if error is None else type(error)
            self._video_file.__exit__(kind, error, None)


def stops_everything(error: Exception) -> bool:
    """Tell whether nothing more can be written, whatever the image: such as a full disk."""
    cause = error.__cause__ if isinstance(error, FileWriteError) else error
    wanted = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(cause, OSError) and cause.errno in wanted


@contextmanager
def _take_place(path: Path, unfinished: list[Path]) -> Iterator[Path]:
    """Give a temporary name whose file takes its place at the end, or is kept under another.

    Args:
        path: The place.
        unfinished: Takes the other name after an error inside, such as `results.unfinished.json`.

    Yields:
        The temporary name.
    """
    with replace_whole(path) as temporary:
        try:
            yield temporary
        except BaseException:
            number, kept = 1, path.with_suffix(f".unfinished{path.suffix}")
            while kept.exists():
                number += 1
                kept = path.with_suffix(f".unfinished-{number}{path.suffix}")
            if temporary.exists() and temporary.stat().st_size:
                os.replace(temporary, kept)
                unfinished.append(kept)
            raise


def _open_video(
    path: Path, frames_per_second: float, frame: NDArray[np.uint8]
) -> tuple[cv2.VideoWriter, tuple[int, int]]:
    """Begin a video for frames such as this one; return it and its (width, height).

    Raises:
        OSError: This OpenCV, or the disk, cannot.
    """
    size = tuple(side // 2 * 2 for side in frame.shape[1::-1])  # the codec takes even sides
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), frames_per_second, size)
    if not video.isOpened():
        raise OSError(f"cannot write the video {path.name}; --no-overlays leaves it out")
    return video, size


def _write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an image (blue, green, red, or one channel); a full disk is an error."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else []
    _, content = cv2.imencode(path.suffix, pixels, options)
    write_whole(path, content.tobytes())
