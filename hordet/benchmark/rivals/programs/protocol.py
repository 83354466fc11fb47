"""What the rivals share: arguments, the clock of a training, and what they write.

A rival is run as `python SCRIPT --data FOLDER --out FOLDER --minutes 5 --seed 0 --threads 2 --size
384 384 [--weights FILE] [--tiny]`, and imports nothing of hordet but this file, which lies beside
it. The data are `annotations/instances_{train,val}.json` with `train/` and `val/` (COCO), or
`images/{train,val}/` and `annotations/{train,val}/` (label maps as PNG) with `meta.json`, which
names the classes and the label that does not count. It writes into `--out`:

- objects: `predictions.json`, COCO's result file: image_id, category_id, bbox (left, top, width,
  height), segmentation (compressed run lengths in the image's own size), score;
- label maps: `maps/NAME.png` for each validation image, one channel, in the image's own size;
- `summary.json`: parameters, train_seconds, iterations, milliseconds (median of an image, without
  its decoding), peak_memory (bytes, of the process that trains, at the end of the training),
  version.

The clock starts with the first step and stops after the last: import, building and the start of
loaders do not count, and there is no validation before the end.
"""

import argparse
import json
import math
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

WARM_UP = 0.03  # share of the minutes
LOWEST = 0.01  # of the learning rate, at the end
TINY_STEPS = 2


@dataclass(frozen=True)
class Task:
    """The arguments of a rival.

    Attributes:
        data: Folder of the data.
        out: Folder of what is written.
        minutes: Wall clock of the training.
        seed: Seed of weights, data order and augmentation.
        threads: Threads of torch.
        size: Long and short side to which images are resized, in pixels.
        weights: Weights of EfficientNet-Lite0 under timm's names (.safetensors); None: no weights.
        tiny: Train two steps.
        decoder: Name of a decoder, for scripts that have several.
    """

    data: Path
    out: Path
    minutes: float
    seed: int
    threads: int
    size: tuple[int, int]
    weights: Path | None
    tiny: bool
    decoder: str | None

    @property
    def workers(self) -> int:
        """Processes that load images."""
        return 0 if self.tiny else 2

    def read_objects(self, split: str) -> dict[str, Any]:
        """Return COCO's annotation file of a split."""
        return json.loads((self.data / "annotations" / f"instances_{split}.json").read_text())

    def read_classes(self) -> list[str]:
        """Return the names of the classes of label maps."""
        return json.loads((self.data / "meta.json").read_text())["classes"]

    def list_maps(self, split: str) -> list[tuple[Path, Path]]:
        """Return images and their label maps."""
        images = sorted((self.data / "images" / split).iterdir())
        return [
            (image, self.data / "annotations" / split / f"{image.stem}.png") for image in images
        ]


def read_task() -> Task:
    """Read the arguments, and seed all that is random."""
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    for name in ("data", "out"):
        add(f"--{name}", type=Path, required=True)
    add("--minutes", type=float, required=True)
    add("--seed", type=int, required=True)
    add("--threads", type=int, required=True)
    add("--size", type=int, nargs=2, required=True)
    add("--weights", type=Path)
    add("--tiny", action="store_true")
    add("--decoder")
    given = vars(parser.parse_args())
    task = Task(**{**given, "size": tuple(given["size"])})
    task.out.mkdir(parents=True, exist_ok=True)

    import numpy as np
    import torch

    random.seed(task.seed)
    np.random.seed(task.seed)
    torch.manual_seed(task.seed)
    torch.set_num_threads(task.threads)
    return task


class Clock:
    """The minutes of a training, and the learning rate that fits itself to them.

    The rate goes up linearly in the first `WARM_UP` of the time, then down as a half cosine to
    `LOWEST` of it, by the share of the time that is spent. So no length has to be guessed.

    Args:
        task: The arguments of the rival.

    Attributes:
        iterations: Steps so far.
        seconds: Wall clock from the first step to the end of the last.
        peak_memory: Peak resident memory of this process at the end of the last step, in bytes.
    """

    def __init__(self, task: Task) -> None:
        """Wait for the first step."""
        self._limit, self._tiny = 60 * task.minutes, task.tiny
        self._start: float | None = None
        self.iterations, self.seconds, self.peak_memory = 0, 0.0, 0

    def begin_step(self) -> float:
        """Start the clock, at the first step; return what multiplies the learning rate."""
        if self._start is None:
            self._start = time.perf_counter()
        share = self._share()
        if share < WARM_UP:
            return max(LOWEST, share / WARM_UP)
        fallen = (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2
        return LOWEST + (1 - LOWEST) * fallen

    def end_step(self) -> bool:
        """Count a step; return whether the time is over."""
        assert self._start is not None
        self.iterations += 1
        self.seconds = time.perf_counter() - self._start
        if self._share() < 1:
            return False
        unit = 1 if sys.platform == "darwin" else 1024
        self.peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return True

    def _share(self) -> float:
        """Share of the time that is spent, 0 to 1."""
        spent = self.iterations / TINY_STEPS if self._tiny else self.seconds / self._limit
        return min(1.0, spent)


def train(
    clock: Clock,
    optimizer: Any,
    loader: Iterable[Any],
    compute_loss: Callable[[Any], Any],
    max_norm: float = math.inf,
) -> None:
    """Train until the time is over.

    Args:
        clock: The clock; it sets the learning rates.
        optimizer: Torch's optimizer, with the highest rates.
        loader: Batches; repeated.
        compute_loss: Takes a batch and returns its loss.
        max_norm: Gradients of a larger norm, over all parameters, are scaled down to it.
    """
    from torch.nn.utils import clip_grad_norm_

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    for batch in repeat(loader):
        factor = clock.begin_step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = factor * rate
        loss = compute_loss(batch)
        if not math.isfinite(value := float(loss.detach())):
            sys.exit(f"the loss is {value} at iteration {clock.iterations}")
        optimizer.zero_grad()
        loss.backward()
        if math.isfinite(max_norm):
            clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        if clock.end_step():
            return


def repeat(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader again and again."""
    while True:
        yield from loader


def time_each(predict: Callable[[Any], Any], images: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    """Yield what is predicted of each image, and the milliseconds that it took."""
    for image in images:
        start = time.perf_counter()
        found = predict(image)
        yield found, 1000 * (time.perf_counter() - start)


def load_lite0(model: Any, path: Path) -> None:
    """Load weights into timm's `tf_efficientnet_lite0`, whole or cut after its last feature.

    Args:
        model: The model; all that it has must be in the file.
        path: A file under timm's names.
    """
    from safetensors.torch import load_file

    found = load_file(path)
    lacking = [name for name in model.state_dict() if name not in found]
    if lacking:
        sys.exit(f"{path} has no weights for {', '.join(lacking[:5])}")
    model.load_state_dict({name: found[name] for name in model.state_dict()})


def describe_objects(
    image_id: int, boxes: Any, scores: Any, categories: Any, masks: Any
) -> list[dict[str, Any]]:
    """Return COCO's detections of one image.

    Args:
        image_id: Its id.
        boxes: Left, top, right, bottom (N, 4), in pixels of the image's own size.
        scores: Confidences (N,).
        categories: Category ids (N,).
        masks: Masks (N, H, W) of bool or uint8 in the image's own size, or N run lengths.
    """
    import numpy as np
    from pycocotools import mask as coco

    found = []
    for box, score, category, mask in zip(boxes, scores, categories, masks, strict=True):
        if not isinstance(mask, dict):
            mask = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        counts = mask["counts"]
        left, top, right, bottom = map(float, box)
        found.append(
            dict(
                image_id=image_id,
                category_id=int(category),
                bbox=[left, top, right - left, bottom - top],
                score=float(score),
                segmentation=dict(
                    size=[int(side) for side in mask["size"]],
                    counts=counts.decode() if isinstance(counts, bytes) else counts,
                ),
            )
        )
    return found


def write_objects(task: Task, detections: list[dict[str, Any]]) -> None:
    """Write the detections of all images."""
    (task.out / "predictions.json").write_text(json.dumps(detections))


def write_map(task: Task, name: str, labels: Any) -> None:
    """Write the label map (H, W) of the image `name`, without suffix."""
    import numpy as np
    from PIL import Image

    folder = task.out / "maps"
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(folder / f"{name}.png")


def write_summary(
    task: Task,
    *,
    parameters: int,
    train_seconds: float,
    iterations: int,
    milliseconds: list[float],
    peak_memory: int,
    version: str,
) -> None:
    """Write the summary; the arguments are named as in the file, times are one an image."""
    summary = dict(
        parameters=parameters,
        train_seconds=round(train_seconds, 1),
        iterations=iterations,
        milliseconds=median(milliseconds),
        peak_memory=peak_memory,
        version=version,
    )
    (task.out / "summary.json").write_text(json.dumps(summary))


def summarize(
    task: Task, clock: Clock, model: Any, milliseconds: list[float], version: str
) -> None:
    """Write the summary of a training that this process made.

    Args:
        task: The arguments of the rival.
        clock: The training's.
        model: The model.
        milliseconds: Time of each image.
        version: Name and version of the package.
    """
    write_summary(
        task,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        train_seconds=clock.seconds,
        iterations=clock.iterations,
        milliseconds=milliseconds,
        peak_memory=clock.peak_memory,
        version=version,
    )
