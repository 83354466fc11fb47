"""The sheet of predictions: which images, what is drawn, where it lands."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_mask

from hordet.engine.hooks import PredictionSheetHook, prediction_sheet
from hordet.visualization import drawing, fonts
from hordet.visualization.panels import (
    Pair,
    Panel,
    get_class_colors,
    make_semantic_panels,
    make_truth_panel,
)

CLASSES = ("square", "disc")
PALETTE = [(255, 0, 0), (0, 0, 255)]
SIZE = (60, 80)  # height, width
SQUARE = dict(bbox=[10, 10, 30, 30], bbox_label=0, mask=[[10, 10, 30, 10, 30, 30, 10, 30]])


class Dataset:
    """Gray images with one true square each, in the form of mmengine's BaseDataset."""

    metainfo = dict(classes=CLASSES, palette=PALETTE)

    def __init__(self, folder, length):
        self.infos = []
        for i in range(length):
            path = folder / f"{i:03}.png"
            cv2.imwrite(str(path), np.full((*SIZE, 3), 128, np.uint8))
            self.infos.append(dict(img_path=str(path), instances=[SQUARE]))

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


def runner_of(dataset, work_dir, by_epoch=True):
    return SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(work_dir),
        log_processor=SimpleNamespace(by_epoch=by_epoch),
        _train_loop=object(),
        epoch=12,
        max_epochs=24,
        iter=4000,
        max_iters=8000,
    )


def detection(path):
    """A disc of score 0.9 at the lower right, and a square of score 0.1."""
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 35:55, 50:70] = True
    masks[0, 43:47, 58:62] = False  # a hole
    masks[1, 5:15, 5:15] = True
    instances = InstanceData(
        bboxes=torch.tensor([[50.0, 35, 70, 55], [5, 5, 15, 15]]),
        labels=torch.tensor([1, 0]),
        scores=torch.tensor([0.9, 0.1]),
        masks=masks,
    )
    return DetDataSample(metainfo=dict(img_path=path, ori_shape=SIZE), pred_instances=instances)


def segmentation(path):
    """Truth: left half 0, right half 1, last row void. Prediction: all 0."""
    truth = torch.zeros(1, *SIZE, dtype=torch.long)
    truth[..., 40:] = 1
    truth[:, -1] = 255
    sample = SegDataSample(metainfo=dict(img_path=path, ori_shape=SIZE))
    sample.gt_sem_seg = PixelData(data=truth)
    sample.pred_sem_seg = PixelData(data=torch.zeros(1, *SIZE, dtype=torch.long))
    return sample


def panoptic_sample(path):
    """An object and stuff of class 1 in mmdet's form, pixels of no segment where none is right."""
    truth = torch.ones(1, *SIZE, dtype=torch.long)
    truth[:, :30] = 0
    ids = torch.full((1, *SIZE), 1)
    ids[:, :15] = 3000  # object 3 of class 0
    ids[:, 15:30] = 0
    sample = DetDataSample(metainfo=dict(img_path=path, ori_shape=SIZE))
    sample.gt_sem_seg = PixelData(sem_seg=truth)
    sample.pred_panoptic_seg = PixelData(sem_seg=ids)
    return sample


def validate(hook, runner, sample_of):
    hook.before_val_epoch(runner)
    for i, info in enumerate(runner.val_dataloader.dataset.infos):
        hook.after_val_iter(runner, i, None, [sample_of(info["img_path"])])
    hook.after_val_epoch(runner, {})


def color_at(figure, axis, x, y):
    """RGB of the drawn figure at a pixel of the image in `axis`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    column, row = axis.transData.transform((x, y))
    drawn = np.asarray(canvas.buffer_rgba())
    return drawn[drawn.shape[0] - 1 - round(row), round(column), :3].astype(int)


@pytest.fixture
def figures(monkeypatch):
    """Keep every figure that a hook draws."""
    kept = []
    draw = drawing.draw_sheet

    def keep(*args):
        kept.append(draw(*args))
        return kept[-1]

    monkeypatch.setattr(drawing, "draw_sheet", keep)
    return kept


def test_fixed_images_spread_over_the_set(tmp_path, figures):
    hook = PredictionSheetHook(num_images=4)
    runner = runner_of(Dataset(tmp_path, 10), tmp_path)
    for _ in range(2):
        validate(hook, runner, detection)
    for figure in figures:
        names = [axis.get_title(loc="left").split()[0] for axis in figure.axes[::2]]
        assert names == ["000.png", "003.png", "006.png", "009.png"]


def test_detection_beside_truth(tmp_path, figures):
    runner = runner_of(Dataset(tmp_path, 1), tmp_path)
    validate(PredictionSheetHook(), runner, detection)
    truth, prediction = figures[0].axes
    assert truth.get_title(loc="left") == "000.png   truth: 1 object"
    assert prediction.get_title(loc="left") == "prediction: 1 object of score ≥ 0.4"
    assert [text.get_text() for text in truth.texts] == ["square"]
    assert [text.get_text() for text in prediction.texts] == ["disc 0.90"]
    for axis in (truth, prediction):
        assert (color_at(figures[0], axis, 40, 5) == 128).all()  # the bare image
    red = color_at(figures[0], truth, 20, 20)  # the true square
    blue = color_at(figures[0], prediction, 54, 40)  # the predicted disc
    assert (color_at(figures[0], prediction, 60, 45) == 128).all()  # its hole
    assert red[0] > 150 and red[1] < 100 and red[2] < 100
    assert blue[2] > 150 and blue[0] < 100 and blue[1] < 100
    # The truth is not on the prediction's side, nor the object below the threshold.
    assert (color_at(figures[0], prediction, 20, 20) == 128).all()
    assert (color_at(figures[0], prediction, 10, 10) == 128).all()

    sheet = cv2.imread(str(tmp_path / "predictions" / "epoch_12.png"))
    assert sheet is not None and sheet.shape[1] > 700 and sheet.std() > 10


def test_class_maps_with_legend(tmp_path, figures):
    runner = runner_of(Dataset(tmp_path, 3), tmp_path, by_epoch=False)
    validate(PredictionSheetHook(), runner, segmentation)
    assert (tmp_path / "predictions" / "iter_4000.png").is_file()
    truth, prediction = figures[0].axes[:2]
    assert prediction.get_title(loc="left") == "prediction: 50% of pixels right"
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["square", "disc"]
    # 0.6 of the class color over 0.4 of gray 128.
    np.testing.assert_allclose(color_at(figures[0], truth, 20, 20), (204, 51, 51), atol=2)
    np.testing.assert_allclose(color_at(figures[0], truth, 60, 20), (51, 51, 204), atol=2)
    np.testing.assert_allclose(color_at(figures[0], prediction, 60, 20), (204, 51, 51), atol=2)
    np.testing.assert_allclose(color_at(figures[0], truth, 60, 59), (128, 128, 128), atol=2)


def test_legend_names_the_largest_and_counts_the_rest(tmp_path):
    path = Dataset(tmp_path, 1).infos[0]["img_path"]
    semantic = np.arange(40).repeat(120).reshape(SIZE)
    semantic[:5] = 7  # over classes 0 to 2, so 37 are left
    pair = Pair(0, path, Panel("t", semantic=semantic), Panel("p"))
    classes, colors = get_class_colors(dict(classes=[f"c{i}" for i in range(40)]))
    assert len(set(colors)) == 40
    figure = drawing.draw_sheet([pair], classes, colors, "title")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0] == "c7"
    assert names[1:30] == [f"c{i}" for i in (*range(4, 7), *range(8, 34))]
    assert names[30:] == ["and 7 more"]


def test_true_objects_of_every_mask_format():
    array = np.zeros(SIZE, np.uint8)
    array[10:30, 10:30] = 1
    packed = coco_mask.encode(np.asfortranarray(array))
    counts = [10 * 60 + 10, *[20, 40] * 19, 20, 60 * 50 + 30]
    plain = dict(size=list(SIZE), counts=counts)
    for mask in (SQUARE["mask"], packed, plain):
        info = dict(instances=[dict(SQUARE, mask=mask), dict(SQUARE, ignore_flag=1)])
        panel = make_truth_panel(info, SIZE)
        assert panel.boxes.tolist() == [[10, 10, 30, 30]] and panel.labels.tolist() == [0]
        (parts,) = panel.outlines
        assert [cv2.boundingRect(part) for part in parts] == [(10, 10, 20, 20)]
    # A polygon of two points has no area; an annotation without masks has only boxes.
    info = dict(instances=[dict(SQUARE, mask=[[1, 1, 9, 9]])])
    assert make_truth_panel(info, SIZE).outlines == [[]]
    box = dict(bbox=[1, 2, 3, 4], bbox_label=1)
    assert make_truth_panel(dict(instances=[box]), SIZE).outlines == []
    assert len(make_truth_panel(dict(instances=[]), SIZE).boxes) == 0


def test_all_processes_contribute_and_one_writes(tmp_path, figures, monkeypatch):
    dataset = Dataset(tmp_path, 4)
    hooks = [PredictionSheetHook(num_images=4) for _ in range(2)]
    for rank, hook in enumerate(hooks):
        runner = runner_of(dataset, tmp_path / str(rank))
        hook.before_val_epoch(runner)
        for i in range(rank, 4, 2):
            hook.after_val_iter(runner, i, None, [detection(dataset.infos[i]["img_path"])])
    parts = [hook._pairs for hook in hooks]
    monkeypatch.setattr(prediction_sheet, "all_gather_object", lambda _: parts)
    for rank, hook in enumerate(hooks):
        monkeypatch.setattr(prediction_sheet, "is_main_process", lambda rank=rank: rank == 0)
        hook.after_val_epoch(runner_of(dataset, tmp_path / str(rank)), {})
    assert (tmp_path / "0" / "predictions" / "epoch_12.png").is_file()
    assert not (tmp_path / "1").exists()
    names = [axis.get_title(loc="left").split()[0] for axis in figures[0].axes[::2]]
    assert names == ["000.png", "001.png", "002.png", "003.png"]


def test_validation_without_training(tmp_path):
    runner = runner_of(Dataset(tmp_path, 1), tmp_path)
    runner._train_loop = None
    validate(PredictionSheetHook(), runner, detection)
    assert (tmp_path / "predictions" / "validation.png").is_file()


def test_wrong_settings():
    with pytest.raises(ValueError, match="got num_images=0; allowed is 1 or more"):
        PredictionSheetHook(num_images=0)
    with pytest.raises(ValueError, match="got score_threshold=40; allowed is 0 to 1"):
        PredictionSheetHook(score_threshold=40)


def test_real_images_with_crowds(shared_data, tmp_path):
    from mmdet.datasets import CocoDataset

    dataset = CocoDataset(
        data_root=str(shared_data / "coco_mini"),
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        pipeline=[],
        test_mode=True,
    )
    runner = runner_of(dataset, tmp_path)
    hook = PredictionSheetHook()
    hook.before_val_epoch(runner)
    for index in hook._wanted.values():
        info = dataset.get_data_info(index)
        sample = detection(info["img_path"])
        sample.set_metainfo(dict(ori_shape=(info["height"], info["width"])))
        hook.after_val_iter(runner, index, None, [sample])
    assert len(hook._pairs) == 6
    for pair in hook._pairs:
        true = [i for i in dataset.get_data_info(pair.index)["instances"] if not i["ignore_flag"]]
        assert len(pair.truth.outlines) == len(true) == len(pair.truth.boxes)
        assert Path(pair.image_path).is_file()
    hook.after_val_epoch(runner, {})
    assert (tmp_path / "predictions" / "epoch_12.png").stat().st_size > 100_000


def test_classes_of_panoptic_segments_are_shown():
    truth, prediction = make_semantic_panels(panoptic_sample("x.png"))
    assert (truth.semantic[:30] == 0).all() and (truth.semantic[30:] == 1).all()
    assert (prediction.semantic[:15] == 0).all() and (prediction.semantic[30:] == 1).all()
    assert (prediction.semantic[15:30] >= len(CLASSES)).all()  # no segment is no class
    assert prediction.caption == "prediction: 75% of pixels right"


NAMES = ("$x^$ \\frac{", "_hidden", "漂浮物")  # mathematics that is wrong, and glyphs of few fonts


def sheet_of(tmp_path, names):
    """A sheet with a class map of three classes and three objects; no warning about glyphs."""
    path = Dataset(tmp_path, 1).infos[0]["img_path"]
    semantic = np.arange(3).repeat(20)[:, None].repeat(SIZE[1], 1)
    boxes = np.array([[5, 25, 20, 40], [30, 25, 40, 40], [50, 25, 70, 40]], float)
    truth = Panel("truth $\\frac{", boxes=boxes, labels=np.arange(3))
    colors = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    pair = Pair(0, path, truth, Panel("p", semantic=semantic))
    figure = drawing.draw_sheet([pair], names, colors, "title")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "sheet.png")
    return figure


def words_of(figure):
    return [text.get_text() for text in figure.axes[0].texts], [
        text.get_text() for text in figure.legends[0].get_texts()
    ]


def without_font(monkeypatch):
    """As on a machine whose only font is matplotlib's own."""
    monkeypatch.setattr(fonts, "_list_families", lambda: (fonts.BASE,))
    fonts._choose_fonts.cache_clear()


def test_names_are_written_as_they_are_or_by_number(tmp_path, monkeypatch):
    without_font(monkeypatch)
    figure = sheet_of(tmp_path, NAMES)
    wanted = [*NAMES[:2], "class 2"]
    boxes, legend = words_of(figure)
    assert boxes == wanted and sorted(legend) == sorted(wanted)
    title = "title\nclasses by number from 0: no font here has the characters of their names"
    assert figure.get_suptitle() == title
    assert figure.axes[0].get_title(loc="left") == "000.png   truth $\\frac{"
    assert "1 of 3 classes by number, counted from 0" in fonts.explain_numbers(NAMES)
    assert "'漂浮物'. Install one" in fonts.explain_numbers(NAMES)
    fonts._choose_fonts.cache_clear()


def test_a_font_that_has_the_characters_is_used(tmp_path, monkeypatch):
    # "ᴬ" and the arrow are in matplotlib's own fonts: of a base that lacks them, another is taken.
    monkeypatch.setattr(fonts, "BASE", "cmss10")
    fonts._choose_fonts.cache_clear()
    names = ("a", "→ Ж", "c")
    figure = sheet_of(tmp_path, names)
    fonts_used = figure.legends[0].get_texts()[0].get_fontfamily()
    fonts._choose_fonts.cache_clear()
    assert fonts_used[0] == "cmss10" and len(fonts_used) > 1
    assert sorted(words_of(figure)[1]) == sorted(names)
    assert figure.get_suptitle() == "title"


def test_names_are_one_line_of_bounded_length():
    assert fonts.name_classes(["a\n b ", "x" * 1000, "\x07", ""]) == [
        "a b",
        "x" * 59 + "…",
        "class 2",
        "class 3",
    ]


def test_a_sheet_that_fails_is_left_out_with_a_warning(tmp_path, monkeypatch):
    runner = runner_of(Dataset(tmp_path, 2), tmp_path)

    def fail(*_):
        raise RuntimeError("no\n such glyph")

    logged = []
    monkeypatch.setattr(prediction_sheet, "print_log", lambda words, **_: logged.append(words))
    monkeypatch.setattr(drawing, "draw_sheet", fail)
    validate(PredictionSheetHook(), runner, detection)
    path = tmp_path / "predictions" / "epoch_12.png"
    assert logged == [
        f"{path} is not written (RuntimeError: no such glyph). Nothing else is affected"
    ]
    assert not path.exists()
    # One image that has nothing to draw is missing from the sheet; the other is on it.
    monkeypatch.undo()
    monkeypatch.setattr(prediction_sheet, "print_log", lambda words, **_: logged.append(words))

    def sample_of(path):
        sample = detection(path)
        if path.endswith("000.png"):
            del sample.pred_instances
        return sample

    validate(PredictionSheetHook(), runner, sample_of)
    assert "000.png is not on the sheet of predictions (AttributeError" in logged[1]
    assert len(logged) == 2 and path.is_file()


def test_a_disk_that_is_full_does_not_end_training(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(prediction_sheet, "print_log", lambda words, **_: logged.append(words))
    (tmp_path / "predictions").write_text("a file where the folder should be")
    validate(PredictionSheetHook(), runner_of(Dataset(tmp_path, 1), tmp_path), detection)
    assert "epoch_12.png is not written (FileWriteError: cannot write" in logged[0]
