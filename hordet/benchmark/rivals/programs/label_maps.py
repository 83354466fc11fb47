"""How the rivals in plain torch train a segmentor for some minutes, and predict label maps."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from protocol import (
    Clock,
    Task,
    summarize,
    time_each,
    train,
    write_map,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

BATCH = 8
IGNORED = 255  # in the batches
MULTIPLE = 32  # of which sides must be


class Maps(Dataset):
    """Crops (3, S, S) of images, normalized, with their label maps (S, S).

    Args:
        task: The arguments of the rival.
        scales: Bounds of the random size, times that of the task.
        side: Side of the crop, in pixels.
        mean: Of each channel, of values 0 to 1.
        std: Of each channel.
    """

    def __init__(
        self, task: Task, scales: tuple[float, float], side: int, mean: Tensor, std: Tensor
    ) -> None:
        """List the images."""
        self.pairs = task.list_maps("train")
        self.ignored = read_ignored(task)
        self.size, self.scales, self.side = task.size, scales, side
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a crop, resized and flipped at random."""
        image, labels = (Image.open(path) for path in self.pairs[index])
        factor = random.uniform(*self.scales) * find_factor(image.size, self.size)
        size = scale_size(image.size, factor)
        pixels = (read_pixels(image.resize(size, Image.Resampling.BILINEAR)) - self.mean) / self.std
        truth = torch.from_numpy(np.array(labels.resize(size, Image.Resampling.NEAREST))).long()
        truth[truth == self.ignored] = IGNORED
        if random.random() < 0.5:
            pixels, truth = pixels.flip(-1), truth.flip(-1)
        lacking = [max(0, self.side - side) for side in size]  # of width, height
        pixels = functional.pad(pixels, (0, lacking[0], 0, lacking[1]))
        truth = functional.pad(truth, (0, lacking[0], 0, lacking[1]), value=IGNORED)
        top = random.randint(0, truth.shape[0] - self.side)
        left = random.randint(0, truth.shape[1] - self.side)
        crop = (..., slice(top, top + self.side), slice(left, left + self.side))
        return pixels[crop], truth[crop]


def read_ignored(task: Task) -> int:
    """Return the label that does not count."""
    return json.loads((task.data / "meta.json").read_text())["ignore_index"]


def scale_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return (width, height) times a factor, each at least one pixel."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def find_factor(size: tuple[int, int], wanted: tuple[int, int]) -> float:
    """Return what brings an image of (W, H) into the long and short side that are wanted."""
    return min(max(wanted) / max(size), min(wanted) / min(size))


def read_pixels(image: Image.Image) -> Tensor:
    """Return an image (3, H, W), 0 to 1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def run(
    task: Task,
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    compute_loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    scales: tuple[float, float],
    side: int,
    mean: list[float],
    std: list[float],
    version: str,
) -> None:
    """Train, predict the validation images, and write all of it.

    Args:
        task: The arguments of the rival.
        model: The model.
        forward: Takes images (N, 3, H, W) and returns logits (N, K, H, W).
        compute_loss: Takes logits, and labels (N, H, W) with `IGNORED`.
        optimizer: The optimizer, with its highest rate.
        scales: As of `Maps`.
        side: As of `Maps`.
        mean: As of `Maps`.
        std: As of `Maps`.
        version: Name and version of the package.
    """
    if task.tiny:
        side = 2 * MULTIPLE
    center, spread = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
    loader = DataLoader(
        Maps(task, scales, side, center, spread),
        2 if task.tiny else BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
    )
    model.train()
    clock = Clock(task)
    train(clock, optimizer, loader, lambda batch: compute_loss(forward(batch[0]), batch[1]))

    model.eval()

    def predict(image: Image.Image) -> Any:
        factor = find_factor(image.size, task.size)
        size = scale_size(image.size, factor)
        pixels = (read_pixels(image.resize(size, Image.Resampling.BILINEAR)) - center) / spread
        padding = [-side % MULTIPLE for side in size]
        logits = forward(functional.pad(pixels, (0, padding[0], 0, padding[1]))[None])
        logits = logits[..., : size[1], : size[0]]
        own = functional.interpolate(logits, image.size[::-1], mode="bilinear", align_corners=False)
        return own[0].argmax(0).numpy()

    pairs = task.list_maps("val")
    images = (Image.open(path).convert("RGB") for path, _ in pairs)
    milliseconds = []
    with torch.inference_mode():
        for (path, _), (labels, taken) in zip(pairs, time_each(predict, images), strict=True):
            milliseconds.append(taken)
            write_map(task, path.stem, labels)
    summarize(task, clock, model, milliseconds, version)
