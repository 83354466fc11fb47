"""A rival that trains nothing and copies the truth; `FAKE` in the environment spoils it."""

import json
import os
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from shutil import copy

parser = ArgumentParser()
for name in ("data", "out", "minutes", "seed", "threads", "weights", "decoder"):
    parser.add_argument(f"--{name}")
parser.add_argument("--size", nargs=2)
parser.add_argument("--tiny", action="store_true")
given = parser.parse_args()
data, out, spoil = Path(given.data), Path(given.out), os.environ.get("FAKE", "")
print("words", *sys.argv[1:])
print("cores", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?")
print("python path", os.environ.get("PYTHONPATH"), "threads", os.environ["OMP_NUM_THREADS"])
if spoil == "crash":
    sys.exit("out of luck")
if spoil == "slow":
    time.sleep(600)
if (data / "meta.json").is_file():
    (out / "maps").mkdir()
    for path in sorted((data / "annotations" / "val").iterdir())[spoil == "lacks" :]:
        copy(path, out / "maps")
    # The truth's label that does not count is no class: it may not be predicted.
    import cv2

    for path in (out / "maps").iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels[labels == 255] = 0
        if spoil == "class":
            labels[labels == 1] = 99
        if spoil == "size":
            labels = labels[1:]
        cv2.imwrite(str(path), labels)
else:
    truth = json.loads((data / "annotations/instances_val.json").read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    found = [{key: item[key] for key in keys} | {"score": 0.9} for item in truth["annotations"]]
    if spoil == "half":
        found = found[::2]
    if spoil == "none":
        found = []
    if spoil == "image":
        found[0]["image_id"] = 77
    if spoil == "box":
        found[0]["bbox"] = [1, 2, 3]
    if spoil == "nan":
        found[0]["score"] = float("nan")
    if spoil == "polygons":
        found[0]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    if spoil != "no file":
        (out / "predictions.json").write_text(json.dumps(found))
summary = dict(parameters=1_500_000, train_seconds=60.0, iterations=100 + int(given.seed))
summary |= dict(milliseconds=12.5, peak_memory=3 << 29, version="fake 1.0")
if spoil == "summary":
    del summary["milliseconds"]
if spoil == "zero":
    summary["iterations"] = 0
(out / "summary.json").write_text(json.dumps(summary))
