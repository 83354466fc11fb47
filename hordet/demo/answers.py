"""What the page shows: images within limits, each model's answer kept, and a view of it."""

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

from hordet.datasets.formats.coco import is_number
from hordet.errors import DatasetError, DemoError
from hordet.inference import Predictor
from hordet.inference.prediction import ClassMap, Instances, Prediction
from hordet.inference.sources import InputImage, Source
from hordet.inference.writers import PredictionWriter
from hordet.visualization.drawing import draw_overlay
from hordet.visualization.fonts import explain_numbers
from hordet.visualization.panels import Panel

LARGEST_VIEW = 1600  # pixels of the long side: a click on a large image is to be answered soon
# One class alone: objects are drawn in a color each.
ALL_HUES = "conic-gradient(#e33, #dd2, #3c3, #3cc, #36e, #d3d, #e33)"


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        megabytes: Of a file.
        megapixels: Of an image; what a model holds of it grows with them.
        total_megabytes: Of all uploads and results.
    """

    megabytes: int = 20
    megapixels: int = 16
    total_megabytes: int = 1000


@dataclass
class Photo:
    """An image, and what models said of it so far.

    Attributes:
        image: The image.
        predictions: Whole answers by the model's name; thresholds and classes select from them.
    """

    image: InputImage
    predictions: dict[str, Prediction] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """A view of an answer.

    Attributes:
        overlay: RGB, (h, w, 3), without a legend.
        line: What was found, in words.
        legend: A dict for each class that is there or hidden: `name`, `color` (CSS), `amount`
            (number of objects and share of the image) and `shown`.
        files: The overlay with its legend as PNG, and the results of `PredictionWriter`.
        code: Python lines that give the same answer.
    """

    overlay: NDArray[np.uint8]
    line: str
    legend: list[dict[str, Any]]
    files: list[Path]
    code: str


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _one_at_a_time(
    method: Callable[Concatenate["Answers", _P], _R],
) -> Callable[Concatenate["Answers", _P], _R]:
    """Let a method of `Answers` wait for the others; once they are closed, it is refused."""

    @wraps(method)
    def call(self: "Answers", *arguments: _P.args, **options: _P.kwargs) -> _R:
        with self._busy:
            if self._closed:
                raise DemoError("The page is being closed")
            return method(self, *arguments, **options)

    return call


class Answers:
    """Models under their names, and what they answer, to one question at a time.

    Args:
        models: The models.
        folder: Where files for download go; a model's are those of its last view.
        limits: What images are taken.
        origins: Config and checkpoint of each model; they stand in the Python lines.
    """

    def __init__(
        self,
        models: Mapping[str, Predictor],
        folder: str | Path,
        limits: Limits | None = None,
        origins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """See the class."""
        self.models = dict(models)
        self.limits = limits or Limits()
        self._origins = dict(origins or {})
        self._folder = Path(folder)
        self._busy, self._closed = threading.Lock(), False

    def close(self) -> None:
        """Wait for the answer that is being made, and begin no other.

        Python ends a thread that comes back from torch or OpenCV while the process leaves, and
        their code then aborts the process.
        """
        with self._busy:
            self._closed = True

    @_one_at_a_time
    def open(self, path: str | Path) -> Photo:
        """Read an image; its size is looked at before it is decoded.

        A file can state one size to Pillow and another to the reader of the pipeline. `hordet demo`
        sets OpenCV's own limit, which holds before it decodes; with other readers the pixels are
        counted again afterwards.

        Raises:
            DatasetError: It is none, is cut short, or has too many pixels.
        """
        path = Path(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path) as header:
                    width, height = header.size
        except Image.DecompressionBombError as error:
            raise self._too_large(path.name, "more than 178 million pixels") from error
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow's readers raise
            raise DatasetError(
                f"{path.name} is not an image. Allowed are whole files of JPEG, PNG, WebP, BMP, "
                "TIFF"
            ) from error
        if width * height > self.limits.megapixels * 1e6:
            raise self._too_large(path.name, f"{width} x {height} pixels")
        reader = next(iter(self.models.values()))
        try:
            pixels = reader.read(path)
        except DatasetError as error:
            if _is_over_limit(error):
                stated = f"more pixels than the {width} x {height} of its header"
                raise self._too_large(path.name, stated) from error
            raise DatasetError(str(error).replace(str(path), path.name)) from error
        if pixels.shape[0] * pixels.shape[1] > self.limits.megapixels * 1e6:
            got = f"{pixels.shape[1]} x {pixels.shape[0]} pixels, not those of its header"
            raise self._too_large(path.name, got)
        return Photo(InputImage(Source(path, path.name, stem="labels"), pixels))

    @_one_at_a_time
    def show(
        self,
        photo: Photo,
        name: str,
        score_threshold: float = 0.3,
        hidden: Collection[str] = (),
        filled: bool = True,
    ) -> Shown:
        """Draw what a model says of an image; the model runs when it is asked for the first time.

        Args:
            photo: The image; it keeps the answer.
            name: Of the model.
            score_threshold: Least score of objects; class maps have none.
            hidden: Names of classes that are left out; those that the model lacks do not matter.
            filled: Fill masks and classes; else their outlines alone are drawn.

        Raises:
            ValueError: The threshold is no finite number; or the model refuses the image, such as
                one that is too small.
        """
        if not is_number(score_threshold):
            raise ValueError(f"the threshold is {score_threshold!r}; it must be a finite number")
        model = self.models[name]
        if name not in photo.predictions:
            photo.predictions[name] = model(photo.image.pixels)
        prediction = photo.predictions[name]
        if isinstance(prediction, Instances):
            prediction = prediction.select(score_threshold)
        kept = [c for c in model.classes if c not in hidden]
        chosen = prediction.select(classes=kept)
        rgb = np.ascontiguousarray(photo.image.pixels[..., ::-1])
        drawn = draw_overlay(
            rgb,
            chosen.panel(),
            model.classes,
            model.colors,
            filled=filled,
            largest=LARGEST_VIEW,
        )
        note = explain_numbers(model.classes) if len(model.classes) > 1 else ""
        return Shown(
            _cut_legend(drawn, rgb),
            f"{chosen.describe()} ({note})" if note else chosen.describe(),
            _legend(prediction, model, hidden),
            self._write(photo.image, model, chosen, drawn),
            _write_python(
                self._origins.get(name, (name, "CHECKPOINT")),
                dict(tile=model.tile, overlap=model.overlap),
                photo.image.file_name,
                None if model.is_semantic else score_threshold,
                kept if len(kept) < len(model.classes) else None,
            ),
        )

    @_one_at_a_time
    def draw_plain(self, photo: Photo) -> NDArray[np.uint8]:
        """Draw the image alone, pixel by pixel as it is under an answer: RGB, (h, w, 3)."""
        rgb = np.ascontiguousarray(photo.image.pixels[..., ::-1])
        return draw_overlay(rgb, Panel(""), (), (), largest=LARGEST_VIEW)

    def _write(
        self, image: InputImage, model: Predictor, chosen: Prediction, drawn: NDArray[np.uint8]
    ) -> list[Path]:
        """Write the files for download over those of the model's last view."""
        folder = self._folder / str(list(self.models.values()).index(model))
        with PredictionWriter(folder, model, overlays=False) as writer:
            writer.write(image, chosen, chosen)
        overlay = folder / "overlay.png"
        Image.fromarray(drawn).save(overlay, compress_level=1)
        return [overlay, *sorted(folder.glob("*.json")), *sorted(folder.glob("labels/*.png"))]

    def _too_large(self, name: str, got: str) -> DatasetError:
        return DatasetError(
            f"{name} has {got}; allowed are up to {self.limits.megapixels} million. Make it "
            "smaller, or use hordet infer, which has no such limit"
        )


def _cut_legend(drawn: NDArray[np.uint8], rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave out the legend below a drawn image; the page has one of its own."""
    return drawn[: round(drawn.shape[1] * rgb.shape[0] / rgb.shape[1])]


def _is_over_limit(error: BaseException | None) -> bool:
    """Tell whether an error, or one behind it, is that of OpenCV's limit of pixels."""
    while error is not None:
        if "MAX_IMAGE_PIXELS" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _legend(
    prediction: Prediction, model: Predictor, hidden: Collection[str]
) -> list[dict[str, Any]]:
    """List the classes of a prediction, most of them first, and hidden ones."""
    shares = dict(zip(model.classes, prediction.shares(), strict=True))
    if isinstance(prediction, ClassMap):
        amounts = {name: f"{share:.1%}" for name, share in shares.items() if share > 0}
        order = sorted(amounts, key=lambda name: -shares[name])
    else:
        counts = Counter(prediction.names)
        amounts = {
            name: f"{count}, {shares[name]:.1%}" if prediction.masks else str(count)
            for name, count in counts.items()
        }
        order = [name for name, _ in counts.most_common()]
    order += [name for name in model.classes if name in hidden and name not in amounts]
    single = len(model.classes) == 1 and not model.is_semantic
    colors = dict(zip(model.classes, model.colors, strict=False))
    return [
        dict(
            name=name,
            color=ALL_HUES if single else to_hex(colors[name]),
            amount=amounts.get(name, "0"),
            shown=name not in hidden,
        )
        for name in order
    ]


def _write_python(
    origin: tuple[str, str],
    options: Mapping[str, Any],
    file_name: str,
    threshold: float | None,
    classes: list[str] | None,
) -> str:
    """Return Python lines that give the answer that is shown."""
    choices = [] if threshold is None else [f"score_threshold={threshold}"]
    choices += [] if classes is None else [f"classes={[*map(str, classes)]!r}"]
    select = f".select({', '.join(choices)})" if choices else ""
    # hordet://NAME of a whole model is config and checkpoint in one.
    words = [repr(str(each)) for each in dict.fromkeys(origin)]
    words += [f"{key}={value!r}" for key, value in options.items() if value is not None]
    given = ", ".join(words)
    return (
        "from hordet.inference import Predictor\n\n"
        f"predictor = Predictor.from_config({given})\n"
        f"found = predictor({str(file_name)!r}){select}\n"
        "print(found.describe())\n"
    )


def name_models(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Name models by their configs; configs that stand twice also by checkpoint, then number.

    Args:
        pairs: Config file and checkpoint of each.

    Returns:
        A name of its own for each.
    """
    stems = [Path(config).stem for config, _ in pairs]
    names: list[str] = []
    for stem, (_, checkpoint) in zip(stems, pairs, strict=True):
        name = first = f"{stem} ({Path(checkpoint).stem})" if stems.count(stem) > 1 else stem
        number = 1
        while name in names:
            number += 1
            name = f"{first} {number}"
        names.append(name)
    return names
