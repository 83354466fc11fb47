"""Files of results: whole at the end, and an earlier run's until then."""

import errno
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from hordet.errors import EvaluationError, FileWriteError
from hordet.inference.prediction import ClassMap, Instances
from hordet.inference.sources import InputImage, Source
from hordet.inference.writers import AnnotationIds, PredictionWriter, stops_everything

MODEL = SimpleNamespace(
    classes=("a", "b"), colors=[(1, 0, 0), (0, 0, 1)], reduce_zero_label=False, is_semantic=False
)
SIZE = (20, 30)


def image(name, frame=None):
    pixels = np.full((*SIZE, 3), 90, np.uint8)
    return InputImage(Source(name, name, name.rpartition(".")[0]), pixels, frame, 10.0)


def objects(number, score=0.5):
    boxes = np.tile(np.array([[2, 3, 12, 13]], np.float32), (number, 1))
    scores = np.full(number, score, np.float32)
    return Instances(boxes, scores, np.zeros(number, int), None, SIZE, MODEL.classes)


def write(folder, numbers, end=None, overlays=False):
    """Write a run of as many images; `end` breaks it off."""
    writer = PredictionWriter(folder, MODEL, overlays=overlays)
    with writer:
        for place, number in enumerate(numbers):
            writer.write(image(f"{place}.png"), objects(number), objects(number))
        if end:
            raise end
    return writer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_that_is_broken_off_leaves_the_earlier_results(tmp_path):
    write(tmp_path, [500, 498])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert names(tmp_path) == ["images.json", "results.json"]
    assert len(json.loads((tmp_path / "results.json").read_text())) == 998
    for run in (1, 2):
        writer = PredictionWriter(tmp_path, MODEL, overlays=False)
        with pytest.raises(KeyboardInterrupt), writer:
            writer.write(image("other.png"), objects(74), objects(74))
            raise KeyboardInterrupt
        assert {path: path.read_bytes() for path in before} == before
        number = "" if run == 1 else "-2"
        results, images = (tmp_path / f"{n}.unfinished{number}.json" for n in ("results", "images"))
        assert sorted(writer.unfinished) == [images, results]
        assert len(json.loads(results.read_text())) == 74
        assert json.loads(images.read_text())["images"][0]["file_name"] == "other.png"
    assert len(names(tmp_path)) == 6
    # A run that ends replaces the results.
    write(tmp_path, [3])
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3
    assert len(names(tmp_path)) == 6


def test_objects_of_classes_that_the_annotation_file_lacks_are_not_written(tmp_path):
    numbers = AnnotationIds(tmp_path / "x.json", {"0.png": 40}, [None, 7])
    found = objects(4)
    found.labels[1:3] = 1
    with PredictionWriter(tmp_path, MODEL, numbers, overlays=False) as writer:
        writer.write(image("0.png"), found, found)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results] == [(40, 7)] * 2
    images = json.loads((tmp_path / "images.json").read_text())
    assert images["categories"] == [dict(id=7, name="b")]


def test_until_the_end_nothing_is_replaced(tmp_path):
    write(tmp_path, [5])
    with PredictionWriter(tmp_path, MODEL, overlays=False) as writer:
        writer.write(image("a.png"), objects(1), objects(1))
        assert len(json.loads((tmp_path / "results.json").read_text())) == 5
    assert len(json.loads((tmp_path / "results.json").read_text())) == 1


def test_a_disk_that_fills_at_the_end_leaves_the_earlier_results(tmp_path, monkeypatch):
    write(tmp_path, [5])

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileWriteError, match="No space left") as failure:
        write(tmp_path, [7])
    assert len(json.loads((tmp_path / "results.json").read_text())) == 5
    assert stops_everything(failure.value)
    assert not stops_everything(OSError(errno.ENAMETOOLONG, "File name too long"))
    assert not stops_everything(ValueError("too small"))


def test_a_video_takes_its_place_when_it_is_whole(tmp_path):
    def film(frames, end=None):
        with PredictionWriter(tmp_path, MODEL) as writer:
            for frame in range(frames):
                writer.write(image("film.mp4", frame), objects(1), objects(1))
            if end:
                raise end

    film(4)
    first = (tmp_path / "overlays/film.mp4").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        film(2, KeyboardInterrupt())
    assert (tmp_path / "overlays/film.mp4").read_bytes() == first
    assert names(tmp_path / "overlays") == ["film.mp4", "film.unfinished.mp4"]


def test_numbers_that_are_none_are_refused_before_they_are_written(tmp_path):
    with PredictionWriter(tmp_path, MODEL, overlays=False) as writer:
        with pytest.raises(EvaluationError, match="1 of 1 scores are NaN"):
            writer.write(image("a.png"), objects(1, np.nan), objects(0))
        writer.write(image("b.png"), objects(2), objects(2))
    listing = json.loads((tmp_path / "images.json").read_text())
    assert [(item["id"], item["file_name"]) for item in listing["images"]] == [(1, "b.png")]
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2


def test_overlays_of_extreme_shapes_and_names(tmp_path):
    """One pixel high, and a name that matplotlib would read as mathematics."""
    classes = ("$x^$ \\frac{", "_b")
    model = SimpleNamespace(**{**vars(MODEL), "classes": classes})
    labels = np.zeros((1, 30_000), np.uint8)
    labels[:, 9_000:] = 1
    found = ClassMap(labels, classes)
    pixels = np.full((1, 30_000, 3), 90, np.uint8)
    with PredictionWriter(tmp_path, model) as writer:
        writer.write(InputImage(Source("a.png", "a.png", "a"), pixels), found, found)
        assert writer.note == ""
    assert names(tmp_path / "overlays") == ["a.jpg"]
    assert (tmp_path / "overlays/a.jpg").stat().st_size > 500
