"""Looking at every image and label of a config's data: what shows in the pixels alone.

The check before a run reads file names and annotations; here each image is decoded, compared with
its annotations or its label map, and with the images of the other split.
"""

import errno
import hashlib
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from hordet.datasets.checks.before_training import find_data_faults, uses_masks
from hordet.datasets.checks.coco_masks import find_crowded_images
from hordet.datasets.checks.entries import find_category_faults
from hordet.datasets.checks.findings import Fault, Findings
from hordet.datasets.classes import read_metainfo, resolve_dataset_class
from hordet.datasets.formats.coco import has_mask, is_id, is_size, read_coco, read_stored_size
from hordet.datasets.images import decode_image
from hordet.datasets.roots import LOADERS, list_metrics, walk_datasets
from hordet.datasets.transforms import IGNORED, LoadSegAnnotations
from hordet.errors import DatasetError, list_first
from hordet.registry import DATASETS, is_kind_of


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
        faults: Of the image.
        digest: Of the decoded pixels; empty if it cannot be decoded.
        labels: For segmentation, how many pixels each class has.
    """

    faults: list[Fault]
    digest: str = ""
    labels: Counter = field(default_factory=Counter)


@dataclass
class Inspection:
    """The result: findings, number of images, and objects or pixels a class, by loader."""

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
    found = find_data_faults(cfg)
    result = Inspection(found)
    looks: dict[str, ImageReport] = {}
    split_of: dict[str, dict[str, None]] = defaultdict(dict)
    for key in LOADERS:
        datasets = walk_datasets(cfg[key]["dataset"]) if cfg.get(key) else ()
        metrics = list_metrics(cfg.get(key.replace("dataloader", "evaluator")))
        for number, dataset in enumerate(datasets):
            try:
                copy = found.copies.get(f"{key} {number}")
                masks = uses_masks(dataset, metrics)
                tasks, histogram = _tasks(dataset, cfg.get("default_scope"), copy, masks)
            except (OSError, ValueError, KeyError, TypeError) as error:
                if not result.findings.errors:  # else it is among these
                    words = f"{type(error).__name__}: {error}"
                    result.findings.errors.append(f"The data of {key} cannot be listed: {words}.")
                continue
            new = [task for task in tasks if task.path not in looks]
            looks |= _look_at(new, jobs, progress)
            split = "train" if key == LOADERS[0] else "val"
            split_of[split] |= dict.fromkeys(task.path for task in tasks)
            for task in tasks:
                histogram.update(looks[task.path].labels)
            names = _names(dataset, cfg.get("default_scope"), histogram)
            counts = result.histograms.setdefault(key, {})
            for name, number in names.items():
                counts[name] = counts.get(name, 0) + number
    result.images = len(looks)
    result.findings.errors += _summaries(looks, "error")
    result.findings.warnings += _summaries(looks, "warning")
    result.findings.errors += _leakage(looks, split_of)
    return result


def _tasks(
    dataset: dict, scope: str | None, copy: str | None, masks: bool
) -> tuple[list[ImageCheck], Counter]:
    """The images of a data set, and how many objects each category name has.

    Objects are counted that training learns from and the metric asks for, as by new-config: no
    crowds, and none without a mask where masks are used.

    Args:
        dataset: Its config.
        scope: Where its type is looked for.
        copy: The plain copy that a run reads in place of its list of images, if there is one.
        masks: Whether masks are loaded or scored.
    """
    kind = resolve_dataset_class(dataset, scope)
    root = Path(dataset.get("data_root") or ".")
    if kind is None or not root.is_dir():
        return [], Counter()
    if is_kind_of(kind, "mmseg.BaseSegDataset"):
        listed = {"ann_file": copy} if copy else {}
        options = dict(dataset, type=kind, pipeline=[], lazy_init=True) | listed
        built = DATASETS.build(options)
        number = len(built.metainfo["classes"])
        samples = built.load_data_list()
        return [ImageCheck(s["img_path"], sample=s, num_classes=number) for s in samples], Counter()
    panoptic = is_kind_of(kind, "mmdet.CocoPanopticDataset")
    if panoptic or not is_kind_of(kind, "mmdet.CocoDataset"):
        return [], Counter()
    folder = root / ((dataset.get("data_prefix") or {}).get("img") or "")
    path = root / dataset.get("ann_file", "")
    try:
        file = read_coco(path, root, folder=folder)
    except DatasetError:
        return [], Counter()  # among the findings already
    if [*find_category_faults(path, file.categories)]:
        return [], Counter()
    whole = [
        i
        for i in file.images
        if isinstance(i.get("file_name"), str)
        and is_id(i.get("id"))
        and all(map(is_size, (i.get("height"), i.get("width"))))
    ]
    of_image = defaultdict(list)
    for annotation in file.annotations:
        if is_id(annotation.get("image_id")):
            of_image[annotation["image_id"]].append(annotation)
    tasks = [
        ImageCheck(str(folder / i["file_name"]), (i["height"], i["width"]), of_image[i["id"]])
        for i in whole
    ]
    categories = {item["id"]: item["name"] for item in file.categories}
    taken = [a for a in file.annotations if not a.get("iscrowd") and (has_mask(a) or not masks)]
    labels = [a["category_id"] for a in taken if is_id(a.get("category_id"))]
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
        content = Path(task.path).read_bytes()
        pixels, notes = decode_image(content)  # as for training
    except (FileNotFoundError, IsADirectoryError):
        return ImageReport([])  # among the findings already
    except (DatasetError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            return ImageReport([])  # likewise
        kind = "cannot be decoded whole; fetch them again or take them out"
        return ImageReport([Fault(kind, str(error))])
    except ValueError:  # no name of a file: with a NUL, or half a pair of surrogates
        return ImageReport([])  # likewise
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
    look = ImageReport([_explain_note(note) for note in notes], digest)
    orientation, stored = _read_header(content, pixels.shape[:2])
    size = pixels.shape[:2]
    if task.size is not None:
        look.faults += _size_faults(task.size, size, stored, orientation)
        if find_crowded_images(task.annotations):
            kind = "have crowds alone, which training leaves out"
            look.faults.append(Fault(kind, severity="warning"))
    elif task.sample is not None:
        look.faults += _label_faults(task, size, look.labels)
        if orientation not in (0, 1):
            look.faults.append(_TURNED)
    return look


def _explain_note(note: str) -> Fault:
    """A note of the reader as a warning: its numbers are of the image, the rest of all alike."""
    before, _, rest = note.partition(" (")
    words, _, after = rest.partition(")")
    return Fault(before + after, words, severity="warning")


def _read_header(content: bytes, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Return the EXIF orientation and the (height, width) as stored."""
    try:
        with Image.open(BytesIO(content)) as image:
            (width, height), orientation = read_stored_size(image)
            return orientation, (height, width)
    except Exception:  # a format that OpenCV alone knows; Pillow's share no type of error
        return 1, size


_TURNED = Fault(
    "are turned by EXIF data, which the loading obeys and many annotation tools do not; "
    "look whether their annotations fit",
    severity="warning",
)


def _size_faults(
    recorded: tuple[int, int], size: tuple[int, int], stored: tuple[int, int], orientation: int
) -> Iterator[Fault]:
    if recorded != size and recorded == stored:
        yield Fault(
            "are turned by EXIF data when loaded, but annotated as stored; turn the pixels and "
            "remove the EXIF orientation, or swap width and height and turn the annotations"
        )
    elif recorded != size:
        shown = f"{size[1]}x{size[0]} instead of {recorded[1]}x{recorded[0]}"
        yield Fault("have another size than the annotation file says; use the originals", shown)
    elif orientation not in (0, 1):
        yield _TURNED


def _label_faults(task: ImageCheck, size: tuple[int, int], labels: Counter) -> Iterator[Fault]:
    """Read a label map as training does, and count its classes."""
    sample = dict(task.sample or {}, ori_shape=size)
    try:
        values = LoadSegAnnotations(task.num_classes).transform(sample)["gt_seg_map"]
    except DatasetError as error:
        yield Fault("have a label map that cannot be used", str(error))
        return
    numbers = np.bincount(values.ravel(), minlength=IGNORED + 1)
    labels.update({k: int(numbers[k]) for k in range(task.num_classes) if numbers[k]})
    if not labels:
        yield Fault("have a label map in which every pixel is ignored", severity="warning")


def _summaries(looks: dict[str, ImageReport], severity: str) -> Iterator[str]:
    """One line for each kind of fault: how many images, and which."""
    of_kind: dict[str, dict[str, None]] = defaultdict(dict)
    for path, look in looks.items():
        for fault in look.faults:
            if fault.severity == severity:
                item = f"{path} ({fault.words})" if fault.words else path
                of_kind[fault.kind][item] = None
    for kind, items in of_kind.items():
        yield f"{len(items)} of {len(looks)} images {kind}: {list_first(list(items))}."


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
