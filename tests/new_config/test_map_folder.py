"""A folder of label maps: its figures, the segmentor they lead to, and what is refused in words."""

import shutil

import numpy as np
import pytest
import torch
from own_data import write_maps
from PIL import Image

from hordet.config.load import load_config
from hordet.errors import DatasetError
from hordet.new_config import (
    Backbone,
    bases_for,
    look_at_maps,
    name_of_leaf,
    place_held_out,
    segmentation_choices,
    segmentation_leaf,
    write_leaf,
)
from hordet.registry import MODELS


@pytest.fixture
def fields(tmp_path):
    return write_maps(tmp_path / "fields", dict(training=5, validation=2))


def write(figures, out, backbone=None):
    choices = segmentation_choices(figures, pretrained=False)
    held_out = place_held_out(figures, out)
    text = segmentation_leaf(figures, choices, backbone or Backbone(None), bases_for(figures, out))
    return write_leaf(figures, text, out, held_out)


def maps_of(root, split="training"):
    return sorted((root / "annotations" / split).iterdir())


def overwrite(path, values):
    Image.fromarray(np.resize(np.array(values), (80, 120))).save(path)


def test_figures_are_those_of_the_data(fields):
    figures = look_at_maps(fields)
    assert figures.classes == ("class_0", "class_1", "class_2") and figures.named_by is None
    assert sum(figures.counts.values()) == 5 * 120 * 80 * 3 / 4
    assert figures.ignored == pytest.approx(0.25)
    assert (len(figures.train.names), len(figures.val.names)) == (5, 2)
    assert (figures.train.images, figures.val.maps) == ("images/training", "annotations/validation")
    assert (figures.img_suffix, figures.seg_map_suffix) == (".jpg", ".png")
    assert set(figures.long_sides) == {120} and set(figures.short_sides) == {80}


def test_choices_follow_from_the_figures(fields):
    figures = look_at_maps(fields)
    choices = segmentation_choices(figures, pretrained=True)
    # At most 200 passes over 5 images in batches of 4.
    assert choices.schedule.length == 250 and choices.schedule.val_interval == 100
    # Half, a quarter and a quarter of the pixels that have a class, in some order.
    shares = np.array(list(figures.counts.values())) / sum(figures.counts.values())
    assert np.allclose(choices.class_weight, shares**-0.5 / (shares**0.5).sum(), atol=5e-3)
    assert shares @ choices.class_weight == pytest.approx(1, abs=0.01)
    assert choices.scale == (120, 80) and choices.crop == (96, 128)
    figures.train.names = [str(number) for number in range(400)]
    # 270 * sqrt(3) iterations, in fifties; at least 5 passes.
    assert segmentation_choices(figures, pretrained=True).schedule.length == 500
    figures.train.names = figures.train.names[:200]
    assert segmentation_choices(figures, pretrained=True).schedule.length == 450
    assert segmentation_choices(figures, pretrained=False).schedule.length == 700
    half = segmentation_choices(figures, pretrained=True, batch_size=2).schedule
    assert (half.length, half.learning_rate) == (950, 0.75e-3)
    figures.long_sides, figures.short_sides = np.array([1280.0]), np.array([960.0])
    large = segmentation_choices(figures, pretrained=True)
    assert large.scale == (640, 480) and large.crop == (256, 320)


def test_the_leaf_loads_and_its_data_pass(fields, tmp_path):
    out = tmp_path / "leaf.py"
    found = write(look_at_maps(fields), out)
    assert (found.errors, found.warnings) == ([], [])
    cfg = load_config(out, safe=True)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3
    assert cfg.model.data_preprocessor["size"] == (96, 128)
    palette = cfg.train_dataloader.dataset.metainfo.palette
    assert len({*map(tuple, palette)}) == 3 and np.min(palette) >= 0 and np.max(palette) <= 255
    assert cfg.train_dataloader.dataset.type == "mmseg.BaseSegDataset"
    assert cfg.train_cfg.max_iters == 400 and not cfg.val_dataloader.dataset.reduce_zero_label
    assert "_delete_" not in cfg.train_dataloader.dataset


def test_the_loss_weights_pixels_by_their_class_beside_ignored_ones(fields, tmp_path):
    write(look_at_maps(fields), tmp_path / "leaf.py")
    settings = load_config(tmp_path / "leaf.py").model.decode_head.loss_decode
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 5, 7))
    labels[0, 1] = 255
    loss = MODELS.build({"type": f"mmseg.{settings.pop('type')}", **settings})
    got = loss(logits, labels, ignore_index=255).mean()
    want = 0.0
    for n, row, column in (labels != 255).nonzero().tolist():
        label = labels[n, row, column]
        want -= settings.class_weight[label] * logits[n, :, row, column].log_softmax(0)[label]
    torch.testing.assert_close(got, want / labels.numel())


def test_weights_bring_their_backbone_and_its_preprocessing(fields, tmp_path):
    out = tmp_path / "leaf.py"
    write(look_at_maps(fields), out, Backbone("some/weights.pth"))
    cfg = load_config(out)
    assert cfg.model.backbone.init_cfg.checkpoint == "some/weights.pth"
    assert cfg.model.data_preprocessor["mean"] == [127.5] * 3
    assert cfg.model.decode_head.in_channels == [24, 40, 112, 320]
    assert (cfg.model.backbone.frozen_stages, cfg.model.backbone.norm_eval) == (2, True)
    assert cfg.channels_last
    assert cfg.optim_wrapper.paramwise_cfg.decay_rate == 0.9


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "soil\ncrop\nweed plant\n"),
        ("meta.json", '{"classes": ["soil", "crop", "weed plant"]}'),
        ("objectInfo3.txt", "Idx\tRatio\tName\n1\t0.5\tsoil\n2\t0.3\tcrop\n3\t0.2\tweed plant\n"),
    ],
)
def test_a_file_names_the_classes(fields, file, text):
    (fields / file).write_text(text)
    figures = look_at_maps(fields)
    assert figures.classes == ("soil", "crop", "weed plant") and figures.named_by.name == file
    assert not figures.reduce_zero_label


def test_names_that_count_from_one_leave_zero_out(fields, tmp_path):
    (fields / "labels.txt").write_text("crop\nweed\n")
    figures = look_at_maps(fields)
    assert figures.classes == ("crop", "weed") and figures.reduce_zero_label
    assert figures.ignored == pytest.approx(0.5)
    assert figures.counts["crop"] == 5 * 120 * 80 / 4
    assert not write(figures, tmp_path / "leaf.py").errors
    (fields / "labels.txt").write_text("crop\n")
    with pytest.raises(DatasetError, match="are 1, but label maps.*hold the values 1, 2"):
        look_at_maps(fields)


def test_values_of_validation_alone_are_classes_too(fields):
    overwrite(maps_of(fields, "validation")[0], np.array([0, 4], np.uint8))
    figures = look_at_maps(fields)
    assert len(figures.classes) == 5 and figures.counts["class_4"] == 0
    assert segmentation_choices(figures, pretrained=True).class_weight[3:] == [1.0, 1.0]
    caution = segmentation_choices(figures, pretrained=True).cautions(figures)[0]
    assert caution.startswith("2 of 5 classes have no pixel")


def test_maps_of_other_modes(fields):
    palette = Image.open(maps_of(fields)[0]).convert("P")
    palette.putpalette([7] * 768)
    palette.save(maps_of(fields)[1])
    overwrite(maps_of(fields)[2], np.array([0, 1, 2, 255], np.uint16))
    figures = look_at_maps(fields)
    assert figures.classes == ("class_0", "class_1", "class_2")
    Image.new("RGB", (120, 80)).save(maps_of(fields)[1])
    with pytest.raises(DatasetError, match="has 3 channels.*export indices, not colours"):
        look_at_maps(fields)


def test_a_binary_mask_of_0_and_255_is_no_map_of_classes(tmp_path):
    root = write_maps(tmp_path, dict(train=2, val=1), values=(0, 255))
    with pytest.raises(DatasetError, match="hold the values 0, 255.*write 1 in place of 255"):
        look_at_maps(root)


def test_longer_names_of_maps(tmp_path):
    root = write_maps(tmp_path / "d", dict(train=2, val=1), suffix="_labels.png")
    figures = look_at_maps(root)
    assert figures.seg_map_suffix == "_labels.png"
    assert not write(figures, tmp_path / "leaf.py").errors


def test_without_validation_nothing_is_guessed_and_a_share_can_be_held_out(fields, tmp_path):
    for folder in ("images", "annotations"):
        shutil.rmtree(fields / folder / "validation")
    with pytest.raises(DatasetError, match="no validation split.*--hold-out 0.2"):
        look_at_maps(fields)
    figures = look_at_maps(fields, share=0.4)
    assert not write(figures, tmp_path / "leaf.py").errors
    parts = [(tmp_path / f"leaf_{s}.txt").read_text().split() for s in ("train", "val")]
    assert [len(part) for part in parts] == [3, 2] and not {*parts[0]} & {*parts[1]}
    cfg = load_config(tmp_path / "leaf.py")
    assert cfg.val_dataloader.dataset.ann_file == str(tmp_path / "leaf_val.txt")


def test_missing_parts_are_named(fields):
    maps_of(fields)[0].unlink()
    with pytest.raises(DatasetError, match="has no label map"):
        look_at_maps(fields)
    Image.new("RGB", (120, 80)).save(fields / "images" / "training" / "other.bmp")
    with pytest.raises(DatasetError, match="images of one suffix, and has 5 .jpg, 1 .bmp"):
        look_at_maps(fields)
    shutil.rmtree(fields / "annotations")
    with pytest.raises(DatasetError, match="no folder of label maps.*it holds images"):
        look_at_maps(fields)


@pytest.mark.parametrize(
    ("name", "classes", "iterations"), [("camvid", 11, 900), ("ade_mini", 151, 350)]
)
def test_real_data(shared_data, tmp_path, name, classes, iterations):
    figures = look_at_maps(shared_data / name)
    choices = segmentation_choices(figures, pretrained=True)
    assert (len(figures.classes), choices.schedule.length) == (classes, iterations)
    assert not write(figures, tmp_path / "leaf.py").errors
    leaf = name_of_leaf(figures, choices.schedule, Backbone(None))
    assert leaf.parts[:2] == ("own_configs", name)
