"""Mosaic and copy-paste, on images whose pixels say which object they show."""

import numpy as np
import pytest

import hordet  # noqa: F401  (its operators, before mmdet asks for them)

# isort: split
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.registry import DefaultScope

from hordet.datasets.batch_sampler import SamplePosition
from hordet.datasets.mixing import CopyPaste, MixDataset, Mosaic, SegMosaic
from hordet.datasets.shapes.cache import ensure_shapes
from hordet.datasets.shapes.files import DEFAULT_CLASSES

SIZE = (48, 64)  # height, width


def draw_sample(number, size=SIZE, masks="bitmaps"):
    """An image of two rectangles: background 10 * number, object k that + k; labels are these."""
    height, width = size
    value = 10 * number
    image = np.full((height, width, 3), value, np.uint8)
    boxes = [[4, 6, 20, 26], [width - 28, 18, width - 4, height - 2]]
    drawn = np.zeros((2, height, width), np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = value + index + 1
        drawn[index, y1:y2, x1:x2] = 1
    sample = dict(
        img=image,
        img_shape=size,
        gt_bboxes=HorizontalBoxes(np.array(boxes, np.float32)),
        gt_bboxes_labels=np.array([value + 1, value + 2]),
        gt_ignore_flags=np.zeros(2, bool),
    )
    if masks == "bitmaps":
        sample["gt_masks"] = BitmapMasks(drawn, height, width)
    elif masks == "polygons":
        rings = [[np.array([a, b, c, b, c, d, a, d], float)] for a, b, c, d in boxes]
        sample["gt_masks"] = PolygonMasks(rings, height, width)
    return sample


def assert_masks_show_the_objects(mixed):
    """Each object that the image shows is there once, with just its pixels and its box."""
    pixels = mixed["img"][..., 0]
    labels = mixed["gt_bboxes_labels"].tolist()
    assert sorted(labels) == sorted(v for v in np.unique(pixels) if v % 10 and v < 110)
    for label, mask, box in zip(
        labels, mixed["gt_masks"].masks, mixed["gt_bboxes"].tensor.tolist(), strict=True
    ):
        rows, columns = np.nonzero(pixels == label)
        assert np.array_equal(mask, pixels == label)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert len(mixed["gt_ignore_flags"]) == len(labels)


@pytest.mark.parametrize("kind", ["bitmaps", "polygons"])
def test_mosaic_mixes_four_images_with_their_masks(kind):
    mosaic = Mosaic(img_scale=SIZE[::-1])
    most = 0
    for seed in range(12):
        np.random.seed(seed)
        samples = [draw_sample(number, masks=kind) for number in (1, 2, 3, 4)]
        mixed = mosaic.transform(samples[0] | dict(mix_results=samples[1:]))
        assert mixed["img"].shape == (*SIZE, 3) and mixed["img_shape"] == SIZE
        assert_masks_show_the_objects(mixed)
        shown = {value // 10 for value in np.unique(mixed["img"]) if value < 110}
        assert shown <= {1, 2, 3, 4}
        most = max(most, len(shown))
    assert most == 4


def test_mosaic_without_masks_keeps_boxes_and_labels_together():
    seen = 0
    for seed in range(4):
        np.random.seed(seed)
        samples = [draw_sample(number, masks=None) for number in (1, 2, 3, 4)]
        mixed = Mosaic(img_scale=SIZE[::-1]).transform(samples[0] | dict(mix_results=samples[1:]))
        pixels = mixed["img"][..., 0]
        for label, box in zip(mixed["gt_bboxes_labels"], mixed["gt_bboxes"].tensor, strict=True):
            rows, columns = np.nonzero(pixels == label)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            seen += 1
    assert seen > 4


def test_mosaic_of_label_maps_moves_both_alike():
    samples = []
    for number in (1, 2, 3, 4):
        sample = draw_sample(number, masks=None)
        sample["gt_seg_map"] = sample["img"][..., 0].copy()
        samples.append(sample | dict(seg_fields=["gt_seg_map"]))
    mosaic, most = SegMosaic(img_scale=SIZE), 0
    for seed in range(12):
        np.random.seed(seed)
        mixed = mosaic({**samples[0], "mix_results": samples[1:]})
        image, classes = mixed["img"][..., 0], mixed["gt_seg_map"]
        assert classes.shape == image.shape == SIZE
        assert np.array_equal(image[classes < 255], classes[classes < 255])
        assert (image[classes == 255] == 0).all()
        most = max(most, len({value // 10 for value in np.unique(classes[classes < 255])}))
    assert most == 4


@pytest.mark.parametrize("other", [SIZE, (40, 80), (60, 50)])
@pytest.mark.parametrize("kind", ["bitmaps", "polygons"])
def test_copy_paste_adds_objects_with_their_masks(other, kind):
    """Of an image of another size, what fits is pasted."""
    added = 0
    for seed in range(8):
        np.random.seed(seed)
        source = draw_sample(2, other, kind)
        pasted = CopyPaste().transform(draw_sample(1, masks=kind) | dict(mix_results=[source]))
        assert pasted["img"].dtype == np.uint8 and pasted["img"].shape == (*SIZE, 3)
        assert_masks_show_the_objects(pasted)
        new = [label for label in pasted["gt_bboxes_labels"] if label > 20]
        assert 20 not in pasted["img"]  # no background of the other image
        added += len(new)
    assert added >= 4


@pytest.fixture(scope="module")
def build(drawn_images):
    """Build a MixDataset over eight drawn images; its samples before packing."""

    def make(steps, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HORDET_CACHE", str(drawn_images))
            root = ensure_shapes(num_train=8, num_val=4, size=(96, 96))
        with DefaultScope.overwrite_default_scope("mmdet"):
            return MixDataset(
                dict(
                    type="mmdet.CocoDataset",
                    data_root=str(root),
                    ann_file="annotations/instances_train.json",
                    data_prefix=dict(img="train"),
                    metainfo=dict(classes=DEFAULT_CLASSES),
                    pipeline=[
                        dict(type="hordet.LoadImageFromFile"),
                        dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
                    ],
                ),
                steps,
                **options,
            )

    return make


def place(index, passes, iteration=0):
    position = SamplePosition(index)
    position.numbers, position.passes, position.iteration = (0,), passes, iteration
    return position


MOSAIC = dict(type="hordet.Mosaic", img_scale=(96, 96))


def test_the_mosaic_ends_at_its_epoch_or_iteration(build):
    for options, before, after in (
        (dict(mosaic_until=1), place(3, 0, 9), place(3, 1, 0)),
        (dict(mosaic_until=7, by_epoch=False), place(3, 5, 6), place(3, 0, 7)),
    ):
        data = build([MOSAIC], **options)
        plain = data.dataset[3]["img"]
        assert not np.array_equal(data[before]["img"], plain)
        assert np.array_equal(data[after]["img"], plain)
        data.end_mosaic_at(10)
        assert not np.array_equal(data[after]["img"], plain)


def test_what_is_pasted_knows_the_end_too(build, monkeypatch):
    """Further images are asked for by plain numbers, and are of the same part as their sample."""
    inner = build([MOSAIC], mosaic_until=1)
    outer = build([dict(type="hordet.CopyPaste")], mosaic_until=1)
    outer.dataset = inner
    seen = []
    monkeypatch.setattr(inner.pipeline[0], "transform", lambda results: seen.append(1) or results)
    outer[place(2, 0)]
    assert len(seen) == 2
    outer[place(2, 1)]
    assert len(seen) == 2
    outer.end_mosaic_at(5)
    outer[place(2, 1)]
    assert len(seen) == 4


def test_a_sample_that_loses_its_objects_gives_way_to_another(build, monkeypatch):
    data = build([MOSAIC])
    answers = iter([None, None])
    monkeypatch.setattr(data, "pipeline", [lambda results: next(answers, results)], raising=True)
    monkeypatch.setattr(data, "pipeline_types", ["x"])
    assert data[0]["img"].shape == (96, 96, 3)
    data.pipeline = [lambda results: None]
    with pytest.raises(ValueError, match="15 training samples in a row lost all their objects"):
        data[0]


def test_the_same_seed_mixes_the_same_images(build):
    data = build([MOSAIC, dict(type="hordet.CopyPaste")])
    images = []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        images.append(data[1]["img"])
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_plain_numbers_are_of_the_first_part(build):
    data = build([MOSAIC], mosaic_until=0)
    plain = data.dataset[3]["img"]
    assert not np.array_equal(data[3]["img"], plain)
