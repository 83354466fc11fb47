"""Looking at every image and label of a config's data: what shows in the pixels alone.

The check before a run reads file names and annotations; here each image is decoded, compared with
its annotations or its label map, and with the images of the other split.
"""

import hashlib
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from hordet.datasets.checks.before_training import find_data_faults
from hordet.datasets.checks.coco_masks import find_mask_faults
from hordet.datasets.checks.findings import Findings
from hordet.datasets.classes import read_metainfo, resolve_dataset_class
from hordet.datasets.formats.coco import read_coco
from hordet.datasets.roots import LOADERS, walk_datasets
from hordet.datasets.transforms import IGNORED, LoadSegAnnotations
from hordet.errors import DatasetError, list_first
from hordet.registry import DATASETS, is_kind_of

_EXIF_ORIENTATION = 274


@dataclass
class ImageCheck:
    """One image to look at.

    Attributes:
        path: The image.
        size: Its (height, width) as recorded; None for segmentation.
        annotations: COCO annotations of the image.
        sample: For segmentation, what the data set says of it.
        num_classes: For segmentation.
    """

    path: str
    size: tuple[int, int] | None = None
    annotations: list[dict] = field(default_factory=list)
    sample: dict | None = None
    num_classes: int = 0


@dataclass
class ImageReport:
    """What a look at an image showed.

    Attributes:
        faults: Kind of fault and the words about this image.
        digest: Of the decoded pixels; empty if it cannot be decoded.
        labels: For segmentation, how many pixels each class has.
    """

    faults: list[tuple[str, str]]
    digest: str = ""
    labels: Counter = field(default_factory=Counter)


@dataclass
class Inspection:
    """The result: findings, number of images, and annotations or pixels a class, by loader."""

    findings: Findings
    images: int = 0
    histograms: dict[str, dict[str, int]] = field(default_factory=dict)


def inspect_data(cfg: dict, jobs: int = 1, progress: bool = False) -> Inspection:
    """Check a config's data as before a run, and then every image.

    Args:
        cfg: A config with any of train, val and test_dataloader; not changed.
        jobs: Processes that decode.
        progress: Show a bar.

    Returns:
        What is wrong; images are decoded only where files and annotations could be read.
    """
    result = Inspection(find_data_faults(cfg))
    looks: dict[str, ImageReport] = {}
    split_of: dict[str, dict[str, None]] = defaultdict(dict)
    for key in LOADERS:
        for dataset in walk_datasets(cfg[key]["dataset"]) if cfg.get(key) else ():
            try:
                tasks, histogram = _tasks(dataset, cfg.get("default_scope"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                if not result.findings.errors:  # else it is among these
                    words = f"{type(error).__name__}: {error}"
                    result.findings.errors.append(
                        f"The data of {key} cannot be list_first: {words}."
                    )
                continue
            new = [task for task in tasks if task.path not in looks]
            looks |= _look_at(new, jobs, progress)
            split = "train" if key == LOADERS[0] else "val"
            split_of[split] |= dict.fromkeys(task.path for task in tasks)
            for task in tasks:
                histogram.update(looks[task.path].labels)
            names = _names(dataset, cfg.get("default_scope"), histogram)
            result.histograms.setdefault(key, {}).update(names)
    result.images = len(looks)
    result.findings.errors += _summaries(looks, "error")
    result.findings.warnings += _summaries(looks, "warning")
    result.findings.errors += _leakage(looks, split_of)
    return result


def _tasks(dataset: dict, scope: str | None) -> tuple[list[ImageCheck], Counter]:
    """The images of a data set, and how many annotations each category name has."""
    kind = resolve_dataset_class(dataset, scope)
    root = Path(dataset.get("data_root") or ".")
    if kind is None or not root.is_dir():
        return [], Counter()
    if is_kind_of(kind, "mmseg.BaseSegDataset"):
        built = DATASETS.build(dict(dataset, type=kind, pipeline=[], lazy_init=True))
        number = len(built.metainfo["classes"])
        samples = built.load_data_list()
        return [ImageCheck(s["img_path"], sample=s, num_classes=number) for s in samples], Counter()
    panoptic = is_kind_of(kind, "mmdet.CocoPanopticDataset")
    if panoptic or not is_kind_of(kind, "mmdet.CocoDataset"):
        return [], Counter()
    content = read_coco(root / dataset.get("ann_file", ""), root, scored=True)
    if isinstance(content, str):
        return [], Counter()
    folder = root / ((dataset.get("data_prefix") or {}).get("img") or "")
    of_image = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation.get("image_id")].append(annotation)
    tasks = [
        ImageCheck(str(folder / i["file_name"]), (i["height"], i["width"]), of_image[i["id"]])
        for i in content["images"]
    ]
    categories = {item["id"]: item["name"] for item in content["categories"]}
    labels = (annotation.get("category_id") for annotation in content["annotations"])
    return tasks, Counter(categories.get(label, f"unknown {label}") for label in labels)


def _names(dataset: dict, scope: str | None, histogram: Counter) -> dict[str, int]:
    """A histogram by class names, classes without any annotation included."""
    classes = read_metainfo(dataset, scope).get("classes", ())
    named = {name: 0 for name in classes}
    for label, number in histogram.items():
        name = classes[label] if isinstance(label, int) and label < len(classes) else str(label)
        named[name] = named.get(name, 0) + number
    return named


def _look_at(tasks: list[ImageCheck], jobs: int, progress: bool) -> dict[str, ImageReport]:
    """Look at images, in several processes; by their path."""
    bar: Callable = tqdm if progress else lambda looks, **_: looks
    options = dict(total=len(tasks), desc="images", unit="")
    if jobs <= 1:
        looks = list(bar(map(_look, tasks), **options))
    else:
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            looks = list(bar(pool.imap(_look, tasks, chunksize=8), **options))
    return {task.path: look for task, look in zip(tasks, looks, strict=True)}


def _look(task: ImageCheck) -> ImageReport:
    """Decode an image and compare it with what is said of it."""
    try:
        with Image.open(task.path) as image:
            image.load()
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            stored = (image.height, image.width)
            # As it is loaded for training: turned as its EXIF data say.
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        return ImageReport([])  # among the findings already
    except Exception as error:  # Pillow's formats share no type of error
        return ImageReport(
            [("cannot be decoded whole; fetch them again or take them out", str(error))]
        )
    look = ImageReport([], hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest())
    size = pixels.shape[:2]
    if task.size is not None:
        look.faults += _size_faults(task.size, size, stored, orientation)
        look.faults += find_mask_faults(task.annotations, size)
    elif task.sample is not None:
        look.faults += _label_faults(task, size, look.labels)
        if orientation not in (0, 1):
            look.faults.append(_TURNED)
    return look


_TURNED = (
    "warning: are turned by EXIF data, which the loading obeys and many annotation tools do not; "
    "look whether their annotations fit",
    "",
)


def _size_faults(
    recorded: tuple[int, int], size: tuple[int, int], stored: tuple[int, int], orientation: int
) -> Iterator[tuple[str, str]]:
    if recorded != size and recorded == stored:
        yield (
            "are turned by EXIF data when loaded, but annotated as stored; turn the pixels and "
            "remove the EXIF orientation, or swap width and height and turn the annotations",
            "",
        )
    elif recorded != size:
        shown = f"{size[1]}x{size[0]} instead of {recorded[1]}x{recorded[0]}"
        yield "have another size than the annotation file says; use the originals", shown
    elif orientation not in (0, 1):
        yield _TURNED


def _label_faults(
    task: ImageCheck, size: tuple[int, int], labels: Counter
) -> Iterator[tuple[str, str]]:
    """Read a label map as training does, and count its classes."""
    sample = dict(task.sample or {}, ori_shape=size)
    try:
        values = LoadSegAnnotations(task.num_classes).transform(sample)["gt_seg_map"]
    except DatasetError as error:
        yield "have a label map that cannot be used", str(error)
        return
    numbers = np.bincount(values.ravel(), minlength=IGNORED + 1)
    labels.update({k: int(numbers[k]) for k in range(task.num_classes) if numbers[k]})
    if not labels:
        yield "warning: have a label map in which every pixel is ignored", ""


def _summaries(looks: dict[str, ImageReport], severity: str) -> Iterator[str]:
    """One line for each kind of fault: how many images, and which."""
    of_kind = defaultdict(list)
    for path, look in looks.items():
        for kind, words in look.faults:
            of_kind[kind].append(f"{path} ({words})" if words else path)
    for kind, images in of_kind.items():
        if kind.startswith("warning: ") == (severity == "warning"):
            text = kind.removeprefix("warning: ")
            yield f"{len(images)} of {len(looks)} images {text}: {list_first(images)}."


def _leakage(looks: dict[str, ImageReport], split_of: dict[str, dict[str, None]]) -> Iterator[str]:
    """Images of equal pixels: in training and validation, and twice in one split."""
    by_digest: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for split, paths in split_of.items():
        for path in paths:
            if looks[path].digest:
                by_digest[looks[path].digest][split].append(path)
    leaked = [f"{s['train'][0]} = {s['val'][0]}" for s in by_digest.values() if len(s) == 2]
    if leaked:
        yield (
            f"{len(leaked)} images are both in the training and in the validation or test data: "
            f"{list_first(leaked, 3)}. Their score is no measure; take them out of one of the two."
        )
    for split in ("train", "val"):
        twice = [" = ".join(s[split][:2]) for s in by_digest.values() if len(s[split]) > 1]
        if twice:
            names = list_first(twice, 3)
            yield f"{len(twice)} images are there twice in {split}: {names}. Keep one."
