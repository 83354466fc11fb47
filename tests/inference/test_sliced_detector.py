"""Detections of patches, merged, are those of the whole image."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

import hordet.registry  # noqa: F401
from hordet.datasets.tiles import Tiles
from hordet.engine.prepare import slice_images
from hordet.errors import ConfigError
from hordet.inference.merging import DetectionMerger
from hordet.ops.run_lengths import encode_crop, encode_mask

HEIGHT, WIDTH = 97, 131
# Left, top, right, bottom, class: boxes that do not overlap, of one pixel and up to a long one.
OBJECTS = [
    (2, 1, 9, 8, 0),
    (35, 3, 50, 12, 1),  # over a border of patches of 40
    (60, 0, 78, 40, 0),
    (0, 44, 131, 58, 1),  # as wide as the image
    (100, 60, 131, 97, 0),
    (20, 80, 21, 81, 1),
    (30, 61, 95, 95, 0),  # larger than a patch
]


def drawn(objects=OBJECTS):
    """An image (3, H, W): number of the object and its class, as ellipses."""
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    for number, (left, top, right, bottom, label) in enumerate(objects, 1):
        x = (2 * columns + 1 - left - right) / (right - left)
        y = (2 * rows + 1 - top - bottom) / (bottom - top)
        inside = x**2 + y**2 <= 1
        image[0][inside], image[1][inside] = number, label
    return image


class Seeing(BaseModel):
    """A detector that reads the objects off the pixels; scores fall with what is not visible."""

    def __init__(self, run_lengths=False):
        super().__init__()
        self.run_lengths = run_lengths
        self.areas = torch.bincount(drawn()[0].flatten().long(), minlength=20)
        self.seen = []

    def test_step(self, data):
        for image, sample in zip(data["inputs"], data["data_samples"], strict=True):
            assert sample.ori_shape == image.shape[1:]
            self.seen.append(tuple(image.shape[1:]))
            numbers = image[0].unique().tolist()[int(0 in image[0]) :]
            masks = torch.stack([image[0] == n for n in numbers] or [image[0] > 255])
            masks = masks[: len(numbers)]
            boxes = [[i.min(), j.min(), i.max() + 1, j.max() + 1] for i, j in map(places, masks)]
            shares = [mask.sum() / self.areas[n] for mask, n in zip(masks, numbers, strict=True)]
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                scores=torch.tensor(shares) * (1 - 0.01 * torch.tensor(numbers)),
                labels=torch.tensor([int(image[1][mask][0]) for mask in masks]).long(),
                masks=[encode_mask(m.byte().numpy()) for m in masks] if self.run_lengths else masks,
            )
        return data["data_samples"]

    def forward(self, inputs, data_samples=None, mode="tensor"):
        raise NotImplementedError


def places(mask):
    rows, columns = mask.nonzero(as_tuple=True)
    return columns, rows


def sliced(module, **options):
    pipeline = [dict(type="mmdet.PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape"))]
    kind = dict(type="hordet.SlicedDetector", pipeline=pipeline, module=module)
    return MODELS.build(kind | options)


def detect(model, image):
    sample = DetDataSample(
        metainfo=dict(img_id=7, img_path="a.png", ori_shape=tuple(image.shape[1:]))
    )
    (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    assert found.img_id == 7
    order = found.pred_instances.scores.sort(descending=True).indices
    return found.pred_instances[order]


def dense(masks):
    if isinstance(masks, list):
        return np.stack([coco_mask.decode(mask) for mask in masks]).astype(bool)
    return masks.numpy()


@pytest.mark.parametrize("run_lengths", [False, True], ids=["dense", "run lengths"])
@pytest.mark.parametrize(
    ("patch_size", "ratio", "batch_size"),
    [(40, 0.25, 1), ((33, 50), 0.5, 3), (64, 0.0, 2), ((200, 31), 0.2, 1), (500, 0.25, 1)],
)
def test_the_objects_are_those_of_the_whole_image(patch_size, ratio, batch_size, run_lengths):
    """Whole in a patch, cut by borders or larger than a patch: each is found once, as it is."""
    expected = detect(Seeing(), drawn())
    assert len(expected) == len(OBJECTS)
    module = Seeing(run_lengths)
    options = dict(patch_size=patch_size, patch_overlap_ratio=ratio, batch_size=batch_size)
    found = detect(sliced(module, **options), drawn())
    number = len(Tiles(patch_size, ratio).of(HEIGHT, WIDTH))
    assert len(module.seen) == number + (number > 1)
    assert torch.equal(found.bboxes, expected.bboxes)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.labels, expected.labels)
    assert np.array_equal(dense(found.masks), dense(expected.masks))
    if run_lengths or number > 1:
        assert found.masks == [encode_mask(mask) for mask in dense(expected.masks).view(np.uint8)]


def test_without_the_whole_image_small_objects_are_still_found_once():
    small = [item for item in OBJECTS if item[2] - item[0] <= 20 and item[3] - item[1] <= 20]
    module = Seeing()
    module.areas = torch.bincount(drawn(small)[0].flatten().long(), minlength=20)
    expected = detect(module, drawn(small))
    module.seen.clear()
    options = dict(patch_size=40, patch_overlap_ratio=0.5, full_image=False)
    found = detect(sliced(module, **options), drawn(small))
    assert (HEIGHT, WIDTH) not in module.seen
    assert torch.equal(found.bboxes, expected.bboxes) and len(found) == len(small)
    assert np.array_equal(dense(found.masks), dense(expected.masks))


@pytest.mark.parametrize("merge_type", ["tiles", "greedy_nmm", "nmm", "nms"])
def test_nothing_is_found(merge_type):
    found = detect(sliced(Seeing(), patch_size=50, merge_type=merge_type), drawn([]))
    assert len(found) == 0 and found.bboxes.shape == (0, 4) and found.masks == []


def test_boxes_alone():
    class Boxes(Seeing):
        def test_step(self, data):
            for sample in super().test_step(data):
                sample.pred_instances.pop("masks")
            return data["data_samples"]

    found = detect(sliced(Boxes(), patch_size=50), drawn())
    assert torch.equal(found.bboxes, detect(Seeing(), drawn()).bboxes) and "masks" not in found


def test_an_object_of_many_tiles_is_one_without_the_whole_image_too():
    wide = [(0, 44, 131, 58, 1), (2, 1, 9, 8, 0)]
    module = Seeing()
    module.areas = torch.bincount(drawn(wide)[0].flatten().long(), minlength=20)
    expected = detect(module, drawn(wide))
    found = detect(sliced(module, patch_size=40, full_image=False), drawn(wide))
    order = found.labels.argsort(descending=True)
    assert torch.equal(
        found.bboxes[order], expected.bboxes[expected.labels.argsort(descending=True)]
    )
    assert sorted(coco_mask.area(found.masks)) == sorted(
        coco_mask.area(list(map(encode_mask, dense(expected.masks).view(np.uint8))))
    )


TILES = [[0.0, 0, 60, 40], [40.0, 0, 100, 40], [80.0, 0, 140, 40]]


@pytest.mark.parametrize(
    ("boxes", "tiles", "scores", "kept"),
    [
        # Cut at 60 in the first tile, whole in the second: the whole one, though it scores less.
        ([[50, 5, 60, 15], [50, 5, 70, 15]], [0, 1], [0.9, 0.6], {(50, 5, 70, 15): 0.9}),
        # A weak box of the same tile that holds a good one is not joined to it.
        ([[10, 5, 20, 15], [8, 2, 35, 38]], [0, 0], [0.9, 0.1],
         {(10, 5, 20, 15): 0.9, (8, 2, 35, 38): 0.1}),
        # Nor is a whole one of another tile.
        ([[46, 5, 54, 15], [44, 2, 57, 38]], [0, 1], [0.9, 0.5],
         {(46, 5, 54, 15): 0.9, (44, 2, 57, 38): 0.5}),
        # Cut in both: one of the two.
        ([[20, 5, 60, 15], [40, 5, 90, 15]], [0, 1], [0.7, 0.8], {(20, 5, 90, 15): 0.8}),
        # A small whole one inside a large one that both tiles cut stays, and so does the large one.
        ([[5, 2, 60, 38], [40, 2, 95, 38], [46, 8, 54, 16], [46, 8, 54, 16]], [0, 1, 0, 1],
         [0.95, 0.95, 0.7, 0.6], {(5, 2, 95, 38): 0.95, (46, 8, 54, 16): 0.7}),
        # Parts of three tiles, from one to the next.
        ([[20, 5, 60, 15], [40, 5, 100, 15], [80, 5, 120, 15]], [0, 1, 2], [0.9, 0.8, 0.7],
         {(20, 5, 120, 15): 0.9}),
        # Weak detections over a good part, whole or cut, do not make it larger.
        ([[45, 5, 60, 15], [43, 3, 90, 38], [40, 3, 97, 38]], [0, 1, 1], [0.9, 0.3, 0.2],
         {(45, 5, 60, 15): 0.9}),
        # Neighbors on either side of the seam that do not overlap stay two.
        ([[41, 5, 47, 15], [50, 5, 59, 15]], [1, 0], [0.7, 0.8],
         {(41, 5, 47, 15): 0.7, (50, 5, 59, 15): 0.8}),
    ],
    ids=["whole", "same tile", "inside", "both cut", "inside cut", "row", "weak", "neighbors"],
)  # fmt: skip
def test_what_both_tiles_saw_decides(boxes, tiles, scores, kept):
    found = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor(scores),
        labels=torch.zeros(len(boxes), dtype=torch.long),
        areas=torch.tensor([TILES[tile] for tile in tiles]),
    )
    merged = DetectionMerger("tiles", "IOS", 0.5)(found)
    got = {tuple(map(int, box)): score for box, score in zip(
        merged.bboxes.tolist(), merged.scores.tolist(), strict=True)}  # fmt: skip
    assert got == {box: pytest.approx(score) for box, score in kept.items()}


@pytest.mark.parametrize("metric", ["IOS", "IOU"])
@pytest.mark.parametrize("merge_type", ["greedy_nmm", "nmm", "nms"])
def test_merging_is_that_of_sahi(merge_type, metric):
    from sahi.postprocess import combine
    from sahi.prediction import ObjectPrediction

    draw = np.random.default_rng(5)
    corners = draw.integers(0, 40, (80, 2))
    boxes = np.hstack((corners, corners + draw.integers(9, 40, (80, 2)))).tolist()
    scores, labels = draw.random(80).astype(np.float32), draw.integers(0, 3, 80)
    kinds = dict(
        greedy_nmm=combine.GreedyNMMPostprocess,
        nmm=combine.NMMPostprocess,
        nms=combine.NMSPostprocess,
    )
    # No overlap is just 0.4137: SAHI before 0.12 left out what is just the threshold.
    theirs = kinds[merge_type](match_threshold=0.4137, match_metric=metric, class_agnostic=False)(
        [
            ObjectPrediction(bbox=box, score=float(score), category_id=int(label))
            for box, score, label in zip(boxes, scores, labels, strict=True)
        ]
    )
    expected = sorted(
        (-item.score.value, item.category.id, [float(x) for x in item.bbox.to_xyxy()])
        for item in theirs
    )
    found = InstanceData(
        bboxes=torch.tensor(boxes).float(), scores=torch.tensor(scores), labels=torch.tensor(labels)
    )
    kept = DetectionMerger(merge_type, metric, 0.4137)(found)
    rows = zip((-kept.scores).tolist(), kept.labels.tolist(), kept.bboxes.tolist(), strict=True)
    assert [tuple(row) for row in rows] == expected and 10 < len(expected) < 70


def test_a_part_that_scores_best_takes_the_whole_and_by_nmm_its_other_parts():
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 40, 10], [0, 0, 100, 10], [60, 0, 100, 10]]),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.zeros(3, dtype=torch.long),
    )
    found.masks = [
        encode_crop(np.ones((w, 10)), x, 0, 20, 120) for x, w in ((0, 40), (0, 90), (60, 40))
    ]
    kept = DetectionMerger("nmm", "IOS", 0.5)(found)
    assert kept.bboxes.tolist() == [[0, 0, 100, 10]] and kept.scores.tolist() == [
        pytest.approx(0.9)
    ]
    assert coco_mask.area(kept.masks).tolist() == [1000]
    kept = DetectionMerger("nms", "IOS", 0.5)(found)
    assert kept.bboxes.tolist() == found.bboxes[[0, 2]].tolist()
    assert coco_mask.area(kept.masks).tolist() == [400, 400] and len(found) == 3


def test_crops_are_encoded_where_they_lie():
    """Against pycocotools and the crop pasted into a bitmap of the image."""
    draw = np.random.default_rng(1)
    size = (13, 17)
    for case in range(60):
        height, width = draw.integers(1, 14), draw.integers(1, 18)
        height = 13 if case % 4 == 0 else height  # whole columns: runs go on in the next one
        y, x = draw.integers(0, 14 - height), draw.integers(0, 18 - width)
        crop = (draw.random((height, width)) < draw.choice([0, 0.3, 0.9, 1])).astype(np.uint8)
        pasted = np.zeros(size, dtype=np.uint8, order="F")
        pasted[y : y + height, x : x + width] = crop
        expected = coco_mask.encode(pasted)
        assert encode_crop(crop.T, x, y, *size) == expected
        assert encode_mask(crop, x, y, size) == expected


def test_patches_cover_odd_sizes_and_the_last_ends_with_the_image():
    for height, width, size, ratio in ((97, 131, 40, 0.25), (10, 300, (64, 31), 0.9), (5, 5, 9, 0)):
        patches = Tiles(size, ratio)
        covered = np.zeros((height, width), dtype=bool)
        for left, top, right, bottom in patches.of(height, width):
            assert bottom - top == min(patches.height, height)
            assert right - left == min(patches.width, width)
            covered[top:bottom, left:right] = True
        assert covered.all()
    assert Tiles(9, 0).of(5, 5) == [(0, 0, 5, 5)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(patch_size=0), "patch_size is 0; it must be a whole number of pixels above 0"),
        (dict(patch_size=(64, 32.5)), r"patch_size is \(64, 32.5\); .* or \(height, width\)"),
        (dict(patch_size=(64, 64, 3)), "patch_size is"),
        (dict(patch_overlap_ratio=1), "patch_overlap_ratio is 1; it must be from 0 to below 1"),
        (dict(patch_overlap_ratio=-0.1), "patch_overlap_ratio is -0.1"),
        (dict(merge_type="soft"), "merge_type is 'soft'; it may be tiles, greedy_nmm, nmm, nms"),
        (dict(match_metric="iou"), "match_metric is 'iou'; it may be IOS, IOU"),
        (dict(match_threshold=0), "match_threshold is 0; it must be above 0 and at most 1"),
        (dict(batch_size=0), "batch_size is 0; it must be a whole number above 0"),
    ],
)
def test_settings_that_do_not_work(options, words):
    with pytest.raises(ValueError, match=words):
        sliced(Seeing(), **options)


def test_a_config_is_tested_in_patches(repository):
    def read(name):
        return Config.fromfile(repository / "configs" / name)

    cfg = read("nuclei/mask-rcnn_hornet-nano_horfpn_14e.py")
    detector = cfg.model
    cfg.sliced_model = dict(patch_size=100)
    slice_images(cfg)
    assert cfg.model.type == "hordet.SlicedDetector" and cfg.model.patch_size == 100
    assert cfg.model.module == detector
    kinds = [step["type"] for step in cfg.model.pipeline]
    assert kinds == ["mmdet.Resize", "mmdet.PackDetInputs"]
    kept = cfg.test_dataloader.dataset.pipeline
    kinds = [step["type"] for step in kept]
    assert kinds == ["hordet.LoadImageFromFile", "mmdet.LoadAnnotations", "mmdet.PackDetInputs"]
    assert kept[1]["with_bbox"] and not kept[1]["with_mask"]

    for options, words in (
        (dict(patch_size=-1), "sliced_model: patch_size is -1; it must be"),
        (dict(patchsize=64), "sliced_model: .*patchsize"),
    ):
        cfg = read("nuclei/mask-rcnn_hornet-nano_horfpn_14e.py")
        cfg.sliced_model = options
        with pytest.raises(ConfigError, match=words):
            slice_images(cfg)
    cfg = read("camvid/upernet_hornet-nano_horuperhead_3k.py")
    with pytest.raises(ConfigError, match="this config has hordet.IoUMetric. A segmentor slides"):
        slice_images(cfg)
