"""The drawn images of a dry run, in the layouts of the face-off's data sets."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hordet.benchmark.rivals.plan import TASKS
from hordet.ops.run_lengths import encode_mask

SIZE = (64, 80)  # height, width
IMAGES = {"train": 4, "val": 3}
CLASSES = ("ground", "disk", "ring")
IGNORED = 255


def draw_data(dataset: str, folder: Path) -> None:
    """Draw bright disks on dark ground: some images of each split, with annotations.

    Args:
        dataset: A key of `TASKS`.
        folder: Where they are written; what is there is written over.
    """
    random = np.random.default_rng(0)
    draw = _draw_objects if TASKS[dataset].kind == "objects" else _draw_maps
    for split, number in IMAGES.items():
        draw(folder, split, [_draw(random) for _ in range(number)])


def _draw(random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return an image (H, W, 3) of uint8 and its masks (H, W)."""
    image = random.integers(0, 60, (*SIZE, 3), dtype=np.uint8)
    masks = []
    for x in (20, 56):
        mask = np.zeros(SIZE, np.uint8)
        center = (x + int(random.integers(-4, 5)), 32 + int(random.integers(-12, 13)))
        cv2.circle(mask, center, int(random.integers(9, 15)), 1, -1)
        image[mask > 0] = random.integers(150, 255, 3)
        masks.append(mask)
    return image, masks


def _draw_objects(folder: Path, split: str, drawn: list) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / split).mkdir(parents=True, exist_ok=True)
    for number, (pixels, masks) in enumerate(drawn, start=1):
        name = f"{split}{number}.png"
        cv2.imwrite(str(folder / split / name), pixels)
        images.append(dict(id=number, file_name=name, height=SIZE[0], width=SIZE[1]))
        for mask in masks:
            counts = encode_mask(mask)["counts"]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=1,
                    bbox=list(cv2.boundingRect(mask)),
                    area=int(mask.sum()),
                    iscrowd=0,
                    segmentation=dict(size=list(SIZE), counts=counts.decode()),
                )
            )
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="disk")])
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _draw_maps(folder: Path, split: str, drawn: list) -> None:
    for kind in ("images", "annotations"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    for number, (pixels, masks) in enumerate(drawn, start=1):
        labels = np.zeros(SIZE, np.uint8)
        for label, mask in enumerate(masks, start=1):
            labels[mask > 0] = label
        labels[:2] = IGNORED
        cv2.imwrite(str(folder / "images" / split / f"{split}{number}.png"), pixels)
        cv2.imwrite(str(folder / "annotations" / split / f"{split}{number}.png"), labels)
    meta = dict(classes=CLASSES, ignore_index=IGNORED)
    (folder / "meta.json").write_text(json.dumps(meta))
