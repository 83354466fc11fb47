"""The predictor: the numbers of a test run, whatever form the image has."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from hordet.engine import runner as run
from hordet.errors import CheckpointError, ConfigError, DatasetError
from hordet.inference import Predictor
from hordet.inference.prediction import ClassMap, Instances
from hordet.inference.sources import find_sources
from hordet.inference.stream import predict_sources
from hordet.inference.writers import AnnotationIds, PredictionWriter


@pytest.fixture(scope="module")
def detect(detector):
    return Predictor.from_config(detector.config, detector.checkpoint)


@pytest.fixture(scope="module")
def segment(segmentor):
    return Predictor.from_config(segmentor.config, segmentor.checkpoint)


def predict_folder(predictor, model, out, batch_size):
    sources, problems = find_sources([str(model.images)])
    assert len(sources) == 4 and not problems
    numbers = None
    if not predictor.is_semantic:
        numbers = AnnotationIds.read(model.annotations, predictor.classes)
    with PredictionWriter(out, predictor, numbers) as writer:
        for image, found in predict_sources(predictor, sources, problems.append, batch_size):
            writer.write(image, found, found)
    assert not problems


def test_a_runner(model, out):
    cfg = copy.deepcopy(model.config)
    cfg.update(work_dir=str(out.parent / "work"), log_level="ERROR")
    run.build_test_runner(cfg, model.checkpoint, out=str(out)).test()


test_a_runner.__test__ = False


def test_objects_are_those_of_a_test_run(detector, detect, tmp_path):
    test_a_runner(detector, tmp_path / "tested.json")
    tested = json.loads((tmp_path / "tested.segm.json").read_text())
    assert len(tested) > 100 and detector.config.test_dataloader.batch_size == 2
    predict_folder(detect, detector, tmp_path / "two", batch_size=2)
    assert json.loads((tmp_path / "two" / "results.json").read_text()) == tested
    # Another number of images at once is another order of sums within the layers.
    predict_folder(detect, detector, tmp_path / "one", batch_size=1)
    found = json.loads((tmp_path / "one" / "results.json").read_text())
    scores = [sorted(item["score"] for item in items) for items in (found, tested)]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_class_maps_are_those_of_a_test_run(segmentor, segment, tmp_path):
    test_a_runner(segmentor, tmp_path / "tested")
    predict_folder(segment, segmentor, tmp_path / "out", batch_size=1)
    files = sorted((tmp_path / "tested").glob("*.png"))
    assert len(files) == 4 and segment.reduce_zero_label
    for file in files:
        tested, found = (
            np.array(Image.open(p)) for p in (file, tmp_path / "out/labels" / file.name)
        )
        assert tested.min() >= 1 and found.dtype == np.uint8
        np.testing.assert_array_equal(found, tested)
    assert not (tmp_path / "out" / "results.json").exists()


def test_an_array_and_a_image_of_pillow_are_the_file(detect, detector):
    path = sorted(detector.images.iterdir())[0]
    found = detect(path)
    assert isinstance(found, Instances) and len(found) > 10
    assert found.boxes.shape == (len(found), 4) and found.boxes.dtype == np.float32
    assert found.bitmaps().shape == (len(found), *found.size) and found.bitmaps().any()
    assert found.names[0] in detect.classes
    with Image.open(path) as opened:
        for other in (str(path), cv2.imread(str(path)), opened, opened.convert("RGBA")):
            again = detect(other)
            np.testing.assert_array_equal(again.boxes, found.boxes)
            np.testing.assert_array_equal(again.scores, found.scores)
            assert again.masks == found.masks


def test_a_turned_photo_is_turned_back(segment):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6  # the camera was held upright
    assert segment(image).size == (60, 40)


def test_selection():
    masks = [dict(size=[4, 4], counts=b"") for _ in range(3)]
    found = Instances(
        boxes=np.arange(12, dtype=np.float32).reshape(3, 4),
        scores=np.array([0.9, 0.5, 0.2], np.float32),
        labels=np.array([1, 0, 1]),
        masks=masks,
        size=(4, 4),
        classes=("a", "b"),
    )
    assert found.describe() == "2 b, 1 a"
    assert found.select(0.5).names == ["b", "a"] and found.select(1.0).describe() == "nothing found"
    kept = found.select(classes=["b"])
    assert kept.boxes[:, 0].tolist() == [0, 8] and kept.masks == [masks[0], masks[2]]
    with pytest.raises(ConfigError, match="class 'bb' is none of a, b; did you mean 'b'"):
        found.select(classes=["bb"])


def test_selection_of_a_map():
    labels = np.array([[0, 0, 1], [2, 2, 2]], np.uint8)
    found = ClassMap(labels, ("sky", "road", "car"))
    assert found.describe() == "car 50%, sky 33%, road 17%" and found.size == (2, 3)
    assert found.select(["road", "sky"]).labels.tolist() == [[0, 0, 1], [255, 255, 255]]
    assert found.select([]).describe() == "none of the classes"


def test_large_images_by_tiles(make_model, segmentor):
    """Tiles at the image's own size; of one that fits a tile, the whole map at once."""
    tiled = Predictor.from_config(segmentor.config, segmentor.checkpoint, tile=64)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mean, std = (getattr(tiled.model.data_preprocessor, key) for key in ("mean", "std"))
    inputs = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = tiled.model.encode_decode((inputs - mean) / std, [dict(img_shape=(64, 64))])
    chosen = torch.from_numpy(tiled(image).labels).long()[None]
    # Rounding decides between classes of equal logits.
    torch.testing.assert_close(logits[0].gather(0, chosen)[0], logits[0].amax(0))
    assert tiled.model.test_cfg.stride == (43, 43)
    assert tiled(np.tile(image, (3, 4, 1))).size == (192, 256)


def test_objects_by_tiles_are_those_of_a_sliced_test_run(detector, tmp_path):
    cfg = copy.deepcopy(detector.config)
    cfg.update(work_dir=str(tmp_path / "work"), log_level="ERROR")
    cfg.sliced_model = dict(patch_size=[64, 60], patch_overlap_ratio=0.25)
    out = tmp_path / "tested.json"
    run.build_test_runner(cfg, detector.checkpoint, out=str(out), sliced=True).test()
    tested = json.loads((tmp_path / "tested.segm.json").read_text())

    tiled = Predictor.from_config(detector.config, detector.checkpoint, tile=(64, 60), overlap=0.25)
    predict_folder(tiled, detector, tmp_path / "tiled", batch_size=2)
    found = json.loads((tmp_path / "tiled" / "results.json").read_text())
    assert len(found) > 100 and found == tested
    # sliced_model of the config says how, where the call does not.
    cfg = copy.deepcopy(detector.config)
    cfg.sliced_model = dict(patch_overlap_ratio=0.4)
    by_config = Predictor.from_config(cfg, detector.checkpoint, tile=(48, 40))
    assert by_config.model.patches.overlap_ratio == 0.4
    whole = Predictor.from_config(detector.config, detector.checkpoint)
    image = next(path for path in sorted(detector.images.iterdir()))
    assert len(tiled(image)) > len(whole(image))


def test_overlap_of_a_segmentor(segmentor):
    tiled = Predictor.from_config(segmentor.config, segmentor.checkpoint, tile=(64, 32), overlap=0)
    assert tiled.model.test_cfg.stride == (64, 32)


def test_what_is_refused(detector, segmentor, detect, tmp_path):
    def build(model=detector, **options):
        return Predictor.from_config(model.config, model.checkpoint, **options)

    for tile in ((0, 64), 0, (64.0, 64), (64, 64, 64), 64.0, "64", True):
        with pytest.raises(ConfigError, match="got tiles of .* pixels; allowed are one whole"):
            build(segmentor, tile=tile)
    with pytest.raises(ConfigError, match="got an overlap of 1.5; allowed is 0 to below 1"):
        build(tile=64, overlap=1.5)
    with pytest.raises(ConfigError, match="got an overlap of 0.5 without a tile"):
        build(overlap=0.5)
    with pytest.raises(ConfigError, match="got device 'gpu', which cannot be used here"):
        build(device="gpu")
    with pytest.raises(CheckpointError, match="is of another model"):
        Predictor.from_config(detector.config, segmentor.checkpoint)
    with pytest.raises(DatasetError, match=r"got an array .* is \(4, 4, 2\) of uint8; allowed is"):
        detect(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(DatasetError, match="has float values of 0 to 255 .*Scale it"):
        detect(np.linspace(0, 255, 16).reshape(4, 4))
    with pytest.raises(DatasetError, match=r"cannot read .*none\.jpg: No such file"):
        detect(tmp_path / "none.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DatasetError, match=r"text\.jpg is not an image, or is cut short"):
        detect(tmp_path / "text.jpg")
    cfg = copy.deepcopy(detector.config)
    cfg.test_dataloader.dataset.pipeline = cfg.test_dataloader.dataset.pipeline[1:]
    with pytest.raises(ConfigError, match="begins with mmdet.Resize; it must begin with"):
        Predictor.from_config(cfg, detector.checkpoint)
    cfg = copy.deepcopy(detector.config)
    cfg.test_dataloader.dataset.metainfo = dict(classes=("one",))
    with pytest.raises(ConfigError, match="but 1 classes are named"):
        Predictor.from_config(cfg, detector.checkpoint)(np.zeros((96, 96, 3), np.uint8))
