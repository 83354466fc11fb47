"""Write one self-contained HTML page on a run, or on several beside one another.

python tools/report.py work_dirs/NAME
python tools/report.py work_dirs/NAME work_dirs/OTHER --out comparison.html
"""

import argparse
import sys
from pathlib import Path

from hordet.command_line import add_debug, run_tool


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("work_dirs", nargs="+", type=Path, metavar="WORK_DIR", help="work folder of a run")
    add("--out", type=Path, help="the page (default: WORK_DIR/report.html of the first run)")
    add(
        "--no-predictions",
        action="store_true",
        help="curves and settings alone; the validation pictures are not predicted",
    )
    add_debug(parser)
    return parser.parse_args()


def report(arguments: argparse.Namespace) -> int:
    """Write the page."""
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from hordet.report import write_report

    out = arguments.out or arguments.work_dirs[0] / "report.html"
    print(write_report(arguments.work_dirs, out, not arguments.no_predictions))
    return 0


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: report(given), given.debug))
