"""Convert annotations between the formats of annotation tools; images are never copied or changed.

hordet convert-data DATA OUT                   # to COCO; what DATA holds is recognized
hordet convert-data DATA OUT --to yolo         # or voc, labelme
hordet convert-data predictions OUT --to labelme --images IMAGES

Reads COCO, YOLO (detection, segmentation), Pascal VOC, LabelMe, CVAT for images, VIA, Supervisely,
masks as one PNG an instance, and what hordet infer writes. Prints how many objects went in and
came out, and each reason for which some were dropped.
"""

import argparse
from pathlib import Path

from hordet.cli.arguments import DATA_FORMATS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    add("source", type=Path, metavar="DATA", help="folder of the data, or an annotation file in it")
    add("out", type=Path, metavar="OUT", help="folder to write to; a .json takes all splits (COCO)")
    add(
        "--to",
        choices=("coco", "yolo", "voc", "labelme"),
        default="coco",
        help="format to write (default: coco)",
    )
    add("--format", choices=DATA_FORMATS[:-1], help="format to read, where DATA holds several")
    add("--results", type=Path, metavar="FILE", help="COCO results to write in place of DATA's own")
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder that the names of images start from (default: DATA)",
    )
    add(
        "--score-threshold",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="leave out predictions below it (default: 0.3)",
    )
    add(
        "--boxes-from",
        type=int,
        choices=(0, 1),
        help="number of the first pixel in Pascal VOC's boxes (default: 0 if a box has a 0)",
    )
    add("--force", action="store_true", help="write into OUT though it holds files")


def run(arguments: argparse.Namespace) -> int:
    """Read, write, and print what was found and left out."""
    from hordet.datasets.formats.conversion import Conversion, convert_data

    lines = convert_data(
        Conversion(
            source=arguments.source,
            out=arguments.out,
            target=arguments.to,
            named=arguments.format,
            results=arguments.results,
            images=arguments.images,
            threshold=arguments.score_threshold,
            boxes_from=arguments.boxes_from,
            force=arguments.force,
        )
    )
    print("\n".join(lines))
    return 0
