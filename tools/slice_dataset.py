"""Cut a COCO data set of large pictures into overlapping patches, to train on them.

python tools/slice_dataset.py data/annotations/instances_train.json data/train patches
python tools/slice_dataset.py ANNOTATIONS.json IMAGES OUT --patch-size 1024

OUT gets annotations/ and a folder named as IMAGES: train with --data-root OUT where the data of the
config are laid out so. tools/test.py --sliced tests on the large pictures.
"""

import argparse
import sys
from pathlib import Path

from hordet.command_line import run_tool


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("annotations", type=Path, help="COCO annotation file, of boxes or masks")
    add("images", type=Path, help="folder of its pictures")
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
        help="share of a patch that its neighbour has too (default: 0.25)",
    )
    add(
        "--min-area-ratio",
        type=float,
        default=0.1,
        help="a part of less than this share of its object is not annotated (default: 0.1)",
    )
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args()


def slice_dataset(arguments: argparse.Namespace) -> int:
    """Cut, and print what was written."""
    from hordet.datasets.errors import DatasetError
    from hordet.datasets.slicing import slice_coco
    from hordet.patches import Patches

    size = arguments.patch_size
    try:
        patches = Patches(size[0] if len(size) == 1 else size, arguments.patch_overlap_ratio)
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
        f"{count['pictures']:,} pictures -> {count['patches']:,} patches; annotated: "
        f"{count['whole']:,} whole objects, {count['parts']:,} parts; {count['dropped']:,} parts "
        f"dropped as too small  ({arguments.out})"
    )
    return 0


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: slice_dataset(given), given.debug))
