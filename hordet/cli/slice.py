"""Cut a COCO data set of large images into overlapping patches, to train on them.

hordet slice data/annotations/instances_train.json data/train patches
hordet slice ANNOTATIONS.json IMAGES OUT --patch-size 1024

OUT gets annotations/ and a folder named as IMAGES: train with --data-root OUT where the data of the
config are laid out so. hordet test --sliced tests on the large images.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    add("annotations", type=Path, help="COCO annotation file, of boxes or masks")
    add("images", type=Path, help="folder of its images")
    add("out", type=Path, help="folder to write to")
    add(
        "--patch-size",
        type=int,
        nargs="+",
        default=[640],
        metavar="PIXELS",
        help="one number, or height and width (default: 640)",
    )
    add(
        "--patch-overlap-ratio",
        type=float,
        default=0.25,
        help="share of a patch that its neighbor has too (default: 0.25)",
    )
    add(
        "--min-area-ratio",
        type=float,
        default=0.1,
        help="a part of less than this share of its object is not annotated (default: 0.1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Cut, and print what was written."""
    from hordet.datasets.slicing import slice_coco
    from hordet.datasets.tiles import Tiles
    from hordet.errors import DatasetError

    size = arguments.patch_size
    try:
        patches = Tiles(size[0] if len(size) == 1 else size, arguments.patch_overlap_ratio)
        count = slice_coco(
            arguments.annotations,
            arguments.images,
            arguments.out,
            patches,
            arguments.min_area_ratio,
        )
    except ValueError as error:
        raise DatasetError(str(error)) from error
    print(
        f"{count['images']:,} images -> {count['patches']:,} patches; annotated: "
        f"{count['whole']:,} whole objects, {count['parts']:,} parts; {count['dropped']:,} parts "
        f"dropped as too small  ({arguments.out})"
    )
    return 0
