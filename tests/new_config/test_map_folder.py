"""A folder of label maps: its statistics, the segmentor they lead to, what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from own_data import write_maps
from PIL import Image

from hordet.cli import main
from hordet.config.load import load_config
from hordet.datasets.formats.maps_beside import find_map_end
from hordet.errors import DatasetError
from hordet.new_config import (
    BackboneChoice,
    choose_segmentation,
    find_bases,
    measure_maps,
    name_config,
    place_held_out,
    save_config,
    write_segmentation_config,
)
from hordet.registry import DATASETS, MODELS


@pytest.fixture
def fields(tmp_path):
    return write_maps(tmp_path / "fields", dict(training=5, validation=2))


def write(statistics, out, backbone=None):
    choices = choose_segmentation(statistics, pretrained=False)
    held_out = place_held_out(statistics, out)
    text = write_segmentation_config(
        statistics, choices, backbone or BackboneChoice(None), find_bases(statistics, out)
    )
    return save_config(statistics, text, out, held_out)


def maps_of(root, split="training"):
    return sorted((root / "annotations" / split).iterdir())


def overwrite(path, values):
    Image.fromarray(np.resize(np.array(values), (80, 120))).save(path)


def test_figures_are_those_of_the_data(fields):
    statistics = measure_maps(fields)
    assert statistics.classes == ("class_0", "class_1", "class_2") and statistics.named_by is None
    assert sum(statistics.counts.values()) == 5 * 120 * 80 * 3 / 4
    assert statistics.ignored == pytest.approx(0.25)
    assert (len(statistics.train.names), len(statistics.val.names)) == (5, 2)
    assert (statistics.train.images, statistics.val.maps) == (
        "images/training",
        "annotations/validation",
    )
    assert (statistics.img_suffix, statistics.seg_map_suffix) == (".jpg", ".png")
    assert set(statistics.long_sides) == {120} and set(statistics.short_sides) == {80}


def test_choices_follow_from_the_statistics(fields):
    statistics = measure_maps(fields)
    choices = choose_segmentation(statistics, pretrained=True)
    # At most 200 passes over 5 images in batches of 4.
    assert choices.schedule.length == 250 and choices.schedule.val_interval == 100
    # Half, a quarter and a quarter of the pixels that have a class, in some order.
    shares = np.array(list(statistics.counts.values())) / sum(statistics.counts.values())
    assert np.allclose(choices.class_weight, shares**-0.5 / (shares**0.5).sum(), atol=5e-3)
    assert shares @ choices.class_weight == pytest.approx(1, abs=0.01)
    assert choices.scale == (120, 80) and choices.crop == (96, 128)
    statistics.train.names = [str(number) for number in range(400)]
    # 270 * sqrt(3) iterations, in fifties; at least 5 passes.
    assert choose_segmentation(statistics, pretrained=True).schedule.length == 500
    statistics.train.names = statistics.train.names[:200]
    assert choose_segmentation(statistics, pretrained=True).schedule.length == 450
    assert choose_segmentation(statistics, pretrained=False).schedule.length == 700
    half = choose_segmentation(statistics, pretrained=True, batch_size=2).schedule
    assert (half.length, half.learning_rate) == (950, 0.75e-3)
    statistics.long_sides, statistics.short_sides = np.array([1280.0]), np.array([960.0])
    large = choose_segmentation(statistics, pretrained=True)
    assert large.scale == (640, 480) and large.crop == (256, 320)


def test_the_leaf_loads_and_its_data_pass(fields, tmp_path):
    out = tmp_path / "leaf.py"
    found = write(measure_maps(fields), out)
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
    write(measure_maps(fields), tmp_path / "leaf.py")
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
    write(measure_maps(fields), out, BackboneChoice("some/weights.pth"))
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
    statistics = measure_maps(fields)
    assert statistics.classes == ("soil", "crop", "weed plant") and statistics.named_by.name == file
    assert not statistics.reduce_zero_label


def test_names_that_count_from_one_leave_zero_out(fields, tmp_path):
    (fields / "labels.txt").write_text("crop\nweed\n")
    statistics = measure_maps(fields)
    assert statistics.classes == ("crop", "weed") and statistics.reduce_zero_label
    assert statistics.ignored == pytest.approx(0.5)
    assert statistics.counts["crop"] == 5 * 120 * 80 / 4
    assert not write(statistics, tmp_path / "leaf.py").errors
    (fields / "labels.txt").write_text("crop\n")
    with pytest.raises(DatasetError, match="are 1, but label maps.*hold the values 1, 2"):
        measure_maps(fields)


def test_values_of_validation_alone_are_classes_too(fields):
    overwrite(maps_of(fields, "validation")[0], np.array([0, 4], np.uint8))
    statistics = measure_maps(fields)
    assert len(statistics.classes) == 5 and statistics.counts["class_4"] == 0
    assert choose_segmentation(statistics, pretrained=True).class_weight[3:] == [1.0, 1.0]
    caution = choose_segmentation(statistics, pretrained=True).list_cautions(statistics)[0]
    assert caution.startswith("2 of 5 classes have no pixel")


def test_maps_of_other_modes(fields):
    palette = Image.open(maps_of(fields)[0]).convert("P")
    palette.putpalette([7] * 768)
    palette.save(maps_of(fields)[1])
    overwrite(maps_of(fields)[2], np.array([0, 1, 2, 255], np.uint16))
    statistics = measure_maps(fields)
    assert statistics.classes == ("class_0", "class_1", "class_2")
    Image.new("RGB", (120, 80)).save(maps_of(fields)[1])
    with pytest.raises(DatasetError, match="has 3 channels.*export indices, not colors"):
        measure_maps(fields)


def test_a_binary_mask_of_0_and_255_is_no_map_of_classes(tmp_path):
    root = write_maps(tmp_path, dict(train=2, val=1), values=(0, 255))
    with pytest.raises(DatasetError, match="hold the values 0, 255.*write 1 in place of 255"):
        measure_maps(root)


def test_longer_names_of_maps(tmp_path):
    root = write_maps(tmp_path / "d", dict(train=2, val=1), suffix="_labels.png")
    statistics = measure_maps(root)
    assert statistics.seg_map_suffix == "_labels.png"
    assert not write(statistics, tmp_path / "leaf.py").errors


def test_without_validation_nothing_is_guessed_and_a_share_can_be_held_out(fields, tmp_path):
    with pytest.raises(DatasetError, match="--hold-out 0.4, but .*images/validation. To val"):
        measure_maps(fields, share=0.4)
    for folder in ("images", "annotations"):
        shutil.rmtree(fields / folder / "validation")
    with pytest.raises(DatasetError, match="no validation split.*--hold-out 0.2"):
        measure_maps(fields)
    statistics = measure_maps(fields, share=0.4)
    assert not write(statistics, tmp_path / "leaf.py").errors
    parts = [(tmp_path / f"leaf_{s}.txt").read_text().split() for s in ("train", "val")]
    assert [len(part) for part in parts] == [3, 2] and not {*parts[0]} & {*parts[1]}
    cfg = load_config(tmp_path / "leaf.py")
    assert cfg.val_dataloader.dataset.ann_file == str(tmp_path / "leaf_val.txt")


def test_missing_parts_are_named(fields):
    maps_of(fields)[0].unlink()
    with pytest.raises(DatasetError, match="has no label map"):
        measure_maps(fields)
    Image.new("RGB", (120, 80)).save(fields / "images" / "training" / "other.bmp")
    with pytest.raises(DatasetError, match="images of one suffix, and has 5 .jpg, 1 .bmp"):
        measure_maps(fields)
    shutil.rmtree(fields / "annotations")
    with pytest.raises(DatasetError, match="no folder of label maps.*it holds images"):
        measure_maps(fields)


@pytest.mark.parametrize(
    ("name", "classes", "iterations"), [("camvid", 11, 900), ("ade_mini", 151, 350)]
)
def test_real_data(shared_data, tmp_path, name, classes, iterations):
    statistics = measure_maps(shared_data / name)
    choices = choose_segmentation(statistics, pretrained=True)
    assert (len(statistics.classes), choices.schedule.length) == (classes, iterations)
    assert not write(statistics, tmp_path / "leaf.py").errors
    leaf = name_config(statistics, choices.schedule, BackboneChoice(None))
    assert leaf.parts[:2] == ("own_configs", name)


def test_maps_beside_their_images_with_a_table_of_classes(tmp_path):
    root = tmp_path / "robo"
    for split, number in (("train", 4), ("valid", 2)):
        (root / split).mkdir(parents=True)
        for k in range(number):
            name = f"{k}_jpg.rf.ab{split}"
            pixels = np.random.default_rng(k + number).integers(0, 255, (64, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"{name}.jpg")
            labels = np.resize(np.array([0, 1, 2], np.uint8), (64, 80))
            Image.fromarray(labels).save(root / split / f"{name}_mask.png")
        text = "Pixel Value, Class\n0, background\n1, blob\n2, bar, long\n"
        (root / split / "_classes.csv").write_text(text)
    with pytest.raises(DatasetError, match="_classes.csv cannot be read as a table.*Export it"):
        measure_maps(root)
    for split in ("train", "valid"):
        text = text.replace("bar, long", '"bar, long"').replace(', "', ',"')
        (root / split / "_classes.csv").write_text(text)
    statistics = measure_maps(root)
    assert statistics.classes == ("background", "blob", "bar, long")
    assert (len(statistics.train.names), len(statistics.val.names)) == (4, 2)
    assert (statistics.img_suffix, statistics.seg_map_suffix) == (".jpg", "_mask.png")
    found = write(statistics, tmp_path / "leaf.py")
    assert (found.errors, found.warnings) == ([], [])
    (root / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n5, blob\n")
    with pytest.raises(DatasetError, match="names the values 0, 5, and not 1. Name each value"):
        measure_maps(root)


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_map_of_another_size_than_its_image_is_refused(fields, split):
    path = maps_of(fields, split)[-1]
    Image.open(path).crop((0, 0, 120, 79)).save(path)
    with pytest.raises(DatasetError, match=f"{path.name} is 120x79, its image .* is 120x80"):
        measure_maps(fields)


def test_a_map_that_is_a_jpeg_is_refused(fields):
    path = maps_of(fields)[1]
    Image.open(path).convert("L").save(path, format="JPEG")
    with pytest.raises(DatasetError, match=f"{path.name} is a JPEG, whose compression"):
        measure_maps(fields)


@pytest.mark.parametrize("placed", ["train and valid", "root"])
@pytest.mark.parametrize(
    ("image_end", "map_end"),
    [(".jpg", ".png"), (".png", "_mask.png"), (".jpg", "_label.png"), (".PNG", "_GT.PNG")],
)
def test_maps_beside_their_images(tmp_path, capsys, monkeypatch, placed, image_end, map_end):
    """The same statistics as in ADE20K's layout, and a config whose data pass."""
    monkeypatch.chdir(tmp_path)
    apart = write_maps(tmp_path / "apart", dict(training=5, validation=2))
    root = tmp_path / "beside"
    for split, folder in (("training", "train"), ("validation", "valid")):
        place = root / folder if placed != "root" else root
        place.mkdir(parents=True, exist_ok=True)
        for image in sorted((apart / "images" / split).iterdir()):
            name = f"{split}_{image.stem}"
            Image.open(image).save(place / f"{name}{image_end}")
            shutil.copy(
                maps_of(apart, split)[0].parent / f"{image.stem}.png", place / f"{name}{map_end}"
            )
    share = 2 / 7 if placed == "root" else None
    found, wanted = measure_maps(root, share=share), measure_maps(apart)
    assert (found.img_suffix, found.seg_map_suffix) == (image_end, map_end)
    assert (len(found.train.names), len(found.val.names)) == (5, 2)
    assert found.classes == wanted.classes and found.ignored == pytest.approx(wanted.ignored)
    assert sum(found.counts.values()) == sum(wanted.counts.values())
    options = ["--hold-out", str(share)] if share else []
    assert main(["new-config", "--data", "beside", "--out", "c.py", *options]) == 0
    assert "saw label maps" in capsys.readouterr().out
    cfg = load_config(tmp_path / "c.py")
    samples = build_dataset(cfg.train_dataloader.dataset)
    names = {Path(sample["img_path"]).name for sample in samples}
    assert len(names) == 5 and not any(name.endswith(map_end) for name in names)
    for sample in samples:
        assert Path(sample["img_path"]).is_file() and Path(sample["seg_map_path"]).is_file()


def test_photos_beside_their_png_twins_are_no_maps(tmp_path):
    apart = write_maps(tmp_path / "apart", dict(training=3, validation=1))
    for image in (apart / "images" / "training").iterdir():
        Image.open(image).save(tmp_path / f"{image.stem}.jpg")
        Image.open(image).save(tmp_path / f"{image.stem}.png")
    assert find_map_end(tmp_path) == "" and find_map_end(apart / "images" / "training") == ""
    assert find_map_end(tmp_path / "nowhere") == ""


def draw_pair(folder, stem, image_end=".jpg", map_end="_mask.png"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / f"{stem}{image_end}")
    labels = np.resize(np.array([0, 1, 2], np.uint8), (30, 40))
    Image.fromarray(labels).save(folder / f"{stem}{map_end}")


def test_a_folder_of_validation_below_is_not_trained_on(tmp_path):
    for k in range(4):
        draw_pair(tmp_path, f"a{k}")
        draw_pair(tmp_path / "val", f"b{k}")
    found = measure_maps(tmp_path)
    assert found.train.names == ["a0", "a1", "a2", "a3"]
    assert (found.val.images, found.val.names) == ("val", ["b0", "b1", "b2", "b3"])


def test_an_image_whose_own_name_ends_in_the_mark_is_kept(tmp_path):
    for stem in ("a", "b", "face_mask"):
        draw_pair(tmp_path, stem, ".png")
    found = measure_maps(tmp_path, share=0.3)
    assert sorted(found.train.names + found.val.names) == ["a", "b", "face_mask"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_copies_and_depth_maps_are_no_label_maps(tmp_path, dtype):
    for k in range(3):
        draw_pair(tmp_path, f"a{k}")
        (tmp_path / f"a{k}_mask.png").unlink()
        depth = np.linspace(0, 250, 1200).reshape(30, 40).astype(dtype)
        Image.fromarray(depth).save(tmp_path / f"a{k}.png")
    assert find_map_end(tmp_path) == ""


def test_a_pair_beside_the_folders_of_ade_changes_nothing(fields):
    draw_pair(fields, "preview", ".jpg", ".png")
    found = measure_maps(fields)
    assert (len(found.train.names), len(found.val.names)) == (5, 2)


def build_dataset(cfg):
    """The entries of a config's data set, without its pipeline."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(dict(cfg, pipeline=[]))
    return [dataset.get_data_info(i) for i in range(len(dataset))]
