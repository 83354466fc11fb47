"""Rules that choose the numbers of a config from statistics of the data alone.

The rules were measured on a few hundred images (nuclei and CamVid) with a small model that trains
for ten minutes on two CPU cores. Other data may need other numbers; comments in the config name the
statistic from which each comes.
"""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hordet.datasets.class_weights import weigh_pixels
from hordet.new_config.coco_folder import CocoStatistics
from hordet.new_config.map_folder import MapStatistics

BATCH_SIZE = 4
LEARNING_RATE = 1.5e-3  # for a batch of this size
STRIDE = 32  # of the coarsest feature map; sizes of images are multiples of it

# Detection. The finest feature map has cells of 4 pixels: an object of 20 pixels covers five.
# Below the least side, tiles are proposed.
GOOD_SIDE, LEAST_SIDE, MOST_ENLARGED = 20, 12, 2.0
FINEST_ANCHOR, COARSEST_ANCHOR = 4, 64
# Training images to process, per root of the number of classes; lowest and highest epochs.
IMAGES_TO_SEE, EPOCHS = 1500, (5, 50)
USUAL_CROWD = 100

# Segmentation: iterations per root of the number of classes; lowest and highest epochs.
ITERATIONS, PASSES = 270, (5, 200)
LEAST_CROP = 128
# Training from random weights is longer by this factor.
FROM_SCRATCH = 1.5


@dataclass(frozen=True)
class Schedule:
    """Length and steps of a training.

    Attributes:
        length: In epochs for detection, in iterations for segmentation.
        val_interval: Validate once in so many epochs or iterations.
        batch_size: Images in a batch.
        learning_rate: For this batch size.
    """

    length: int
    val_interval: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class DetectionChoices:
    """Numbers of a detector's config.

    Attributes:
        scale: (long, short) side that images are resized to, pixels.
        enlarged: The factor by which this enlarges them.
        crop: Side of the training crops, pixels; None trains on whole images.
        anchor_scales: Sides of the anchors, in strides of their level.
        anchor_ratios: Height / width of the anchors.
        max_per_img: Number of detections to keep in an image.
        sampled: Number of regions of an image on which the heads are trained.
        schedule: In epochs.
    """

    scale: tuple[int, int]
    enlarged: float
    crop: int | None
    anchor_scales: list[int]
    anchor_ratios: list[float]
    max_per_img: int
    sampled: int
    schedule: Schedule

    def list_cautions(self, statistics: CocoStatistics) -> list[str]:
        """Return warnings on problems of the data that no setting can solve."""
        side = float(np.median(statistics.sides)) * self.enlarged
        lacking = statistics.explain_choice()
        joined = [*statistics.train.notes, *statistics.val.notes]
        small = [self._propose_tiles(statistics, side)] if side < LEAST_SIDE else []
        return [*joined, *filter(None, [lacking]), *small]

    def _propose_tiles(self, statistics: CocoStatistics, side: float) -> str:
        """Say how to train and to detect on tiles, where objects have `side` pixels otherwise."""
        median = float(np.median(statistics.sides))
        wanted = _enlarge(median)
        if self.enlarged > 0.95 * wanted:  # --max-side takes nothing away
            return (
                f"half of the objects have sides below {side:.0f} pixels, at images times "
                f"{self.enlarged:.2f}, and fewer than {LEAST_SIDE} are hard to find. Tiles would "
                "show no more of them: images of a higher resolution would"
            )
        tile = _multiple(self.scale[0] / wanted)
        folder = Path(f"{statistics.root.resolve().name}_tiles")
        splits = (statistics.train, statistics.val)
        names = [Path(split.ann_file).name for split in splits]
        alike = names[0] == names[1]  # such as Roboflow's: a folder of tiles for each
        parts = ["train", "val"] if alike else ["", ""]
        cuts = [
            shlex.join(
                [
                    *("hordet", "slice", str(statistics.root / split.ann_file)),
                    *(str(statistics.root / split.images), str(folder / part)),
                    *("--patch-size", str(tile)),
                ]
            )
            for split, part in zip(splits, parts, strict=True)
        ]
        own = ["hordet", "new-config", "--coco", str(folder)]
        if alike:
            for part in parts:
                own += [f"--{part}-ann", f"{part}/annotations/{names[0]}"]
        return "\n".join(
            (
                f"half of the objects have sides below {side:.0f} pixels at {self.scale[0]} x "
                f"{self.scale[1]}, and fewer than {LEAST_SIDE} are hard to find. Train on tiles of "
                f"{tile} pixels, with the options that you gave here:",
                *(f"  {command}" for command in (*cuts, shlex.join(own))),
                f"and predict whole images by hordet infer ... --tile {tile}",
            )
        )


@dataclass(frozen=True)
class SegmentationChoices:
    """Numbers of a segmentor's config.

    Attributes:
        scale: (long, short) side that images are resized to, pixels.
        crop: (height, width) of the training crops, pixels.
        class_weight: Weight of a pixel of each class in the loss.
        schedule: In iterations.
    """

    scale: tuple[int, int]
    crop: tuple[int, int]
    class_weight: list[float]
    schedule: Schedule

    def list_cautions(self, statistics: MapStatistics) -> list[str]:
        """Return warnings on problems of the data that no setting can solve."""
        empty = sum(not number for number in statistics.counts.values())
        words = (
            f"{empty} of {len(statistics.counts)} classes have no pixel in the training maps that "
            "were read: these classes cannot be learned, and their IoU is 0 if validation maps "
            "hold them"
        )
        return [words] if empty else []


def choose_detection(
    statistics: CocoStatistics,
    *,
    pretrained: bool,
    batch_size: int = BATCH_SIZE,
    max_side: int = 640,
) -> DetectionChoices:
    """Choose the numbers of a detector.

    Args:
        statistics: Statistics of the data.
        pretrained: Whether the backbone starts from pretrained weights.
        batch_size: Images in a batch, at most the number of training images.
        max_side: Longest side to which an image may be resized, pixels; it limits the time.
    """
    long, short = float(np.median(statistics.long_sides)), float(np.median(statistics.short_sides))
    wanted = _enlarge(float(np.median(statistics.sides)))
    enlarged = min(wanted, max_side / long)
    scaled_long = _multiple(long * enlarged)
    enlarged = scaled_long / long
    # An image must fit both sides: a short side rounded down would shrink it more.
    scale = (scaled_long, math.ceil(short * enlarged / STRIDE) * STRIDE)
    crop = _multiple(math.sqrt(long * short)) if wanted > 1 and enlarged > 1 else None
    small, large = np.quantile(statistics.sides, [0.1, 0.95]) * enlarged
    finest = max(1, round(small / FINEST_ANCHOR))
    coarsest = round(large / COARSEST_ANCHOR)
    crowded = statistics.most_objects > USUAL_CROWD
    return DetectionChoices(
        scale=scale,
        enlarged=enlarged,
        crop=crop,
        # Up to a factor of 1.5 an anchor overlaps an object by the 0.3 that it needs.
        anchor_scales=[finest, coarsest] if coarsest > 1.5 * finest else [finest],
        anchor_ratios=_ratios(statistics.ratios),
        max_per_img=math.ceil(1.2 * statistics.most_objects / 100) * 100
        if crowded
        else USUAL_CROWD,
        sampled=64 if statistics.median_objects > 8 else 32,
        schedule=_schedule(
            IMAGES_TO_SEE * math.sqrt(len(statistics.classes)) / statistics.train.num_images,
            EPOCHS,
            pretrained,
            min(batch_size, statistics.train.num_images),
        ),
    )


def _enlarge(side: float) -> float:
    """Return the factor that gives objects of this side the good one, within bounds."""
    return min(max(1.0, GOOD_SIDE / side), MOST_ENLARGED)


def _multiple(side: float) -> int:
    """Return the nearest multiple of the coarsest stride to a side, at least two strides."""
    return max(2, round(side / STRIDE)) * STRIDE


def _ratios(ratios: np.ndarray) -> list[float]:
    """Return quantiles of height / width; of two that differ by less than a fifth, the first."""
    chosen: list[float] = []
    for ratio in np.clip(np.quantile(ratios, [0.1, 0.5, 0.9]), 0.2, 5.0):
        if not chosen or ratio > 1.2 * chosen[-1]:
            chosen.append(round(float(ratio), 2))
    return chosen


def _schedule(
    length: float, bounds: tuple[float, float], pretrained: bool, batch_size: int, step: int = 1
) -> Schedule:
    """Return a schedule within bounds, in multiples of a step, with three validations."""
    if not pretrained:
        length, bounds = FROM_SCRATCH * length, (bounds[0], FROM_SCRATCH * bounds[1])
    whole = max(1, round(min(max(length, bounds[0]), bounds[1]) / step)) * step
    rate = LEARNING_RATE * batch_size / BATCH_SIZE
    return Schedule(whole, math.ceil(whole / 3 / step) * step, batch_size, rate)


def choose_segmentation(
    statistics: MapStatistics,
    *,
    pretrained: bool,
    batch_size: int = BATCH_SIZE,
    max_side: int = 640,
) -> SegmentationChoices:
    """Choose the numbers of a segmentor; arguments as of `choose_detection`."""
    long, short = float(np.median(statistics.long_sides)), float(np.median(statistics.short_sides))
    factor = min(1.0, max_side / long)
    scale = (round(long * factor), round(short * factor))
    crop = [math.ceil(max(side / 2, min(side, LEAST_CROP)) / STRIDE) * STRIDE for side in scale]
    passes = len(statistics.train.names) / batch_size
    return SegmentationChoices(
        scale=scale,
        crop=(crop[1], crop[0]),
        class_weight=weigh_pixels(list(statistics.counts.values())),
        schedule=_schedule(
            # Smaller batches, more steps.
            ITERATIONS * math.sqrt(len(statistics.classes)) * BATCH_SIZE / batch_size,
            (PASSES[0] * passes, PASSES[1] * passes),
            pretrained,
            batch_size,
            step=50,
        ),
    )
