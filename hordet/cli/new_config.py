"""Look at your own data and write a commented config that trains on them.

hordet new-config --data DIR           # what DIR holds is recognized and said
hordet new-config --coco DIR           # objects: annotations/instances_*.json or the like
hordet new-config --coco DIR --train-ann batch1.json batch2.json
hordet new-config --ade-like DIR       # label maps: images/ and annotations/ x splits

Recognizes COCO, YOLO, Pascal VOC, LabelMe, CVAT for images, VIA, Supervisely, masks as one PNG an
instance, and label maps. COCO files of forms other than COCO are written beside the config.
Prints what was seen, what was written and the commands that come next. Exit code 1: the config is
written, but training would refuse the data, as said.
"""

import argparse
from pathlib import Path
from typing import Any

from hordet.cli.arguments import DATA_FORMATS, number_from

WEIGHTS = "hordet://efficientnet-lite0"
FETCH = "hordet weights get efficientnet-lite0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--data", type=Path, metavar="DIR", help="data set of any known form, which is recognized"
    )
    data.add_argument("--coco", type=Path, metavar="DIR", help="data set in COCO's form")
    data.add_argument("--ade-like", type=Path, metavar="DIR", help="images with label maps")
    add("--format", choices=DATA_FORMATS, help="form to read, where --data holds several")
    add(
        "--boxes-from",
        type=int,
        choices=(0, 1),
        help="number of the first pixel in Pascal VOC's boxes (default: 0 if a box has a 0)",
    )
    add("--out", type=Path, metavar="FILE", help="config (default: own_configs/DATA/MODEL.py)")
    add("--force", action="store_true", help="overwrite what is there")
    add(
        "--weights",
        metavar="FILE",
        help=f"EfficientNet-Lite0's weights (default: {WEIGHTS}, if they are here)",
    )
    add(
        "--batch-size",
        type=number_from(1),
        default=4,
        metavar="N",
        help="images a step (default: 4)",
    )
    add(
        "--max-side",
        type=number_from(64),
        default=640,
        metavar="PIXELS",
        help="of images (default: 640)",
    )
    add("--hold-out", type=float, metavar="SHARE", help="validate on this share of the images")
    for split, what in (("train", "training"), ("val", "validation")):
        add(
            f"--{split}-ann",
            nargs="+",
            metavar="FILE",
            help=f"annotation file of {what}, below DIR (COCO); several are joined, with classes "
            "matched by their names",
        )
    add(
        "--without-mask",
        choices=("leave-out", "box-as-mask", "boxes-alone"),
        help="what to do with objects that have no mask where others have (COCO)",
    )
    add("--classes", type=Path, metavar="FILE", help="names of the classes, one a line (maps)")
    add("--reduce-zero-label", action="store_true", help="0 stands for no class (maps)")


def run(given: argparse.Namespace) -> int:
    """Look, choose, write and print."""
    from hordet import new_config as own
    from hordet.checkpoints import find_here, find_weights, is_named
    from hordet.errors import ConfigError, DatasetError

    seen: list[str] = []
    annotated = _recognize(given, seen) if given.data else None
    objects = given.coco or annotated
    if objects and (given.classes or given.reduce_zero_label):
        raise ConfigError("--classes and --reduce-zero-label are for label maps")
    if (annotated or not objects) and (given.train_ann or given.val_ann):
        raise ConfigError("--train-ann and --val-ann are for COCO files")
    if not objects and given.without_mask:
        raise ConfigError("--without-mask is for objects")
    weights = given.weights or WEIGHTS
    if is_named(weights):
        there = find_here(find_weights(weights)) is not None
    else:
        there = Path(weights).is_file()
    if given.weights and not there:
        raise ConfigError(f"there is no file of weights {weights}. To fetch them:\n{FETCH}")
    backbone = own.BackboneChoice(weights if there else None)
    statistics: Any
    choose: Any
    write: Any
    if annotated:
        try:
            statistics = own.measure_annotated(annotated, given.hold_out, given.without_mask)
        except DatasetError:  # what was dropped explains what is lacking
            print("\n".join(seen + annotated.summarize()))
            raise
        seen += annotated.summarize()
        choose, write = own.choose_detection, own.write_detection_config
    elif given.coco:
        statistics = own.measure_coco(
            given.coco, given.train_ann, given.val_ann, given.hold_out, given.without_mask
        )
        choose, write = own.choose_detection, own.write_detection_config
    else:
        statistics = own.measure_maps(
            given.ade_like, given.classes, given.reduce_zero_label, given.hold_out
        )
        choose, write = own.choose_segmentation, own.write_segmentation_config
    try:
        choices = choose(
            statistics, pretrained=there, batch_size=given.batch_size, max_side=given.max_side
        )
        out = given.out or own.name_config(statistics, choices.schedule, backbone)
        held_out = own.place_held_out(statistics, out, given.force)
        text = write(statistics, choices, backbone, own.find_bases(statistics, out))
        found = own.save_config(statistics, text, out, held_out)
    finally:  # only now: a reader such as `head -1` that goes away must not cost the config
        print("\n".join(seen + statistics.summarize()))
    # What follows from wrong numbers is no caution.
    cautions = [] if found.errors else choices.list_cautions(statistics)
    for line in (*cautions, *found.warnings):
        print(f"warning: {line}")
    if not there:
        print(
            f"no {weights}: the config trains HorNet-nano from random weights. With ImageNet "
            f"weights the same time gives much more; fetch them and write it anew:\n{FETCH}"
        )
    for file in [out, *held_out]:
        print(f"wrote {file}")
    for line in found.errors:
        print(f"error: {line}")
    if found.errors:
        print(f"next: correct these, then\n  hordet check {out}")
        return 1
    print("next:")
    for command in (f"check {out}", f"train {out} --tiny", f"train {out}"):
        print(f"  hordet {command}")
    return 0


def _recognize(given: argparse.Namespace, seen: list[str]) -> Any:
    """See what lies in --data: set --coco or --ade-like, or return the annotations of others.

    Args:
        given: Arguments, changed in place.
        seen: Takes a line that says what was seen.
    """
    from hordet.datasets.formats.recognize import choose_format, look_at, read_annotations

    there = look_at(given.data)
    key = choose_format(there, given.data, given.format)
    seen.append(f"saw {there.describe()} in {given.data}")
    if key == "coco":
        given.coco = there.files.root
        if given.data.is_file():
            given.train_ann = given.train_ann or there.found[key]
    elif key == "maps":
        given.ade_like = there.files.root
    else:
        return read_annotations(there, given.data, key, given.boxes_from)
    return None
