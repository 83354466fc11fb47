"""What the check passes, training, validation and the metric read; what it refuses, it names.

Hypothesis draws annotation files and images of the kinds that exporters write: encodings, types of
numbers, missing keys, odd polygons and run lengths, crowds, paths, categories. Seeds are stated, so
that a run is the same everywhere; `--slow` draws 600 files more.
"""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

from hordet.datasets.checks.before_training import check_datasets
from hordet.datasets.plain_copies import use_copies
from hordet.errors import DatasetError
from hordet.registry import DATASETS, METRICS

CLASSES = ("圆", "bar", "ring")
SIZE = (36, 48)  # height, width
NAMES = ["a.png", "b c.png", "sub/d.png"]
# What a cure begins with, in every sentence that refuses.
CURES = (
    "Correct|Fetch|Use|Write|Give|Number|Convert|Set|set ann_file|set data_prefix|Lower|Multiply|"
    "Take the segmentations|Put|write iscrowd=0"
)
QUIET = dict(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three images, and a cache of its own."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = folder / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HORDET_CACHE", str(folder / "cache"))
        yield folder


def plain_content():
    images = [
        dict(id=i, file_name=name, height=SIZE[0], width=SIZE[1]) for i, name in enumerate(NAMES, 1)
    ]
    annotations = []
    for i, image in enumerate(images):
        for k in range(3):
            x, y, w, h = 3 + 12 * k, 4 + 6 * i, 9, 7
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image["id"],
                    category_id=k + 1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
    categories = [dict(id=k, name=name) for k, name in enumerate(CLASSES, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def run_lengths(kind):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[5:20, 6:30] = 1
    packed = coco_mask.encode(mask)
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {
        "packed": dict(size=list(SIZE), counts=packed["counts"].decode()),
        "list": dict(size=list(SIZE), counts=runs),
        "floats": dict(size=[float(v) for v in SIZE], counts=[float(run) for run in runs]),
        "other size": dict(size=list(SIZE[::-1]), counts=runs),
        "short": dict(size=list(SIZE), counts=runs[:-1]),
        "garbage": dict(size=list(SIZE), counts="o0~~~"),
        "endless": dict(size=list(SIZE), counts="o" * 40),
        "text": dict(size=list(SIZE), counts=["a", 1]),
        "nothing": {},
    }[kind]


odd_numbers = st.sampled_from(
    [0, -1, 1.0, 0.5, 1e300, -1e9, float("nan"), float("inf"), "1", None, True, [1], 2**70]
)
coordinates = st.one_of(st.floats(-60, 90), st.integers(-5, 50), odd_numbers)
segmentations = st.one_of(
    st.sampled_from([[], None, "", "text", 5, [[]], [1, 2, 3, 4], [[1, 2, 9, 8]], [None], {}]),
    st.lists(st.lists(coordinates, min_size=4, max_size=9), max_size=3),
    st.lists(st.floats(0, 30), min_size=6, max_size=6),
    st.sampled_from(
        ["packed", "list", "floats", "other size", "short", "garbage", "endless", "text", "nothing"]
    ).map(run_lengths),
)
file_names = st.sampled_from(
    ["a.png", "b%20c.png", "sub\\d.png", "C:\\data\\a.png", "x/y/a.png", "A.PNG", "", "../a.png"]
    + ["a\0.png", "\ud800.png", "no.png", "/abs/b c.png", None, 5]
)


@st.composite
def damages(draw):
    """Draw a change of the content as a function."""
    part = draw(st.sampled_from(["annotations", "images", "categories", "all"]))
    every = draw(st.booleans())
    index = draw(st.integers(0, 8))

    def chosen(content):
        items = content[part]
        return items if every else items[index % len(items) :][:1] if items else []

    if part == "annotations":
        key = draw(
            st.sampled_from(["id", "image_id", "category_id", "area", "iscrowd", "bbox"])
            | st.just("segmentation")
        )
        if draw(st.booleans()) and key != "segmentation":
            return lambda c: [item.pop(key, None) for item in chosen(c)]
        values = {
            "bbox": st.lists(coordinates, min_size=3, max_size=5),
            "segmentation": segmentations,
            "iscrowd": st.sampled_from([1, True, 1.0, "0", 2]),
        }
        value = draw(values.get(key, odd_numbers))
        return lambda c: [item.update({key: value}) for item in chosen(c)]
    if part == "images":
        key = draw(st.sampled_from(["id", "height", "width", "file_name", "file_name"]))
        if draw(st.booleans()):
            return lambda c: [item.pop(key, None) for item in chosen(c)]
        value = draw(file_names if key == "file_name" else odd_numbers)
        return lambda c: [item.update({key: value}) for item in c["images"][:1]]
    if part == "categories":
        return draw(
            st.sampled_from(
                [
                    lambda c: c["categories"].reverse(),
                    lambda c: c["categories"].pop(),
                    lambda c: c["categories"].append(dict(id=9, name="other")),
                    lambda c: c["categories"].append(dict(id=9, name="bar")),
                    lambda c: c["categories"][1].update(name="Bar "),
                    lambda c: c["categories"][0].update(id=0),
                    lambda c: c["categories"][0].update(name=None),
                    lambda c: c["categories"].clear(),
                ]
            )
        )
    return draw(st.sampled_from(WHOLE))


def floats(content):
    for item in (*content["images"], *content["annotations"], *content["categories"]):
        for key in ("id", "image_id", "category_id", "height", "width"):
            if isinstance(item.get(key), int):
                item[key] = float(item[key])


def texts(content):
    for item in (*content["images"], *content["annotations"]):
        for key in ("id", "image_id"):
            if key in item:
                item[key] = f"{item[key]}"


def shares(content):
    for item in content["annotations"]:
        item["bbox"] = [v / 50 for v in item["bbox"]]


def corners(content):
    for item in content["annotations"]:
        x, y, w, h = item["bbox"]
        item["bbox"] = [x, y, x + w, y + h]


def prefixed(content):
    for item in content["images"]:
        item["file_name"] = f"export/of/yesterday/{item['file_name']}"


def escaped(content):
    for item in content["images"]:
        item["file_name"] = f"{item['file_name']}".replace(" ", "%20").replace("/", "\\")


def negative(content):
    for item in content["annotations"]:
        item["id"] = -item["id"]


WHOLE = [floats, texts, shares, corners, prefixed, escaped, negative]
WHOLE += [lambda c: c["images"].clear(), lambda c: c["annotations"].clear()]
encodings = st.sampled_from(
    ["utf-8", "utf-8", "ascii", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gbk", "cut"]
)


def write_annotations(path, content, encoding):
    text = json.dumps(content, ensure_ascii=encoding in ("ascii", "cut"))
    if encoding == "cut":
        path.write_bytes(text.encode()[:-9])
    else:
        code = {"utf-8": "utf-8", "ascii": "ascii"}.get(encoding, encoding)
        errors = "strict" if encoding.startswith("utf-8-sig") else "surrogatepass"
        path.write_bytes(text.encode(code, "ignore" if encoding == "gbk" else errors))


def make_config(root, with_mask):
    pipeline = [
        dict(type="hordet.LoadImageFromFile"),
        dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=with_mask),
        dict(type="mmdet.Resize", scale=(64, 64), keep_ratio=True),
        dict(type="mmdet.RandomFlip", prob=0.5),
        dict(type="mmdet.PackDetInputs"),
    ]
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(root),
        ann_file="drawn.json",
        data_prefix=dict(img="train"),
        metainfo=dict(classes=CLASSES),
        pipeline=pipeline,
    )
    loaders = dict(
        train_dataloader=dict(dataset=dict(dataset, filter_cfg=dict(filter_empty_gt=True))),
        val_dataloader=dict(dataset=dict(dataset, test_mode=True)),
        val_evaluator=dict(
            type="hordet.CocoMetric",
            ann_file=str(root / "drawn.json"),
            metric=["bbox", "segm"] if with_mask else ["bbox"],
        ),
    )
    return ConfigDict(loaders)


def read_and_score(cfg):
    """What training, validation and the metric do with the data, without a model."""
    init_default_scope("mmdet")
    for key in ("train_dataloader", "val_dataloader"):
        data = DATASETS.build(cfg[key]["dataset"])
        samples = [data[i] for i in range(len(data))]
        assert samples
        if key == "train_dataloader":
            assert sum(len(s["data_samples"].gt_instances) for s in samples) > 0
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = data.metainfo
    mask = coco_mask.encode(np.asfortranarray(np.ones(SIZE, np.uint8)))
    for sample in samples:
        found = dict(
            bboxes=torch.tensor([[3.0, 4.0, 12.0, 11.0], [5.0, 5.0, 30.0, 20.0]]),
            scores=torch.tensor([0.9, 0.2]),
            labels=torch.tensor([0, len(CLASSES) - 1]),
            masks=[mask, mask],
        )
        one = sample["data_samples"]
        metric.process({}, [dict(pred_instances=found, img_id=one.img_id, ori_shape=one.ori_shape)])
    scores = metric.compute_metrics(metric.results)
    assert {"bbox_mAP"} <= scores.keys()


def judge(root, content, encoding, with_mask):
    """Assert what the title says of one file; return whether it passed the check."""
    write_annotations(root / "drawn.json", content, encoding)
    cfg = make_config(root, with_mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            copies = check_datasets(cfg)
        except DatasetError as error:
            for line in str(error).splitlines()[1:]:
                assert "drawn.json" in line, line
                assert re.search(CURES, line), line
                for count, total in re.findall(r"(\d+) of (\d+) (?:images|objects|ann|cat)", line):
                    assert int(count) <= int(total), line
            return False
        use_copies(cfg, copies)
        read_and_score(cfg)
        # What was made for a run is plain: it is read as it is.
        assert check_datasets(cfg) == {}
    return True


drawn_files = given(
    changes=st.lists(damages(), max_size=2), encoding=encodings, with_mask=st.booleans()
)


def change_and_judge(root, changes, encoding, with_mask):
    content = plain_content()
    for change in changes:
        try:
            change(content)
        except (TypeError, KeyError, IndexError, ValueError):
            pass  # what the change is about was taken away by the one before
    return judge(root, content, encoding, with_mask)


@seed(20261129)
@settings(max_examples=40, **QUIET)
@drawn_files
def test_files_that_pass_are_read_and_others_are_named(root, changes, encoding, with_mask):
    change_and_judge(root, changes, encoding, with_mask)


@pytest.mark.slow
@seed(16)
@settings(max_examples=600, **QUIET)
@drawn_files
def test_600_files(root, changes, encoding, with_mask):
    change_and_judge(root, changes, encoding, with_mask)
