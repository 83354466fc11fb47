"""Measure models: what they cost.

python tools/benchmark.py complexity configs/coco/CONFIG.py
python tools/benchmark.py complexity --all --markdown docs/zoo.md --json zoo.json
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    complexity(commands.add_parser("complexity", help="parameters and multiply-adds of configs"))
    return parser.parse_args()


def complexity(parser: argparse.ArgumentParser) -> None:
    """Describe `complexity`."""
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "configs", nargs="*", type=Path, default=[], metavar="CONFIG", help="config files"
    )
    which.add_argument("--all", action="store_true", help="every config of this repository")
    add(
        "--shape",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="size of the picture (default: 1280 800 for COCO, otherwise the test scale)",
    )
    add("--markdown", type=Path, metavar="FILE", help="write the table here too")
    add("--json", type=Path, metavar="FILE", help="write exact numbers here")
    parser.set_defaults(run=run_complexity)


def run_complexity(arguments: argparse.Namespace) -> None:
    """Print parameters and multiply-adds, with the published figures beside them."""
    from hordet.evaluation import zoo

    leaves = sorted(ROOT.glob("configs/[!_]*/*.py"))
    configs = leaves if arguments.all else arguments.configs
    shape = (3, *arguments.shape) if arguments.shape else None
    rows = zoo.count_configs(configs, ROOT, shape)
    table = zoo.markdown(rows)
    print(table)
    if arguments.markdown:
        title = f"# The zoo\n\nWritten by `python {' '.join(command_line())}`.\n\n"
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(title + table)
    if arguments.json:
        arguments.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")


def command_line() -> list[str]:
    """Return the words that started this tool."""
    return ["tools/benchmark.py", *sys.argv[1:]]


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    # Before torch: on a busy machine, threads that spin while they wait stall for seconds.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from hordet.run import UserError, quiet

    quiet()
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
