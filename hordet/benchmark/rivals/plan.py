"""The plan of the face-off: data sets, rivals, starts, minutes, seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from hordet.errors import ConfigError, did_you_mean

PROGRAMS = Path(__file__).parent / "programs"
MINUTES = (5.0, 10.0, 20.0)
SEEDS = (0, 1)
OURS = "hordet"
# Starts: the same ImageNet weights of EfficientNet-Lite0 for all, or none.
WEIGHTS, SCRATCH = "weights", "scratch"


@dataclass(frozen=True)
class Task:
    """A data set, and what is scored on it.

    Attributes:
        kind: 'objects' (boxes and masks, COCO's files) or 'maps' (label maps).
        metric: Headline metric, from 0 to 1.
        size: Long and short side to which rivals resize images, in pixels.
    """

    kind: str
    metric: str
    size: tuple[int, int]


TASKS = MappingProxyType(
    {
        "nuclei": Task("objects", "mask AP", (384, 384)),
        "camvid": Task("maps", "mIoU", (480, 360)),
    }
)


@dataclass(frozen=True)
class Rival:
    """A program that trains a model, and predicts with it.

    Attributes:
        program: The script; see `hordet.benchmark.rivals.programs.protocol`.
        tasks: Keys of `TASKS`.
        starts: Of `WEIGHTS` and `SCRATCH`.
        words: Further arguments of the script.
        needs: Packages that pip installs in the rivals' environment; empty: those of hordet do, and
            the script runs in hordet's own environment.
        note: What a reader must know of it, a sentence.
    """

    program: Path
    tasks: tuple[str, ...]
    starts: tuple[str, ...]
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    note: str = ""


_SMP = ("segmentation-models-pytorch",)
RIVALS: dict[str, Rival] = {
    OURS: Rival(
        PROGRAMS / "hordet_new_config.py",
        ("nuclei", "camvid"),
        (WEIGHTS, SCRATCH),
        note="the config that `hordet new-config` writes: EfficientNet-Lite0 with weights, "
        "HorNet-nano from scratch, under HorFPN or HorUPerHead. It chooses its own size of images.",
    ),
    "yolo26n-seg": Rival(
        PROGRAMS / "yolo_seg.py",
        ("nuclei",),
        (SCRATCH,),
        needs=("ultralytics",),
        note="ultralytics' command `yolo`, its own recipe and its own `time=`; it is given one "
        "core more than there is, because it leaves one free. Masks reach it as polygons.",
    ),
    "torchvision-mask-rcnn": Rival(
        PROGRAMS / "torchvision_mask_rcnn.py",
        ("nuclei",),
        (WEIGHTS, SCRATCH),
        note="torchvision's Mask R-CNN and the recipe of its references: timm's EfficientNet-Lite0 "
        "with weights, MobileNetV3-Large with strides of 4 to 32 and norms that learn from "
        "scratch, under FPN. Gradients are cut at a norm of 10: without the references' 1,000 "
        "steps of warm-up, which minutes do not hold, the loss ends as NaN.",
    ),
    "mmdet-mask-rcnn": Rival(
        PROGRAMS / "mmdet_mask_rcnn.py",
        ("nuclei",),
        (WEIGHTS,),
        note="mmdet's `mask-rcnn_r50_fpn_1x_coco.py` with EfficientNet-Lite0 for ResNet-50; "
        "hordet stands in for the operators of mmcv that no wheel has. Batches of 4; the layers up "
        "to a stride of 4 are frozen.",
    ),
    "rfdetr-seg-nano": Rival(
        PROGRAMS / "rfdetr_seg.py",
        ("nuclei",),
        (SCRATCH,),
        needs=("rfdetr[train]", "pytorch-lightning"),
        note="RF-DETR-Seg nano of the package `rfdetr`, without weights, not even DINOv2's, "
        "and without averages of its weights.",
    ),
    **{
        f"smp-{name}": Rival(
            PROGRAMS / "smp_decoders.py",
            ("camvid",),
            (WEIGHTS,),
            ("--decoder", title),
            _SMP,
            f"{title} of segmentation_models.pytorch on EfficientNet-Lite0, by the recipe of its "
            "CamVid example (Adam 2e-4, Dice loss), in batches of 8 in place of 32, on crops of "
            "320.",
        )
        for name, title in (("unet", "Unet"), ("fpn", "FPN"), ("upernet", "UPerNet"))
    },
    "torchvision-lraspp": Rival(
        PROGRAMS / "torchvision_lraspp.py",
        ("camvid",),
        (SCRATCH,),
        note="torchvision's LR-ASPP on MobileNetV3-Large, by the recipe of its references.",
    ),
}


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        dataset: A key of `TASKS`.
        rival: A key of `RIVALS`.
        start: `WEIGHTS` or `SCRATCH`.
        minutes: Wall clock of the training.
        seed: Seed of weights, data order and augmentation.
    """

    dataset: str
    rival: str
    start: str
    minutes: float
    seed: int

    def __str__(self) -> str:
        """Return the name that `select_runs` accepts."""
        return f"{self.dataset}/{self.rival}/{self.start}/{self.minutes:g}/{self.seed}"


def list_runs(minutes: Sequence[float] = MINUTES, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """Return the runs in order: seed by seed, the shortest first, so that early ones compare."""
    return [
        Run(dataset, name, start, length, seed)
        for seed in seeds
        for length in sorted(minutes)
        for dataset in TASKS
        for name, rival in RIVALS.items()
        if dataset in rival.tasks
        for start in rival.starts
    ]


def select_runs(
    patterns: Sequence[str] = (),
    minutes: Sequence[float] = MINUTES,
    seeds: Sequence[int] = SEEDS,
) -> list[Run]:
    """Return the runs whose name `DATASET/RIVAL/START/MINUTES/SEED` fits one of the patterns.

    Args:
        patterns: Names with `*` for any part, such as `nuclei/*/scratch/10/0`; empty for all runs.
        minutes: Lengths of the trainings.
        seeds: Their seeds.

    Raises:
        ConfigError: A pattern fits no run.
    """
    runs = list_runs(minutes, seeds)
    for pattern in patterns:
        if not any(fnmatchcase(str(run), pattern) for run in runs):
            raise ConfigError(
                f"no run of the face-off is named {pattern!r}"
                f"{did_you_mean(pattern, map(str, runs))}; names are "
                "DATASET/RIVAL/START/MINUTES/SEED, with * for any part, of the --minutes and "
                "--seeds that are given"
            )
    return [
        run
        for run in runs
        if not patterns or any(fnmatchcase(str(run), pattern) for pattern in patterns)
    ]
