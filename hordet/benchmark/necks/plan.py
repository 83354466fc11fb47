"""The plan of the neck study: data sets, budgets, backbones, necks, learning rates, seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from types import MappingProxyType
from typing import Any

from hordet.errors import ConfigError, did_you_mean
from hordet.neighbours import FUSIONS

SEEDS = (0, 1, 2, 3, 4)
BACKBONES = ("efficientnet-lite0", "hornet-nano")


def _join(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


# All necks have the same widths, levels and norm; see `hordet.benchmark.necks.recipe`.
NECKS: dict[str, dict[str, Any]] = {
    "FPN": dict(type="mmdet.FPN"),
    "PAFPN": dict(  # that of the paper; see hordet.necks.topologies
        type="hordet.GraphFPN",
        topology="pafpn",
        fusion="conv",
        weight_method="sum",
        downsample="conv",
        act_cfg=dict(type="ReLU"),
    ),
    "BiFPN": dict(type="hordet.GraphFPN", stack_times=3),  # as in EfficientDet-D0
    "HorFPN-7x7": dict(type="hordet.HorFPN"),
    "HorFPN-5x5": dict(type="hordet.HorFPN", kernel_size=5),
    "HorFPN-GF": dict(type="hordet.HorFPN", spatial="gf"),
    "HorBiFPN": dict(type="hordet.GraphFPN", stack_times=3, fusion="gnconv"),
}
# HorFPN with other options; the first is the paper's start, the second hordet's before the skip.
OPTIONS: dict[str, dict[str, Any]] = {
    f"{neck} {_join(options)}": NECKS[neck] | options
    for neck in ("HorFPN-7x7", "HorFPN-GF")
    for options in (
        dict(init="official", skip=False),
        dict(init="near_linear", skip=False),
        dict(init="near_linear"),
        dict(skip=False),
        dict(order=3),
        dict(kernel_size=3),
        dict(kernel_size=9),
    )
    if neck == "HorFPN-7x7" or "kernel_size" not in options
}
# Heads of UperNet, which contain an FPN, so they have no neck before them.
HEADS: dict[str, dict[str, Any]] = {
    "UPerHead": dict(type="UPerHead"),
    "HorUPerHead-7x7": dict(type="hordet.HorUPerHead"),
    "HorUPerHead-GF": dict(type="hordet.HorUPerHead", spatial="gf"),
}
# The neighbors of gnConv, each in FPN's place of its 3x3 convolutions.
NEIGHBORS: dict[str, dict[str, Any]] = {
    name: dict(type="hordet.FusionFPN", fusion=name) for name in FUSIONS
}
# What multiplies the learning rate of a neck's fusions. FPN and HorFPN-7x7 have the better of the
# rates that were tried: 3 and 6, on nuclei with one seed, on shapes with three to five. Each other
# neck has one that was not compared with another yet. docs/necks.md shows the trials.
RATES = {
    "FPN": 3,
    "PAFPN": 6,
    "BiFPN": 6,
    "HorFPN-7x7": 6,
    "HorFPN-5x5": 6,
    "HorFPN-GF": 6,
    "HorBiFPN": 3,
    "UPerHead": 6,
    "HorUPerHead-7x7": 6,
    "HorUPerHead-GF": 6,
    **dict.fromkeys(NEIGHBORS, 3),  # not tried: that of FPN
}
OWN_RATES = {"shapes": {"HorFPN-7x7": 3, "HorFPN-5x5": 3}}
TRIED_RATES = (1, 3, 6, 10)


@dataclass(frozen=True)
class DatasetSettings:
    """How models are trained and scored on a data set.

    Attributes:
        configs: Config for each backbone, below `configs/`.
        options: Dotted keys that override the config's: the budget.
        metric: Headline metric, by its title in `hordet.evaluation.headline.HEADLINES`.
        image: (H, W) of most test images at the input of the model.
    """

    configs: dict[str, str]
    options: dict[str, Any]
    metric: str
    image: tuple[int, int]


SETTINGS = MappingProxyType(
    {
        "nuclei": DatasetSettings(
            configs={
                "efficientnet-lite0": "nuclei/mask-rcnn_efficientnet-lite0_horfpn_5e.py",
                "hornet-nano": "nuclei/mask-rcnn_hornet-nano_horfpn_14e.py",
            },
            options={
                "train_cfg.max_epochs": 3,
                "train_cfg.val_interval": 3,
                # The same metrics in a fraction of the time.
                "model.roi_head.mask_head.type": "hordet.RleMaskHead",
            },
            metric="mask AP",
            image=(384, 384),
        ),
        "camvid": DatasetSettings(
            configs={
                "efficientnet-lite0": "camvid/upernet_efficientnet-lite0_horuperhead_0.5k.py",
                "hornet-nano": "camvid/upernet_hornet-nano_horuperhead_3k.py",
            },
            options={
                "train_cfg.max_iters": 250,
                "train_cfg.val_interval": 250,
                "train_dataloader.batch_size": 4,
            },
            metric="mIoU",
            image=(180, 240),
        ),
        "shapes": DatasetSettings(
            configs={
                "efficientnet-lite0": "shapes/mask-rcnn_efficientnet-lite0_horfpn_7e.py",
                "hornet-nano": "shapes/mask-rcnn_hornet-nano_horfpn_7e.py",
            },
            options={"train_cfg.max_epochs": 3, "train_cfg.val_interval": 3},
            metric="mask AP",
            image=(128, 128),
        ),
        "nuclei-long": DatasetSettings(
            configs={
                "efficientnet-lite0": "nuclei/mask-rcnn_efficientnet-lite0_horfpn_5e.py",
                "hornet-nano": "nuclei/mask-rcnn_hornet-nano_horfpn_14e.py",
            },
            options={
                "train_cfg.max_epochs": 8,
                "train_cfg.val_interval": 8,
                "model.roi_head.mask_head.type": "hordet.RleMaskHead",
            },
            metric="mask AP",
            image=(384, 384),
        ),
    }
)
# Data sets, backbones, necks and seeds; the main comparison comes first.
GROUPS = (
    (("nuclei", "camvid"), BACKBONES, NECKS, SEEDS),
    (("nuclei",), ("efficientnet-lite0",), OPTIONS, SEEDS),
    (("camvid",), BACKBONES, HEADS, SEEDS),
    (("shapes",), BACKBONES, NECKS, SEEDS),
    (("nuclei-long",), ("efficientnet-lite0",), NECKS, SEEDS),
    (("nuclei",), ("efficientnet-lite0",), NEIGHBORS, SEEDS[:2]),
    (("shapes",), ("hornet-nano",), NEIGHBORS, SEEDS[:2]),
)
# Data sets and backbones on which the rates are tried.
TRIALS = (("nuclei", "efficientnet-lite0"), ("shapes", "hornet-nano"))


@dataclass(frozen=True)
class Training:
    """One training of the study.

    Attributes:
        dataset: A key of `SETTINGS`.
        backbone: One of `BACKBONES`.
        neck: A key of `NECKS`, `OPTIONS`, `HEADS` or `NEIGHBORS`.
        rate: What multiplies the learning rate of the neck's fusions.
        seed: Seed of weights, data order and augmentation.
    """

    dataset: str
    backbone: str
    neck: str
    rate: float
    seed: int

    def __str__(self) -> str:
        """Return the name that `select_trainings` accepts."""
        return f"{self.dataset}/{self.backbone}/{self.neck}/{self.rate:g}/{self.seed}"

    @property
    def variant(self) -> tuple[str, str, str, float]:
        """Data set, backbone, neck and rate: what all seeds of one row of the table share."""
        return self.dataset, self.backbone, self.neck, self.rate

    @property
    def options(self) -> dict[str, Any]:
        """The config of the neck or head."""
        return (NECKS | OPTIONS | HEADS | NEIGHBORS)[self.neck]


def get_rate(neck: str, dataset: str) -> float:
    """Return the rate that was chosen for a neck; other options have that of their neck.

    Args:
        neck: A key of `NECKS`, `OPTIONS`, `HEADS` or `NEIGHBORS`.
        dataset: A key of `SETTINGS`.
    """
    name = neck.partition(" ")[0]
    return OWN_RATES.get(dataset, {}).get(name, RATES[name])


def name_comparison(neck: str) -> str:
    """Return what a neck or head is compared with: FPN, UPerHead, or itself without its options."""
    if neck in OPTIONS:
        return neck.partition(" ")[0]
    return next(iter(HEADS if neck in HEADS else NECKS))


def list_trainings() -> list[Training]:
    """Return the trainings in order: seed by seed, so that the first ones compare all necks too.

    The trials of the rates come first: the others depend on what is chosen.
    """
    trials = [
        Training(dataset, backbone, neck, rate, SEEDS[0])
        for (dataset, backbone), rate, neck in product(TRIALS, TRIED_RATES, NECKS)
        if rate != get_rate(neck, dataset)
    ]
    return trials + [
        Training(dataset, backbone, neck, get_rate(neck, dataset), seed)
        for datasets, backbones, necks, seeds in GROUPS
        for seed, dataset, backbone, neck in product(seeds, datasets, backbones, necks)
    ]


def select_trainings(patterns: Sequence[str] = ()) -> list[Training]:
    """Return the trainings whose name `DATASET/BACKBONE/NECK/RATE/SEED` fits one of the patterns.

    Args:
        patterns: Names with `*` for any part, such as `nuclei/*/FPN/*/0`; empty for all trainings.

    Raises:
        ConfigError: A pattern fits no training.
    """
    trainings = list_trainings()
    for pattern in patterns:
        if not any(fnmatchcase(str(training), pattern) for training in trainings):
            raise ConfigError(
                f"no training of the study is named {pattern!r}"
                f"{did_you_mean(pattern, map(str, trainings))}; "
                "names are DATASET/BACKBONE/NECK/RATE/SEED, with * for any part"
            )
    return [
        training
        for training in trainings
        if not patterns or any(fnmatchcase(str(training), pattern) for pattern in patterns)
    ]
