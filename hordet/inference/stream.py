"""Many images through a predictor: in batches, past the broken ones."""

from collections.abc import Callable, Iterator, Sequence

import cv2

from hordet.errors import DatasetError, UserError
from hordet.inference.prediction import Prediction
from hordet.inference.predictor import Predictor
from hordet.inference.sources import InputImage, Source, read_images


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    report: Callable[[str], None],
    batch_size: int = 1,
) -> Iterator[tuple[InputImage, Prediction]]:
    """Predict the images of all sources, in order.

    Args:
        predictor: The model.
        sources: Files.
        report: Takes a sentence about each image that cannot be read or predicted, for whatever
            reason; it is then left out.
        batch_size: Images that are predicted at once, if they have one size.

    Yields:
        Each image and its prediction.

    Raises:
        UserError: The config or the weights are wrong, which concerns every image.
    """
    batch: list[InputImage] = []
    for source in sources:
        images = read_images(source, predictor.read)
        while True:
            try:
                image = next(images, None)
            except Exception as error:  # of a file, which anyone may have written
                report(describe_failure(source, error))
                break
            if image is None:
                break
            batch.append(image)
            if len(batch) == batch_size:
                yield from _predict(predictor, batch, report)
                batch = []
    if batch:
        yield from _predict(predictor, batch, report)


def _predict(
    predictor: Predictor, batch: list[InputImage], report: Callable[[str], None]
) -> Iterator[tuple[InputImage, Prediction]]:
    """Predict a batch, and if one of its images spoils it, each alone."""
    try:
        answers = predictor.predict([image.pixels for image in batch])
    except Exception as error:
        # What the user has to put right in the config or the weights is of no one image.
        if isinstance(error, UserError) and not isinstance(error, ValueError):
            raise
        if len(batch) == 1:
            report(describe_failure(batch[0].source, error))
            return
        for image in batch:
            yield from _predict(predictor, [image], report)
        return
    yield from zip(batch, answers, strict=True)


def describe_failure(source: Source, error: Exception) -> str:
    """Return a sentence with the name of the file and what went wrong with it."""
    words = " ".join(str(error).split())[:400] or "without a message"
    if isinstance(error, cv2.error) and "resize" in words:
        error = DatasetError(
            f"{source.path} is too narrow: resized for the model, nothing is left of its short "
            "side. Cut it into pieces, or make the scale of Resize in the config larger"
        )
        words = str(error)
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror
    elif not isinstance(error, UserError | ValueError):
        words = f"{type(error).__name__}: {words}"
    return words if str(source.path) in words else f"{source.path}: {words}"
