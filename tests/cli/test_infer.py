"""tools/infer.py as a person runs it: files, lines, exit codes, broken images."""

import json
import os
import runpy
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from hordet.errors import ConfigError
from hordet.inference import Predictor

DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/ade20k/upernet_hornet-nano_horuperhead_2k.py"


@pytest.fixture
def infer(pytestconfig, drawn_images, tmp_path):
    """Run the tool in an empty folder."""
    root = pytestconfig.rootpath
    environment = {**os.environ, "HORDET_CACHE": str(drawn_images), "OMP_NUM_THREADS": "1"}

    def run(leaf, *arguments, stdin=""):
        command = [sys.executable, root / "tools/infer.py", root / leaf, *arguments, "--tiny"]
        return subprocess.run(
            [str(word) for word in command],
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
    assert "cut.png is no image, or is cut short" in result.stderr
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    lines = [line for line in result.stdout.splitlines() if "  " in line]
    assert lines[0] == "whole.png  96 x 96  nothing found"
    assert lines[1].startswith(images[2].name)
    assert lines[-1].startswith("2 predicted, 2 could not be read;")
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


def test_what_is_refused(detector, segmentor, pytestconfig, tmp_path, monkeypatch, cache_folder):
    """Within this process: five starts of Python would take half a minute."""
    tool = runpy.run_path(str(pytestconfig.rootpath / "tools/infer.py"))
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
        leaf = DETECTION if model is detector else SEGMENTATION
        given = [tool["__file__"], pytestconfig.rootpath / leaf, model.checkpoint, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in (*given, "--tiny")])
        with pytest.raises(ConfigError, match=words):
            tool["infer"](tool["parse_arguments"]())
    for option in (["--batch-size", "0"], ["--score-threshold", "30"]):
        monkeypatch.setattr(sys, "argv", ["infer.py", "a.py", "b.pth", "c.png", *option])
        with pytest.raises(SystemExit, match="2"):
            tool["parse_arguments"]()
    monkeypatch.setattr(sys, "argv", ["infer.py", "a.py", "b.pth", "nothing"])
    assert tool["infer"](tool["parse_arguments"]()) == 2
    assert not (tmp_path / "predictions").exists()
