"""hordet infer as a person runs it: files, lines, exit codes, broken images."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from hordet.cli import main
from hordet.errors import FileWriteError
from hordet.inference import Predictor, writers
from hordet.visualization import drawing

DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/ade20k/upernet_hornet-nano_horuperhead_2k.py"


@pytest.fixture
def infer(repository, drawn_images, tmp_path):
    """Run the command in an empty folder."""
    environment = {**os.environ, "HORDET_CACHE": str(drawn_images), "OMP_NUM_THREADS": "1"}

    def run(config, *arguments, stdin="", shell=""):
        command = [sys.executable, "-m", "hordet", "infer", repository / config]
        words = [str(word) for word in (*command, *arguments, "--tiny")]
        return subprocess.run(
            ["bash", "-c", f"{shlex.join(words)} {shell}"],
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
        )

    return run


def test_a_broken_image_is_told_and_the_others_are_predicted(infer, detector, tmp_path):
    images = sorted(detector.images.iterdir())
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cut.png").write_bytes(images[0].read_bytes()[:2000])
    (folder / "whole.png").write_bytes(images[1].read_bytes())
    listed = f"{images[2]}\nnone.jpg\n"
    known = Predictor.from_config(detector.config, detector.checkpoint)
    kind, number = Counter(known(images[1]).names).most_common(1)[0]
    options = ["--batch-size", "2", "--score-threshold", "0.99", "--classes", kind]
    result = infer(DETECTION, detector.checkpoint, folder, "-", *options, stdin=listed)
    assert result.returncode == 1, result.stderr[-3000:]
    assert "none.jpg: no such file or folder" in result.stderr
    assert "cut.png is cut short or damaged" in result.stderr
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    lines = [line for line in result.stdout.splitlines() if "  " in line]
    assert lines[0] == "whole.png  96 x 96  nothing found"
    assert lines[1].startswith(images[2].name)
    assert lines[-1].startswith("2 predicted, 2 errors reported;")
    assert lines[-1].endswith("(predictions)")
    out = tmp_path / "predictions"
    assert sorted(p.name for p in (out / "overlays").iterdir()) == sorted(
        ["whole.jpg", f"{images[2].stem}.jpg"]
    )
    listing = json.loads((out / "images.json").read_text())
    assert [image["file_name"] for image in listing["images"]] == ["whole.png", images[2].name]
    found = json.loads((out / "results.json").read_text())
    names = {item["id"]: item["name"] for item in listing["categories"]}
    assert {names[item["category_id"]] for item in found} == {kind}
    # The file holds also what is below the threshold.
    assert sum(item["image_id"] == 1 for item in found) == number


def test_a_video_and_label_maps(infer, segmentor, tmp_path):
    video = cv2.VideoWriter(
        str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64)
    )
    for number in range(3):
        video.write(np.full((64, 96, 3), 80 * number, np.uint8))
    video.release()
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "earlier.mp4").write_text("kept")
    result = infer(SEGMENTATION, segmentor.checkpoint, "film.mp4", "--classes", "wall", "sky")
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1].endswith("(predictions-2)")
    assert (tmp_path / "predictions" / "earlier.mp4").read_text() == "kept"
    out = tmp_path / "predictions-2"
    maps = [np.array(Image.open(path)) for path in sorted((out / "labels/film").iterdir())]
    assert len(maps) == 3 and all(item.shape == (64, 96) for item in maps)
    # Files of this data count from 1; what is neither of the two classes is 0.
    assert {*np.unique(maps)} <= {0, 1, 3}
    film = cv2.VideoCapture(str(out / "overlays/film.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 800


def test_what_is_refused(
    detector, segmentor, repository, tmp_path, monkeypatch, cache_folder, capsys
):
    """Within this process: five starts of Python would take half a minute."""
    monkeypatch.chdir(tmp_path)
    cases = [
        (detector, [detector.images, "--classes", "stars"], "did you mean 'star'"),
        (segmentor, [segmentor.images, "--score-threshold", "0.5"], "has neither scores"),
        (
            detector,
            [segmentor.checkpoint, "--annotations", detector.annotations],
            "1 images are not in the annotation file, such as 'random.pth'",
        ),
    ]
    for model, arguments, words in cases:
        config = DETECTION if model is detector else SEGMENTATION
        given = ["infer", repository / config, model.checkpoint, *arguments, "--tiny"]
        assert main([str(word) for word in given]) == 2
        assert words in capsys.readouterr().err
    for option in (["--batch-size", "0"], ["--score-threshold", "30"]):
        with pytest.raises(SystemExit, match="2"):
            main(["infer", "a.py", "b.pth", "c.png", *option])
    assert main(["infer", "a.py", "b.pth", "nothing"]) == 2
    assert not (tmp_path / "predictions").exists()


def test_one_bad_input_of_each_kind(
    detector, repository, tmp_path, monkeypatch, cache_folder, capsys
):
    """Reading, predicting, drawing, writing: each is told with its name, the rest goes on."""
    images = sorted(detector.images.iterdir())
    folder = tmp_path / "photos"
    folder.mkdir()
    kinds = ("cut", "draw", "predict", "whole", "write")
    for name in kinds:
        shutil.copy(images[0], folder / f"{name}.png")
    (folder / "cut.png").write_bytes(images[0].read_bytes()[:2000])
    for name in ("a.gif", "b.gif", "c.heic"):
        (folder / name).write_bytes(b"")
    # The image to be predicted is told from the others by its size.
    Image.open(images[0]).crop((0, 0, 90, 90)).save(folder / "predict.png")
    Image.open(images[0]).crop((0, 0, 80, 80)).save(folder / "draw.png")
    predict, draw, write = Predictor.predict, drawing.draw_overlay, writers.write_whole

    def fail_to_predict(self, batch):
        if any(image.shape[0] == 90 for image in batch):
            raise RuntimeError("no such kernel")
        return predict(self, batch)

    def fail_to_draw(image, *options):
        if image.shape[0] == 80:
            raise cv2.error("filter")
        return draw(image, *options)

    def fail_to_write(path, content):
        if path.stem == "write":
            raise FileWriteError("cannot write it") from OSError(errno.ENAMETOOLONG, "long")
        return write(path, content)

    monkeypatch.setattr(Predictor, "predict", fail_to_predict)
    monkeypatch.setattr(drawing, "draw_overlay", fail_to_draw)
    monkeypatch.setattr(writers, "write_whole", fail_to_write)
    out = tmp_path / "out"
    words = [repository / DETECTION, detector.checkpoint, folder, "--out", out, "--tiny"]
    assert main(["infer", *map(str, words)]) == 1
    said, told = capsys.readouterr()
    assert "note: left out by their endings: 2 .gif, 1 .heic. Endings that count" in told
    for line in (
        "cut.png is cut short or damaged",
        "draw.png: error: filter",
        "predict.png: RuntimeError: no such kernel",
        "write.png: cannot write it",
    ):
        assert f"error: {folder}/{line}" in told, told
    assert said.splitlines()[-1].startswith("1 predicted, 4 errors reported;")
    # Results that could not be drawn are there.
    listing = json.loads((out / "images.json").read_text())["images"]
    assert [item["file_name"] for item in listing] == ["draw.png", "whole.png", "write.png"]
    assert [path.name for path in (out / "overlays").iterdir()] == ["whole.jpg"]


def test_ctrl_c_keeps_the_earlier_results(
    detector, repository, tmp_path, monkeypatch, cache_folder, capsys
):
    images = sorted(detector.images.iterdir())
    words = ["infer", repository / DETECTION, detector.checkpoint, "--tiny", "--no-overlays"]
    words = [str(word) for word in (*words, "--out", tmp_path / "out")]
    assert main([*words, *map(str, images[:2])]) == 0
    before = (tmp_path / "out/results.json").read_bytes()
    predict = Predictor.predict

    def stop_at_the_second(self, batch):
        if stop_at_the_second.done:
            raise KeyboardInterrupt
        stop_at_the_second.done = True
        return predict(self, batch)

    stop_at_the_second.done = False
    monkeypatch.setattr(Predictor, "predict", stop_at_the_second)
    capsys.readouterr()
    assert main([*words, *map(str, images)]) == 130
    told = capsys.readouterr().err
    assert "broken off after 1 images" in told
    assert "It has kept images.unfinished.json, results.unfinished.json there" in told
    assert (tmp_path / "out/results.json").read_bytes() == before
    listing = json.loads((tmp_path / "out/images.unfinished.json").read_text())["images"]
    assert [item["file_name"] for item in listing] == [images[0].name]


def test_a_reader_that_goes_away_ends_it_without_noise(infer, detector):
    images = detector.images
    # `true` reads nothing and has gone by the time the first line comes.
    result = infer(DETECTION, detector.checkpoint, images, shell='| true; echo "${PIPESTATUS[0]}"')
    assert result.stdout == "141\n"
    assert "Broken pipe" not in result.stderr and "Error" not in result.stderr, result.stderr


def test_the_help_has_no_noise_either(tmp_path):
    command = f"{sys.executable} -m hordet infer --help | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stderr == ""
