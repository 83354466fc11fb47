"""Write one self-contained HTML page on a run, or on several beside one another.

hordet report work_dirs/NAME
hordet report work_dirs/NAME work_dirs/OTHER --out comparison.html
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    add("work_dirs", nargs="+", type=Path, metavar="WORK_DIR", help="work folder of a run")
    add("--out", type=Path, help="the page (default: WORK_DIR/report.html of the first run)")
    add(
        "--no-predictions",
        action="store_true",
        help="curves and settings alone; the validation images are not predicted",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from hordet.config.allowed import close_doors
    from hordet.report.page import write_report

    close_doors()  # a work folder may come from anybody
    out = arguments.out or arguments.work_dirs[0] / "report.html"
    print(write_report(arguments.work_dirs, out, not arguments.no_predictions))
    return 0
