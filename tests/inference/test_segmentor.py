"""Bounded sliding windows and test-time augmentation give mmseg's own output."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmseg.structures import SegDataSample

import hordet.registry  # noqa: F401
from hordet.inference import segmentor as module
from hordet.inference.resizing import Axis, resize_columns, resize_rows
from hordet.inference.segmentor import Rectangle
from hordet.inference.windows import Grid, window_rows

TINY = 4e-4  # GiB: beyond it are all images here, which take two strips or so


def segmentor(
    kind="hordet.EncoderDecoder", align_corners=False, mode="slide", classes=5, pre=None, **options
):
    """A network of random weights that looks at its surroundings."""
    torch.manual_seed(0)
    head = dict(
        type="mmseg.FCNHead",
        in_channels=64,
        in_index=1,
        channels=16,
        num_classes=max(classes, 2),
        out_channels=classes,
        threshold=0.8 if classes == 1 else None,
        norm_cfg=dict(type="BN"),
        align_corners=align_corners,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", use_sigmoid=classes == 1),
    )
    model = MODELS.build(
        ConfigDict(
            type=kind,
            data_preprocessor=dict(
                type="mmseg.SegDataPreProcessor",
                mean=[0.0] * 3,
                std=[64.0] * 3,
                **(pre or {}),
            ),
            backbone=dict(
                type="hordet.HorNet",
                arch=dict(base_channels=32, depths=(1, 1, 1, 1), orders=(2, 3, 2, 2)),
                layer_scale_init_value=1.0,
            ),
            decode_head=head,
            train_cfg=dict(),
            test_cfg=dict(mode=mode, crop_size=(64, 96), stride=(43, 50)),
            **options,
        )
    )
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=0.5)
    return model.eval()


def batch(size=(133, 150), original=(90, 171), flip=None, number=1):
    """Images as a test pipeline hands them over."""
    draw = torch.Generator().manual_seed(sum(size))
    smooth = torch.rand(number, 3, 9, 9, generator=draw)
    images = torch.nn.functional.interpolate(smooth, size=size, mode="bilinear") * 255
    samples = [
        SegDataSample(
            metainfo=dict(
                ori_shape=original, img_shape=size, flip=flip is not None, flip_direction=flip,
                img_path="a.png",
            )
        )
        for _ in range(number)
    ]  # fmt: skip
    return dict(inputs=list(images), data_samples=samples)


def same_classes(found, expected, probability):
    """Whether classes agree wherever the best two classes are more than 1e-4 apart."""
    best = probability.topk(2, dim=0).values
    clear = (best[0] - best[1]) > 1e-4
    assert clear.float().mean() > 0.99
    return bool((found.squeeze() == expected.squeeze())[clear].all())


@torch.no_grad()
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("flip", [None, "horizontal", "vertical"])
@pytest.mark.parametrize("size", [(133, 150), (50, 200), (60, 80), (64, 96)])
def test_slide_is_that_of_mmseg(size, flip, align_corners):
    expected = segmentor("mmseg.EncoderDecoder", align_corners).test_step(batch(size, flip=flip))[0]
    logits = expected.seg_logits.data
    assert logits.std() > 0.1
    model = segmentor(align_corners=align_corners)
    found = model.test_step(batch(size, flip=flip))[0]
    assert (found.seg_logits.data - logits).abs().max() < 1e-4
    model.memory_limit = TINY
    found = model.test_step(batch(size, flip=flip))[0]
    assert "seg_logits" not in found
    assert found.pred_sem_seg.data.shape == (1, 90, 171)
    assert same_classes(found.pred_sem_seg.data, expected.pred_sem_seg.data, logits)


@torch.no_grad()
def test_windows_go_through_the_network_together():
    want = segmentor().test_step(batch())[0].seg_logits.data
    model = segmentor(windows_at_once=3)
    sizes = []
    encode = model.encode_decode

    def look(inputs, metas):
        sizes.append(len(inputs))
        assert len(metas) == len(inputs)
        return encode(inputs, metas)

    model.encode_decode = look
    found = model.test_step(batch())[0].seg_logits.data
    assert (found - want).abs().max() < 1e-4 and sizes == [3] * 3  # three of three a row
    with pytest.raises(ValueError, match="windows_at_once is 0; it must be 1 or more"):
        segmentor(windows_at_once=0)


@torch.no_grad()
@pytest.mark.parametrize("flip", [None, "horizontal", "vertical"])
@pytest.mark.parametrize("part", [(0, 90, 0, 171), (20, 61, 33, 34), (89, 90, 100, 171)])
@pytest.mark.parametrize("size", [(133, 150), (90, 171)])
def test_logits_of_a_part(size, part, flip):
    sample = batch(size, flip=flip)
    whole = segmentor("mmseg.EncoderDecoder").test_step(batch(size, flip=flip))[0]
    expected = whole.seg_logits.data
    model = segmentor()
    image = model.data_preprocessor(sample, False)["inputs"][0]
    meta = sample["data_samples"][0].metainfo
    covered = torch.zeros(90, 171)
    for place, logits in model.rectangle_rows(image, meta, Rectangle(*part)):
        rows, columns = slice(place.top, place.bottom), slice(place.left, place.right)
        assert (logits - expected[:, rows, columns]).abs().max() < 1e-4
        covered[rows, columns] += 1
    assert (covered[part[0] : part[1], part[2] : part[3]] == 1).all()
    assert covered.sum() == (part[1] - part[0]) * (part[3] - part[2])


@torch.no_grad()
def test_padded_images_and_one_channel():
    options = dict(classes=1, pre=dict(test_cfg=dict(size_divisor=64)))
    expected = segmentor("mmseg.EncoderDecoder", **options).test_step(batch())[0]
    found = segmentor(memory_limit=TINY, **options).test_step(batch())[0]
    probability = expected.seg_logits.data
    clear = (probability - 0.8).abs()[0] > 1e-4
    assert 0.05 < expected.pred_sem_seg.data.float().mean() < 0.95
    agree = found.pred_sem_seg.data[0] == expected.pred_sem_seg.data[0]
    assert agree[clear].all() and found.pred_sem_seg.data.shape == (1, 90, 171)


def views(ratios=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)):
    """The published protocol: six sizes, each also flipped."""
    batches = [
        batch((int(80 * ratio), int(93 * ratio)), flip=flip, number=2)
        for ratio in ratios
        for flip in (None, "horizontal")
    ]
    for item in batches:
        if item["data_samples"][0].flip:
            item["inputs"] = [image.flip(2) for image in item["inputs"]]
    return {key: [item[key] for item in batches] for key in ("inputs", "data_samples")}


def mean_probability(model):
    """The mean of softmax over views of mmseg's own segmentor, an image at a time."""
    total = 0
    for inputs, samples in zip(*views().values(), strict=True):
        predicted = model.test_step(dict(inputs=inputs, data_samples=samples))
        total += torch.stack([sample.seg_logits.data.softmax(dim=0) for sample in predicted])
    return total / 12


def augmented(model):
    """The predictions of hordet's SegTTAModel, the mean probabilities it decides by, its bands."""
    decide, divide = model._decide, model._bands
    decided, bands = [], []
    model._decide = lambda mean: (decided.append(mean), decide(mean))[1]
    model._bands = lambda strip: [bands.append(band) or band for band in divide(strip)]
    found = model.test_step(views())
    if not bands:
        return found, torch.stack(decided), 0
    means = decided[0].new_full((2, 5, 90, 171), torch.nan)
    for number, (band, mean) in enumerate(zip(bands, decided, strict=True)):
        image = means[2 * number // len(bands)]
        image[:, band.top : band.bottom, band.left : band.right] = mean
    return found, means, len(bands)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_augmentation_is_that_of_mmseg(mode):
    """Probabilities to 1e-4, and classes; in one piece and in bands."""
    stock = segmentor("mmseg.EncoderDecoder", mode=mode)
    expected = mean_probability(stock)
    theirs = MODELS.build(dict(type="mmseg.SegTTAModel", module=stock)).eval().test_step(views())
    for sample, probability in zip(theirs, expected, strict=True):  # so these are mmseg's
        assert torch.equal(sample.pred_sem_seg.data.squeeze(), probability.argmax(dim=0))
    assert expected.std() > 0.1
    for limit in (2.0, TINY) if mode == "slide" else (2.0,):
        module = segmentor(mode=mode, memory_limit=limit)
        model = MODELS.build(dict(type="hordet.SegTTAModel", module=module)).eval()
        found, means, bands = augmented(model)
        assert (bands > 4) == (limit == TINY)
        assert (means - expected).abs().max() < 1e-4
        for sample, probability in zip(found, expected, strict=True):
            assert sample.pred_sem_seg.data.shape == (1, 90, 171) and sample.img_path == "a.png"
            assert same_classes(
                sample.pred_sem_seg.data, probability.argmax(dim=0)[None], probability
            )


def test_a_limit_decides_the_parts():
    model = segmentor(memory_limit=2.0)
    assert model.fits((512, 683), (512, 683)) and not model.fits((3648, 5472), (9000, 9000))
    model.memory_limit = 64 * 1000 * 5 * 4 * 2 / module.GIB  # a buffer 1000 wide
    strips = model.divide_into_strips((3000, 2500), (3000, 2500))
    assert [(s.left, s.right) for s in strips] == [(0, 833), (833, 1666), (1666, 2500)]
    with pytest.raises(ValueError, match="memory_limit is 0; it must be above 0"):
        segmentor(memory_limit=0)


def test_windows_and_resizing_by_themselves():
    assert Grid(100, 40, 30).spans == [(0, 40), (30, 70), (60, 100)]
    assert Grid(95, 40, 30).spans == [(0, 40), (30, 70), (55, 95)]
    assert Grid(20, 40, 30).spans == [(0, 20)]
    image = torch.rand(2, 95, 101)
    groups = []

    def predict(rows, places):
        groups.append(len(places))
        return torch.stack([image[:, rows, columns] for columns in places])

    args = (predict, Grid(95, 40, 30), Grid(101, 20, 7), 13, 90, 5, 99)
    for at_once, wanted in ((1, [1] * 39), (5, [5, 5, 3] * 3)):
        groups.clear()
        found = torch.cat(list(window_rows(*args, at_once)), dim=1)
        assert (found - image[:, 13:90, 5:99]).abs().max() < 1e-6
        assert groups == wanted
    for size in ((50, 60), (200, 333), (1, 1)):
        for align in (False, True):
            expected = torch.nn.functional.interpolate(
                image[None], size=size, mode="bilinear", align_corners=align
            )[0]
            rows, columns = Axis(95, size[0], align), Axis(101, size[1], align)
            (top, bottom), (left, right) = rows.needed(0, size[0]), columns.needed(0, size[1])
            parts = image[:, top:bottom, left:right].split(9, dim=1)
            narrow = [resize_columns(part, columns, 0, size[1]) for part in parts]
            found = torch.cat(list(resize_rows(narrow, rows, 0, size[0])), dim=1)
            assert (found - expected).abs().max() < 1e-5


@torch.no_grad()
def test_views_of_one_size_go_through_the_network_together():
    module = segmentor(mode="whole")
    build = dict(type="hordet.SegTTAModel", module=module)
    _, want, _ = augmented(MODELS.build(build).eval())
    sizes = []
    step = module.test_step
    module.test_step = lambda data: sizes.append(len(data["inputs"])) or step(data)
    _, found, _ = augmented(MODELS.build(dict(build, views_at_once=2)).eval())
    assert (found - want).abs().max() < 1e-5 and sizes == [2] * 12  # an image and its flip
    with pytest.raises(ValueError, match="views_at_once is 0"):
        MODELS.build(dict(build, views_at_once=0))


LARGE = """
import torch
from mmengine.config import Config
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmseg.structures import SegDataSample
import hordet.registry
DefaultScope.get_instance("large", scope_name="mmseg")
cfg = Config.fromfile("configs/ade20k/upernet_hornet-tiny-7x7_uperhead_160k.py").model
cfg.backbone.init_cfg = None
torch.set_num_threads(1)
model = MODELS.build(cfg).eval()
size = (3648, 5472)
sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, pad_shape=size))
image = (torch.rand(3, *size) * 255).byte()
with torch.no_grad():
    found = model.test_step(dict(inputs=[image], data_samples=[sample]))[0]
assert found.pred_sem_seg.data.shape == (1, *size)
lines = open("/proc/self/status").read().splitlines()
print("GiB", next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_large_image_of_150_classes_in_6_gib(repository):
    run = subprocess.run(
        [sys.executable, "-c", LARGE],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    peak = float(re.search(r"GiB ([\d.]+)", run.stdout).group(1))
    # mmseg adds each window, padded to the image's size, to a map of all: two such in float32.
    need = 2 * 4 * 150 * np.prod((3648, 5472)) / 2**30
    print(f"peak {peak:.2f} GiB; the maps of mmseg's own slide alone take {need:.1f} GiB")
    assert peak < 6 < need
