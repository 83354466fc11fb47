"""Many pictures through a predictor: in batches, past the broken ones."""

from collections.abc import Callable, Iterator, Sequence

from hordet.datasets import DatasetError
from hordet.infer.inputs import Picture, Source, read_pictures
from hordet.infer.prediction import Prediction
from hordet.infer.predictor import Predictor


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    report: Callable[[str], None],
    batch_size: int = 1,
) -> Iterator[tuple[Picture, Prediction]]:
    """Predict the pictures of all sources, in order.

    Args:
        predictor: The model.
        sources: Files.
        report: Takes a sentence about each picture that cannot be read or predicted, which is then
            left out.
        batch_size: Pictures that are predicted at once, if they have one size.

    Yields:
        Each picture and its prediction.
    """
    batch: list[Picture] = []
    for source in sources:
        try:
            for picture in read_pictures(source, predictor.read):
                batch.append(picture)
                if len(batch) == batch_size:
                    yield from _predict(predictor, batch, report)
                    batch = []
        except DatasetError as error:
            report(str(error))
    if batch:
        yield from _predict(predictor, batch, report)


def _predict(
    predictor: Predictor, batch: list[Picture], report: Callable[[str], None]
) -> Iterator[tuple[Picture, Prediction]]:
    """Predict a batch, and if one of its pictures spoils it, each alone."""
    try:
        answers = predictor.predict([picture.image for picture in batch])
    except ValueError as error:  # what a model says of a picture, such as that it is too small
        if len(batch) == 1:
            report(f"{batch[0].source.path}: {error}")
            return
        for picture in batch:
            yield from _predict(predictor, [picture], report)
        return
    yield from zip(batch, answers, strict=True)
