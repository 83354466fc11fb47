"""ultralytics' nano segmentor from its model definition, by the package's own command `yolo`.

The package is run as a program: nothing of it is imported here.
"""

import csv
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from protocol import Task, read_task, write_objects, write_summary
from pycocotools import mask as coco

MODEL = "yolo26n-seg.yaml"
# The command leaves one core free, so of two it would take one thread.
START = "import os; os.cpu_count = lambda: {}; from ultralytics.cfg import entrypoint; entrypoint()"


def run_yolo(task: Task, *words: str) -> str:
    """Run `yolo WORDS`, and return what it prints."""
    code = START.format(task.threads + 1)
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=task.out,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    sys.stdout.write(done.stdout)
    if done.returncode:
        sys.exit((done.stdout.strip() or f"yolo {words[1]} failed").splitlines()[-1])
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def write_labels(task: Task) -> Path:
    """Write the data in the package's form, and return their YAML file."""
    folder = task.out / "yolo"
    for split in ("train", "val"):
        content = task.read_objects(split)
        categories = [category["id"] for category in content["categories"]]
        lines: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        for item in content["annotations"]:
            height, width = sizes[item["image_id"]]
            points = trace(item["segmentation"], (height, width)) / (width, height)
            words = " ".join(f"{value:.6f}" for value in points.ravel())
            lines[item["image_id"]].append(f"{categories.index(item['category_id'])} {words}")
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for image in content["images"]:
            path = task.data / split / image["file_name"]
            shutil.copy(path, folder / "images" / split / path.name)
            text = "".join(f"{line}\n" for line in lines[image["id"]])
            (folder / "labels" / split / f"{path.stem}.txt").write_text(text)
    names = {index: category["name"] for index, category in enumerate(content["categories"])}
    path = folder / "data.yaml"  # JSON is YAML
    path.write_text(
        json.dumps(dict(path=str(folder), train="images/train", val="images/val", names=names))
    )
    return path


def trace(segmentation: object, size: tuple[int, int]) -> np.ndarray:
    """Return the outline (N, 2) of a mask's largest part, in pixels."""
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, *size))
    elif isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        segmentation = coco.frPyObjects(segmentation, *size)
    mask = coco.decode(segmentation)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return np.zeros((3, 2))
    outline = max(outlines, key=cv2.contourArea)[:, 0].astype(float)
    if len(outline) > 2:
        return outline
    left, top, width, height = cv2.boundingRect(mask)
    return np.array([(left, top), (left + width, top), (left + width, top + height)], float)


def main() -> None:
    """Train, validate into COCO's file, and time single images."""
    task = read_task()
    data = write_labels(task)
    side = f"imgsz={64 if task.tiny else max(task.size)}"
    length = ["epochs=1", "batch=2"] if task.tiny else [f"time={task.minutes / 60}"]
    places = [f"project={task.out}", "exist_ok=True", "device=cpu", "plots=False", side]
    said = run_yolo(
        task,
        *("segment", "train", f"model={MODEL}", f"data={data}", "pretrained=False", "val=False"),
        *(f"seed={task.seed}", f"workers={task.workers}", "name=train", *length, *places),
    )
    # Kibibytes on Linux, of the largest process.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    parameters = re.search(r"([\d,]+) parameters", said)
    with (task.out / "train" / "results.csv").open() as file:
        last = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)][
            -1
        ]
    images = len(task.read_objects("train")["images"])
    steps = int(last["epoch"]) * -(-images // (2 if task.tiny else 16))  # its batch size

    model = f"model={task.out / 'train/weights/last.pt'}"
    run_yolo(
        task,
        *("segment", "val", model, f"data={data}", "save_json=True", "name=val", "workers=0"),
        *places,
    )
    truth = task.read_objects("val")
    ids = {Path(image["file_name"]).stem: image["id"] for image in truth["images"]}
    found = json.loads((task.out / "val" / "predictions.json").read_text())
    for item in found:
        item["image_id"] = ids[Path(item.pop("file_name")).stem]
        # The command counts its classes from 1.
        item["category_id"] = truth["categories"][item["category_id"] - 1]["id"]
    write_objects(task, found)

    source = f"source={task.out / 'yolo/images/val'}"
    said = run_yolo(task, "segment", "predict", model, source, "name=one", "save=False", *places)
    each = [float(taken) for taken in re.findall(r"^image .*?([\d.]+)ms$", said, re.MULTILINE)]
    (around,) = re.findall(r"Speed: ([\d.]+)ms preprocess.* ([\d.]+)ms postprocess", said)
    write_summary(
        task,
        parameters=int(parameters[1].replace(",", "")) if parameters else 0,
        train_seconds=float(last["time"]),
        iterations=steps,
        milliseconds=[statistics.median(each) + sum(map(float, around))],
        peak_memory=memory,
        version=f"ultralytics {version('ultralytics')}",
    )


if __name__ == "__main__":
    main()
