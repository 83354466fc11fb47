"""Many images through a predictor: in batches, past the broken ones."""

from collections.abc import Callable, Iterator, Sequence

from hordet.errors import DatasetError
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
        report: Takes a sentence about each image that cannot be read or predicted, which is then
            left out.
        batch_size: Images that are predicted at once, if they have one size.

    Yields:
        Each image and its prediction.
    """
    batch: list[InputImage] = []
    for source in sources:
        try:
            for image in read_images(source, predictor.read):
                batch.append(image)
                if len(batch) == batch_size:
                    yield from _predict(predictor, batch, report)
                    batch = []
        except DatasetError as error:
            report(str(error))
    if batch:
        yield from _predict(predictor, batch, report)


def _predict(
    predictor: Predictor, batch: list[InputImage], report: Callable[[str], None]
) -> Iterator[tuple[InputImage, Prediction]]:
    """Predict a batch, and if one of its images spoils it, each alone."""
    try:
        answers = predictor.predict([image.pixels for image in batch])
    except ValueError as error:  # what a model says of an image, such as that it is too small
        if len(batch) == 1:
            report(f"{batch[0].source.path}: {error}")
            return
        for image in batch:
            yield from _predict(predictor, [image], report)
        return
    yield from zip(batch, answers, strict=True)
