"""What the page shows of an image, without a page: limits, views, legends, files."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from hordet.demo.answers import Answers, name_models
from hordet.errors import DatasetError, DemoError
from hordet.inference.prediction import ClassMap, Instances
from hordet.visualization.drawing import draw_overlay


def test_what_is_no_image_is_refused_by_its_name_alone(answers, detector, tmp_path):
    whole = sorted(detector.images.iterdir())[0].read_bytes()
    for name, content, words in (
        ("words.png", b"none", r"^words\.png is not an image\. Allowed are"),
        ("empty.jpg", b"", r"^empty\.jpg is not an image"),
        ("cut.png", whole[:2000], r"^cut\.png is cut short or damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=words):
            answers.open(tmp_path / name)


def test_closed_answers_end_what_they_began_and_begin_no_more(answers, detector, tmp_path):
    begun, may_end, done = (threading.Event() for _ in range(3))
    model = next(iter(answers.models.values()))

    class Slow:
        def __getattr__(self, name):
            return getattr(model, name)

        def __call__(self, image):
            begun.set()
            may_end.wait(60)
            return model(image)

    slow = Answers({"slow": Slow()}, tmp_path)
    photo = slow.open(sorted(detector.images.iterdir())[0])
    threading.Thread(target=slow.show, args=(photo, "slow"), daemon=True).start()
    assert begun.wait(60)
    closing = threading.Thread(target=lambda: (slow.close(), done.set()), daemon=True)
    closing.start()
    assert not done.wait(0.3)
    may_end.set()
    assert done.wait(60) and photo.predictions.keys() == {"slow"}
    begun.clear()
    photo.predictions.clear()
    with pytest.raises(DemoError, match="The page is being closed"):
        slow.show(photo, "slow")
    assert not begun.is_set()


def test_pixels_are_counted_before_they_are_decoded(answers, tmp_path):
    Image.new("1", (1000, 1000)).save(tmp_path / "whole.png")
    assert answers.open(tmp_path / "whole.png").image.pixels.shape == (1000, 1000, 3)
    Image.new("1", (1700, 550)).save(tmp_path / "long.png")
    shown = answers.show(answers.open(tmp_path / "long.png"), "map")
    assert shown.overlay.shape == (518, 1600, 3)  # what is drawn; the labels have every pixel
    assert Image.open(shown.files[1]).size == (1700, 550)
    Image.new("1", (1001, 1000)).save(tmp_path / "more.png")
    with pytest.raises(DatasetError, match="more.png has 1001 x 1000 pixels; allowed are up to 1"):
        answers.open(tmp_path / "more.png")
    # A header that promises 400 million pixels: no decoder sees it.
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(DatasetError, match="bomb.png has more than 178 million pixels"):
        answers.open(tmp_path / "bomb.png")


def test_pixels_are_counted_as_they_are_decoded(answers, tmp_path, write_two_headed_tiff):
    path = tmp_path / "two.tif"
    write_two_headed_tiff(path, stated=100, side=1200)
    assert Image.open(path).size == (100, 100)
    with pytest.raises(DatasetError, match="two.tif is cut short or damaged"):
        answers.open(path)


def test_opencv_refuses_before_it_decodes(tmp_path, write_two_headed_tiff):
    """As hordet demo sets the limit, before OpenCV is imported: no memory is taken."""
    write_two_headed_tiff(tmp_path / "two.tif")
    code = (
        "import resource\n"
        "from types import SimpleNamespace\n"
        "import cv2\n"
        "from hordet.demo.answers import Answers, Limits\n"
        "from hordet.errors import DatasetError\n"
        "def read(path):\n"
        "    try:\n"
        "        return cv2.imread(str(path)).copy()\n"
        "    except cv2.error as error:\n"
        "        raise DatasetError('is no image') from error\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    models = {'a': SimpleNamespace(read=read)}\n"
        "    Answers(models, '.', Limits(megapixels=1)).open('two.tif')\n"
        "except DatasetError as error:\n"
        "    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "1000000"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    words, kilobytes = run.stdout.splitlines()
    assert words.startswith("two.tif has more pixels than the 100 x 100 of its header; allowed are")
    assert int(kilobytes) < 100_000  # decoded it would take 432 MB


def test_objects_are_drawn_counted_and_written(answers, predictors, photo):
    model = predictors["objects"]
    whole = model(photo.image.pixels)
    counts = Counter(whole.names)
    shown = answers.show(photo, "objects", 0.0)
    masks, names = whole.bitmaps(), np.array(whole.names)
    assert {item["name"]: item["amount"] for item in shown.legend} == {
        name: f"{count}, {masks[names == name].any(0).mean():.1%}" for name, count in counts.items()
    }
    boxes = replace(whole, masks=None)
    assert not boxes.shares().any() and boxes.shares().shape == (len(model.classes),)
    assert all(item["shown"] and item["color"].startswith("#") for item in shown.legend)
    rgb = photo.image.pixels[..., ::-1]
    drawn = draw_overlay(rgb, whole.panel(), model.classes, model.colors)
    assert shown.overlay.shape == (800, 800, 3)
    nothing = whole.select(classes=[]).panel()
    drawn_plain = draw_overlay(rgb, nothing, model.classes, model.colors)
    np.testing.assert_array_equal(answers.draw_plain(photo), drawn_plain)
    np.testing.assert_array_equal(shown.overlay, drawn[:800])
    assert [path.name for path in shown.files] == ["overlay.png", "images.json", "results.json"]
    np.testing.assert_array_equal(np.array(Image.open(shown.files[0])), drawn)
    assert len(json.loads(shown.files[2].read_text())) == len(whole)
    categories = json.loads(shown.files[1].read_text())["categories"]
    assert [item["name"] for item in categories] == list(model.classes)


def test_threshold_and_classes_do_not_run_the_model_again(answers, predictors, photo):
    whole = answers.show(photo, "objects", 0.0)
    kept = photo.predictions["objects"]
    answers.models["objects"].model, model = None, answers.models["objects"].model
    try:
        threshold = float(np.median(kept.scores))
        above = answers.show(photo, "objects", threshold)
        first = whole.legend[0]["name"]
        without = answers.show(photo, "objects", 0.0, {first, "a class of another model"})
    finally:
        answers.models["objects"].model = model
    assert above.line == kept.select(threshold).describe() != whole.line
    others = [name for name in predictors["objects"].classes if name != first]
    assert without.line == kept.select(classes=others).describe()
    # A hidden class stays in the legend: there it comes back.
    assert without.legend == [{**whole.legend[0], "shown": False}, *whole.legend[1:]]
    assert len(json.loads(without.files[2].read_text())) == len(kept.select(classes=others))
    gone = answers.show(photo, "objects", 1.0, {first})
    assert gone.line == "nothing found" and json.loads(gone.files[2].read_text()) == []
    assert [(item["name"], item["amount"]) for item in gone.legend] == [(first, "0")]


def test_a_map_its_legend_and_its_label_file(answers, predictors, photo):
    shown = answers.show(photo, "map", 0.3)
    labels = photo.predictions["map"].labels
    names = predictors["map"].classes
    shares = {names[k]: f"{(labels == k).mean():.1%}" for k in np.unique(labels)}
    assert {item["name"]: item["amount"] for item in shown.legend} == shares
    # Label files of this data count from 1.
    assert [path.name for path in shown.files] == ["overlay.png", "labels.png"]
    np.testing.assert_array_equal(np.array(Image.open(shown.files[1])), labels + 1)
    first = shown.legend[0]["name"]
    hidden = answers.show(photo, "map", 0.3, {first})
    written = np.array(Image.open(hidden.files[1]))
    np.testing.assert_array_equal(written == 0, labels == names.index(first))
    # The image itself shows where its class is hidden.
    assert set(photo.predictions) == {"map"}
    assert np.abs(hidden.overlay.astype(int) - shown.overlay).max() > 20


def test_outlines_leave_the_inside_as_it_is():
    """Of masks and of class maps; eight pixels of the drawing are one of the image."""
    gray = np.full((100, 100, 3), 128, np.uint8)
    names, colors, plain = ("a", "b"), [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)], (128,) * 3
    mask = np.zeros((100, 100), np.uint8, order="F")
    mask[30:70, 30:70] = 1
    found = Instances(
        *(np.array(each) for each in ([[20.0, 20, 80, 80]], [0.9], [0])),
        masks=[coco_mask.encode(mask)],
        size=(100, 100),
        classes=names,
    )
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 50:] = 1
    labels[:10] = 255  # no class

    def draw(prediction, *places):
        panel = prediction.panel()
        lines = draw_overlay(gray, panel, names, colors, filled=False, with_legend=False)
        return [tuple(lines[8 * y + 4, 8 * x + 4]) for y, x in places]

    inside, outside, *line = draw(found, (50, 50), (25, 25), *((50, x) for x in (29, 30, 31)))
    assert inside == outside == plain and any(red > 150 > green for red, green, _ in line)
    red, blue = (255, 0, 0), (0, 0, 255)
    places = ((50, 20), (50, 49), (50, 50), (50, 80), (10, 20), (9, 20))
    assert draw(ClassMap(labels, names), *places) == [plain, red, blue, plain, red, plain]
    assert found.shares().tolist() == [0.16, 0.0]


def test_the_python_lines_give_the_same_answer(
    detector, predictors, photo, tmp_path, capsys, monkeypatch
):
    detector.config.dump(tmp_path / "config.py")
    origins = dict(objects=(str(tmp_path / "config.py"), str(detector.checkpoint)))
    answers = Answers(predictors, tmp_path, origins=origins)
    monkeypatch.chdir(photo.image.source.path.parent)
    for hidden in ((), {predictors["objects"].classes[0]}):
        shown = answers.show(photo, "objects", 0.01, hidden)
        exec(shown.code, {})
        assert capsys.readouterr().out.splitlines()[-1] == shown.line
    twice = Answers(predictors, tmp_path, origins=dict(map=("hordet://a", "hordet://a")))
    assert "from_config('hordet://a')\nfound = predictor('" in twice.show(photo, "map").code


def test_models_have_names_of_their_own():
    pairs = [("a/x.py", "1/last.pth"), ("y.py", "last.pth"), ("b/x.py", "2/last.pth")]
    assert name_models(pairs) == ["x (last)", "y", "x (last) 2"]
