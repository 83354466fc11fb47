"""Many images: what one of them does is told, and the others are predicted."""

import cv2
import numpy as np
import pytest
from PIL import Image

from hordet.errors import ConfigError
from hordet.inference.prediction import Instances
from hordet.inference.sources import Source
from hordet.inference.stream import predict_sources


class Model:
    """In place of a Predictor: fails as the first pixel of an image says."""

    failures = {
        1: ValueError("too small"),
        2: RuntimeError("CUDA\n out of memory"),
        3: cv2.error("filter"),
        4: MemoryError(),
    }

    def __init__(self):
        self.calls = []

    def read(self, path):
        if path.name == "gone.png":
            raise PermissionError(13, "Permission denied", str(path))
        if path.name == "odd.png":
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates")
        return np.array(Image.open(path))[..., ::-1]

    def predict(self, images):
        self.calls.append(len(images))
        for image in images:
            if failure := self.failures.get(int(image[0, 0, 0])):
                raise failure
        empty = np.zeros((0, 4), np.float32)
        size = images[0].shape[:2]
        return [Instances(empty, empty[:, 0], np.zeros(0, int), None, size, ("a",))] * len(images)


@pytest.fixture
def sources(tmp_path):
    for number in range(6):
        Image.new("RGB", (4, 4), (number, number, number)).save(tmp_path / f"{number}.png")
    names = [*(f"{number}.png" for number in range(6)), "gone.png", "odd.png"]
    return [Source(tmp_path / name, name, name) for name in names]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_any_error_is_told_with_its_file_and_the_rest_goes_on(sources, batch_size, tmp_path):
    told = []
    found = list(predict_sources(Model(), sources, told.append, batch_size))
    assert [image.file_name for image, _ in found] == ["0.png", "5.png"]
    assert sorted(line.removeprefix(f"{tmp_path}/") for line in told) == [
        "1.png: too small",
        "2.png: RuntimeError: CUDA out of memory",
        "3.png: error: filter",
        "4.png: MemoryError: without a message",
        "gone.png: Permission denied",
        "odd.png: 'utf-8' codec can't encode character '\\x78' in position 0: surrogates",
    ]


def test_what_is_of_no_one_image_ends_it(sources, monkeypatch):
    monkeypatch.setitem(Model.failures, 0, ConfigError("num_classes is wrong"))
    with pytest.raises(ConfigError, match="num_classes"):
        list(predict_sources(Model(), sources, print))
