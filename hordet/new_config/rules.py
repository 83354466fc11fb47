"""From statistics of data to the numbers of a config, by rules that know no data set by name.

Measured on a few hundred images, nuclei and CamVid, with a small model that trains for ten
minutes on two CPU cores. Other data may want other numbers; the config says where each is from.
"""

import math
from dataclasses import dataclass

import numpy as np

from hordet.new_config.coco_folder import CocoStatistics
from hordet.new_config.map_folder import MapStatistics

BATCH_SIZE = 4
LEARNING_RATE = 1.5e-3  # for that batch
STRIDE = 32  # of the coarsest feature map: sizes are its multiples

# Detection. The finest feature map has cells of 4 pixels: an object of 20 pixels covers five.
GOOD_SIDE, MOST_ENLARGED = 20, 2.0
FINEST_ANCHOR, COARSEST_ANCHOR = 4, 64
# Images to see, times the root of the number of classes; passes over the data.
IMAGES_TO_SEE, EPOCHS = 1500, (5, 50)
USUAL_CROWD = 100

# Segmentation: iterations times the root of the number of classes; passes over the data.
ITERATIONS, PASSES = 270, (5, 200)
LEAST_CROP = 128
# A pixel of a class counts 1 / sqrt(share of the class) times a constant, at most this much.
HEAVIEST = 5.0
# From random weights everything takes longer.
FROM_SCRATCH = 1.5


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps; `length` is in epochs (detection) or iterations."""

    length: int
    val_interval: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class DetectionChoices:
    """Numbers of a detector's config.

    Attributes:
        scale: (long, short) side that images are resized to, pixels.
        enlarged: By how much that enlarges them.
        crop: Side of the crops to train on, pixels; None trains on whole images.
        anchor_scales: Sides of the anchors by the stride of their level.
        anchor_ratios: Height / width of the anchors.
        max_per_img: Detections to keep on an image.
        sampled: Regions an image from which the heads learn.
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

    def cautions(self, statistics: CocoStatistics) -> list[str]:
        """Return what no number of a config can mend, in words."""
        side = float(np.median(statistics.sides)) * self.enlarged
        words = (
            f"half of the objects are below {side:.0f} pixels at {self.scale[0]} x {self.scale[1]}"
            ", two cells of the finest feature map: cut the images with hordet slice "
            "and make a config for the patches, or raise --max-side"
        )
        return [words] if side < 2 * FINEST_ANCHOR else []


@dataclass(frozen=True)
class SegmentationChoices:
    """Numbers of a segmentor's config.

    Attributes:
        scale: (long, short) side that images are resized to, pixels.
        crop: (height, width) of the crops to train on, pixels.
        class_weight: What a pixel of each class counts in the loss.
        schedule: In iterations.
    """

    scale: tuple[int, int]
    crop: tuple[int, int]
    class_weight: list[float]
    schedule: Schedule

    def cautions(self, statistics: MapStatistics) -> list[str]:
        """Return what no number of a config can mend, in words."""
        empty = sum(not number for number in statistics.counts.values())
        words = (
            f"{empty} of {len(statistics.counts)} classes have no pixel in the training maps that "
            "were read: what has no example is not learned, and counts as 0 where it is in the "
            "validation maps"
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
        statistics: Of the data.
        pretrained: Whether the backbone starts from weights.
        batch_size: Images a step, at most those there are.
        max_side: Longest side that an image may be resized to, pixels: what the time allows.
    """
    long, short = float(np.median(statistics.long_sides)), float(np.median(statistics.short_sides))
    wanted = min(max(1.0, GOOD_SIDE / float(np.median(statistics.sides))), MOST_ENLARGED)
    enlarged = min(wanted, max_side / long)
    scaled_long = _multiple(long * enlarged)
    enlarged = scaled_long / long
    # Both bound an image: rounded down, the short side would shrink it more than the long one.
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
        # Within a factor of 1.5 an anchor still overlaps an object by the 0.3 that it needs.
        anchor_scales=[finest, coarsest] if coarsest > 1.5 * finest else [finest],
        anchor_ratios=_ratios(statistics.ratios),
        max_per_img=math.ceil(1.2 * statistics.most_objects / 100) * 100
        if crowded
        else USUAL_CROWD,
        sampled=64 if statistics.median_objects > 8 else 32,
        schedule=_schedule(
            IMAGES_TO_SEE * math.sqrt(len(statistics.classes)) / statistics.train.size,
            EPOCHS,
            pretrained,
            min(batch_size, statistics.train.size),
        ),
    )


def _multiple(side: float) -> int:
    """A side as the nearest multiple of the coarsest stride, at least two of it."""
    return max(2, round(side / STRIDE)) * STRIDE


def _ratios(ratios: np.ndarray) -> list[float]:
    """Quantiles of height / width, those that differ by less than a fifth taken once."""
    chosen: list[float] = []
    for ratio in np.clip(np.quantile(ratios, [0.1, 0.5, 0.9]), 0.2, 5.0):
        if not chosen or ratio > 1.2 * chosen[-1]:
            chosen.append(round(float(ratio), 2))
    return chosen


def _schedule(
    length: float, bounds: tuple[float, float], pretrained: bool, batch_size: int, step: int = 1
) -> Schedule:
    """A length within bounds, in multiples of a step, validated three times."""
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
        class_weight=_class_weight(np.array(list(statistics.counts.values()), float)),
        schedule=_schedule(
            # Fewer images a step, more steps.
            ITERATIONS * math.sqrt(len(statistics.classes)) * BATCH_SIZE / batch_size,
            (PASSES[0] * passes, PASSES[1] * passes),
            pretrained,
            batch_size,
            step=50,
        ),
    )


def _class_weight(counts: np.ndarray) -> list[float]:
    """Weights by the classes' numbers of pixels, whose mean over all pixels is 1 unless bounded.

    By the square root, for the whole inverse (median frequency balancing, Eigen and Fergus, ICCV
    2015) paints rare classes over their neighbors.
    """
    weights = np.ones_like(counts)
    seen = counts > 0
    weights[seen] = counts[seen] ** -0.5 * counts.sum() / (counts[seen] ** 0.5).sum()
    return [round(float(weight), 2) for weight in np.minimum(weights, HEAVIEST)]
