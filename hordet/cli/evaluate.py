"""Score a COCO result file, of any program, against an annotation file.

hordet evaluate annotations/instances_val2017.json predictions.bbox.json
hordet evaluate annotations/instances_val2017.json predictions.segm.json --type segm

Of each image and category the 100 detections with the highest scores count, as COCO has it;
--max-dets is for images with more objects.

Masks are scored by their own area, as mmdet does, also where the file gives boxes beside them.
"""

import argparse
import sys
from pathlib import Path

from hordet.cli.arguments import number_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    add("annotations", type=Path, help="COCO annotation file")
    add("results", type=Path, help="COCO result file: a list of detections")
    add("--type", choices=("bbox", "segm"), default="bbox", help="score boxes or masks")
    add("--classwise", action="store_true", help="also print a table of the categories")
    add(
        "--max-dets",
        type=number_from(1),
        default=100,
        metavar="N",
        help="detections of an image and category that count (default: 100)",
    )
    add("--backend", choices=("faster-coco-eval", "pycocotools"), default="faster-coco-eval")


def run(arguments: argparse.Namespace) -> int:
    """Score, and print COCO's twelve lines."""
    from hordet.evaluation.coco_eval import evaluate_coco
    from hordet.evaluation.coco_results import read_results, read_truth

    truth = read_truth(arguments.annotations, arguments.type)
    results = read_results(arguments.results, truth, arguments.type)
    most = arguments.max_dets
    scores = evaluate_coco(
        truth,
        results,
        arguments.type,
        max_detections=(1, min(10, most), most),
        backend=arguments.backend,
    )
    print(scores.summary)
    if scores.caution:
        print(f"warning: {scores.caution}", file=sys.stderr)
    if arguments.classwise:
        names = {item["id"]: item["name"] for item in truth["categories"]}
        for index, category in enumerate(scores.categories):
            row = scores.summarize_category(index)
            print(names[category], *(f"{name} {value:.3f}" for name, value in row.items()))
    return 0
