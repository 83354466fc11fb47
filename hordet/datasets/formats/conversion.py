"""Annotations of one format written as another, with an account of every object."""

import json
from dataclasses import dataclass
from pathlib import Path

from hordet.datasets.formats.coco_records import make_coco
from hordet.datasets.formats.labelme import write_labelme
from hordet.datasets.formats.recognize import FORMATS, choose_format, look_at, read_annotations
from hordet.datasets.formats.record import Account, AnnotatedData
from hordet.datasets.formats.voc import write_voc
from hordet.datasets.formats.yolo import write_yolo
from hordet.errors import ConfigError, DatasetError
from hordet.ops.files import write_whole

WRITERS = dict(yolo=write_yolo, voc=write_voc, labelme=write_labelme)
# What hordet infer writes.
RESULTS, LISTING = "results.json", "images.json"


@dataclass(frozen=True)
class Conversion:
    """What is converted, and how.

    Attributes:
        source: Folder of the data, an annotation file in it, or a folder that hordet infer wrote.
        out: Folder to write to; for COCO a file that ends in .json takes all splits.
        target: 'coco', 'yolo', 'voc' or 'labelme'.
        named: Format to read, where the source holds several.
        results: COCO's result file, written in place of the annotations of the source (COCO).
        images: Folder that the names of images start from; None: the source.
        threshold: Predictions below this score are left out.
        boxes_from: Number of the first pixel in Pascal VOC's boxes; None to find it.
        force: Whether the folder may hold files.
    """

    source: Path
    out: Path
    target: str = "coco"
    named: str | None = None
    results: Path | None = None
    images: Path | None = None
    threshold: float = 0.0
    boxes_from: int | None = None
    force: bool = False


def convert_data(asked: Conversion) -> list[str]:
    """Convert annotations.

    Args:
        asked: What is converted, and how.

    Returns:
        Lines to print: what was read, objects in and out, what was dropped and why, the files.

    Raises:
        DatasetError: The source holds no annotations of one known format.
        ConfigError: The output holds files already, or is the source.
    """
    _require_free(asked)
    data = _read(asked)
    lines = data.summarize()
    lines += _leave_out_unsure(data, asked.threshold)
    images = asked.images or data.root
    there = [image.name for image in data.images if (images / image.name).is_file()]
    if len(there) < len(data.images):
        lacking = len(data.images) - len(there)
        lines.append(
            f"{lacking} of {len(data.images)} images are not in {images}: only annotations are "
            "written for them; --images names their folder"
        )
    if asked.target == "coco":
        account, files = _write_coco(data, asked.out)
        lines += [*account.describe(), *(f"wrote {file}" for file in files)]
        return lines
    account = WRITERS[asked.target](data, asked.out, images if there else None)
    kept = data.number_of_objects - account.number_dropped
    lines.append(
        f"{FORMATS[asked.target]}: {data.number_of_objects:,} objects in, {kept:,} written, "
        f"{account.number_dropped:,} dropped"
    )
    return [*lines, *account.describe(), f"wrote {asked.out}"]


def _read(asked: Conversion) -> AnnotatedData:
    results = asked.source / RESULTS
    if asked.results:
        seen = look_at(asked.source)
        choose_format(seen, asked.source, "coco")
        return read_annotations(seen, asked.source, "coco", results=asked.results)
    if asked.source.is_dir() and results.is_file() and (asked.source / LISTING).is_file():
        seen = look_at(asked.source / LISTING)
        return read_annotations(seen, asked.source, "coco", results=results)
    seen = look_at(asked.source)
    key = choose_format(seen, asked.source, asked.named)
    if key == "maps":
        raise DatasetError(
            f"{asked.source} holds label maps ({seen.describe()}), which have no objects: "
            "hordet new-config --data reads them as they are."
        )
    return read_annotations(seen, asked.source, key, asked.boxes_from)


def _require_free(asked: Conversion) -> None:
    out, source = asked.out.resolve(), asked.source.resolve()
    if out == source or out == source.parent and source.is_file():
        raise ConfigError(
            f"{asked.out} is the folder of the data, which are never changed: name another for OUT"
        )
    if asked.out.is_file() and out.suffix != ".json":
        raise ConfigError(f"{asked.out} is a file: name a folder for OUT")
    there = asked.out.is_file() or asked.out.is_dir() and any(asked.out.iterdir())
    if there and not asked.force:
        raise ConfigError(
            f"{asked.out} is there already and is kept: name another for OUT, or add --force to "
            "write into it"
        )
    if asked.out.suffix == ".json" and asked.target != "coco":
        raise ConfigError(f"{FORMATS[asked.target]} has several files: name a folder for OUT")


def _leave_out_unsure(data: AnnotatedData, threshold: float) -> list[str]:
    """Take out predictions below a score, in place, and say how many."""
    before = data.number_of_objects
    for image in data.images:
        image.objects = [o for o in image.objects if o.score is None or o.score >= threshold]
    number = before - data.number_of_objects
    if not number:
        return []
    return [
        f"{number:,} of {before:,} predictions have a score below {threshold:g} and are left out; "
        "--score-threshold chooses"
    ]


def _write_coco(data: AnnotatedData, out: Path) -> tuple[Account, list[Path]]:
    account = Account()
    if out.suffix == ".json":
        contents = {out: make_coco(data, data.images, account)}
    else:
        contents = {
            out / "annotations" / f"instances_{split or 'all'}.json": make_coco(
                data, images, account
            )
            for split, images in data.list_splits().items()
        }
    for file, content in contents.items():
        write_whole(file, json.dumps(content))
    return account, [*contents]
