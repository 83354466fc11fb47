"""Write one self-contained HTML page on a run, or on several beside one another.

python tools/report.py work_dirs/NAME
python tools/report.py work_dirs/NAME work_dirs/OTHER --out comparison.html
"""

import argparse
import os
import sys
from pathlib import Path


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
    return parser.parse_args()


def main() -> int:
    """Write the page."""
    arguments = parse_arguments()
    # Before torch: on a busy machine, threads that spin while they wait stall for seconds.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from hordet.report import ReportError, write_report
    from hordet.run import UserError, quiet

    quiet()
    out = arguments.out or arguments.work_dirs[0] / "report.html"
    try:
        page = write_report(arguments.work_dirs, out, not arguments.no_predictions)
    except (*UserError, ReportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
