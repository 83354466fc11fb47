"""tools/check_dataset.py on 5,000 images of COCO's size: less than two minutes on two cores.

python -m pytest -n0 -s --slow tests/datasets/test_inspection_speed.py
"""

import json
import subprocess
import sys
import time
from importlib import import_module

import cv2
import numpy as np
import pytest
from pycocotools import mask

from hordet import ops

ops.install()  # without operators, mmdet cannot be imported
CLASSES = import_module("mmdet.datasets").CocoDataset.METAINFO["classes"]
IMAGES = dict(train2017=4800, val2017=200)
HEIGHT, WIDTH = 480, 640
OBJECTS = 7  # of each image, as in COCO
LIMIT = 120  # seconds


def texture(rng, height, width):
    """Draw noise of all scales, as large as in photographs: JPEG needs 100 kB for 640 x 480."""
    total = np.zeros((height, width, 3), np.float32)
    for step in (1, 2, 4, 8, 16, 32, 64):
        noise = rng.normal(0, 6 * step**0.5, (height // step, width // step, 3))
        total += cv2.resize(noise.astype(np.float32), (width, height))
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def ellipse(rng, number, image):
    """An annotation with a polygon of 24 points."""
    half = rng.uniform(10, 80, 2)
    center = rng.uniform(half + 1, (WIDTH - 1, HEIGHT - 1) - half)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    points = center + half * np.stack([np.cos(angles), np.sin(angles)], 1)
    polygon = points.round(2).ravel().tolist()
    rles = mask.frPyObjects([polygon], HEIGHT, WIDTH)
    return dict(
        id=number,
        image_id=image,
        category_id=1 + number % len(CLASSES),
        bbox=[*(center - half), *(2 * half)],
        segmentation=[polygon],
        area=float(mask.area(rles)[0]),
        iscrowd=0,
    )


def draw(root):
    """Write the data set in the form of COCO; return the mean size of a file in bytes."""
    rng = np.random.default_rng(0)
    large = texture(rng, 2 * HEIGHT, 2 * WIDTH)
    places = iter(rng.permutation(HEIGHT * WIDTH))  # no two images alike
    categories = [dict(id=1 + i, name=name) for i, name in enumerate(CLASSES)]
    (root / "annotations").mkdir(parents=True)
    for split, count in IMAGES.items():
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(1, count + 1):
            top, left = divmod(next(places), WIDTH)
            name = f"{number:06d}.jpg"
            crop = large[top : top + HEIGHT, left : left + WIDTH]
            cv2.imwrite(str(root / split / name), crop, [cv2.IMWRITE_JPEG_QUALITY, 90])
            images.append(dict(id=number, file_name=name, height=HEIGHT, width=WIDTH))
            first = len(annotations) + 1
            annotations += [ellipse(rng, first + i, number) for i in range(OBJECTS)]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return np.mean([file.stat().st_size for file in root.rglob("*.jpg")])


@pytest.mark.slow
def test_five_thousand_images(repository, tmp_path):
    size = draw(tmp_path / "data")
    assert 60e3 < size < 200e3, size
    config = repository / "configs" / "coco" / "mask-rcnn_r50_fpn_1x.py"
    command = [sys.executable, str(repository / "tools" / "check_dataset.py"), str(config)]
    command += ["--data-root", "data", "--jobs", "2"]
    began = time.monotonic()
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    seconds = time.monotonic() - began
    print(f"\n{sum(IMAGES.values()):,} images of {size / 1e3:.0f} kB in {seconds:.1f} s")
    assert result.stdout.endswith("5,000 images, 0 errors, 0 warnings\n"), result.stdout
    assert result.returncode == 0, result.stderr[-3000:]
    assert seconds < LIMIT, seconds
