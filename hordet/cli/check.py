"""Check the data of a config: files, annotations, label maps, every image, both splits.

hordet check CONFIG.py [--data-root D] [--jobs 4] [--json report.json]

Exit code: 0 without a fault, 1 with faults (with --strict also for warnings), 2 for a wrong config.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict

from hordet.cli.arguments import add_run, number_from, read_run_config
from hordet.ops.files import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_run(parser)
    add = parser.add_argument
    add(
        "--jobs",
        type=number_from(1),
        default=os.cpu_count() or 1,
        help="processes (default: all cores)",
    )
    add("--json", metavar="PATH", help="write the findings and class counts here, too")
    add("--strict", action="store_true", help="let warnings count as faults")


def run(arguments: argparse.Namespace) -> int:
    """Check, print and write the findings."""
    cfg = read_run_config(arguments)
    from hordet.datasets.checks.inspection import inspect_data
    from hordet.datasets.shapes.cache import draw_missing_shapes

    draw_missing_shapes(cfg)
    result = inspect_data(cfg, arguments.jobs, progress=sys.stderr.isatty())
    if arguments.json:  # first: the reader of the lines, such as `head`, may go away
        write_whole(arguments.json, json.dumps(asdict(result), indent=1))
    findings = result.findings
    for kind, lines in (("error", findings.errors), ("warning", findings.warnings)):
        for line in lines:
            print(f"{kind}: {line}")
    for key, histogram in result.histograms.items():
        empty = [name for name, number in histogram.items() if not number]
        most = sorted(histogram.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {number:,}" for name, number in most[:10] if number)
        others = len(most) - len(empty) - 10
        more = f" and {others} more" if others > 0 else ""
        print(f"{key}: {shown or 'nothing'}{more}; {len(empty)} classes without any")
    print(
        f"{result.images:,} images, {len(findings.errors)} errors, "
        f"{len(findings.warnings)} warnings"
    )
    return int(bool(findings.errors or (arguments.strict and findings.warnings)))
