"""Measure models and what scores them: what they cost, and how fast they are.

python tools/benchmark.py complexity --all --markdown docs/zoo.md --json zoo.json
python tools/benchmark.py backbones --markdown docs/backbones.md
python tools/benchmark.py evaluation
python tools/benchmark.py speed fpn horfpn-7x7 horfpn-7x7:compiled horfpn-7x7:naive --plot neck.png
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from hordet.command_line import add_debug, run_tool, speed_arguments

ROOT = Path(__file__).resolve().parents[1]
NAIVE = ROOT / "tests" / "references" / "naive_hornet.py"  # the published equations


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    complexity(commands.add_parser("complexity", help="parameters and multiply-adds of configs"))
    backbones(commands.add_parser("backbones", help="backbones under HorFPN: cost, a train step"))
    evaluation(commands.add_parser("evaluation", help="COCO figures: time, memory, pycocotools'"))
    speed(commands.add_parser("speed", help="milliseconds and memory, beside the machine's limits"))
    return parser.parse_args()


def complexity(parser: argparse.ArgumentParser) -> None:
    """Describe `complexity`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "configs", nargs="*", type=Path, default=[], metavar="CONFIG", help="config files"
    )
    which.add_argument("--all", action="store_true", help="every config of this repository")
    parser.add_argument(
        "--shape",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="size of the picture (default: 1280 800 for COCO, otherwise the test scale)",
    )
    outputs(parser)
    parser.set_defaults(run=run_complexity)


def backbones(parser: argparse.ArgumentParser) -> None:
    """Describe `backbones`."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="names of hordet.backbones.peers (default: all)"
    )
    outputs(parser)
    parser.set_defaults(run=run_backbones)


def evaluation(parser: argparse.ArgumentParser) -> None:
    """Describe `evaluation`."""
    add = parser.add_argument
    add("--pictures", type=int, default=5000, metavar="N", help="drawn pictures (default: 5000)")
    add("--detections", type=int, default=100, metavar="N", help="of each picture (default: 100)")
    outputs(parser)
    parser.set_defaults(run=run_evaluation)


def speed(parser: argparse.ArgumentParser) -> None:
    """Describe `speed`."""
    speed_arguments(parser)
    outputs(parser)
    parser.set_defaults(run=run_speed)


def outputs(parser: argparse.ArgumentParser) -> None:
    """Describe where tables go."""
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write exact numbers here")
    add_debug(parser)


def run_complexity(arguments: argparse.Namespace) -> None:
    """Print parameters and multiply-adds, with the published figures beside them."""
    from hordet.evaluation import zoo

    configs = sorted(ROOT.glob("configs/[!_]*/*.py")) if arguments.all else arguments.configs
    shape = (3, *arguments.shape) if arguments.shape else None
    rows = zoo.count_configs(configs, ROOT, shape)
    write("The zoo", zoo.markdown(rows), rows, arguments)


def run_backbones(arguments: argparse.Namespace) -> None:
    """Measure backbones under HorFPN, and train a step of each."""
    from hordet.backbones.peers import PEERS
    from hordet.config import ConfigError
    from hordet.config_faults import near
    from hordet.evaluation import backbone_table

    for name in arguments.names:
        if name not in PEERS:
            raise ConfigError(f"no backbone is named {name!r}{near(name, list(PEERS))}")
    rows = []
    for name in arguments.names or PEERS:
        print(f"{name} ...", file=sys.stderr)
        rows.append(backbone_table.measure(name, PEERS[name]))
    write("Backbones under HorFPN", backbone_table.markdown(rows), rows, arguments)


def run_evaluation(arguments: argparse.Namespace) -> None:
    """Time COCO's figures against pycocotools, and compare them."""
    from hordet.evaluation import coco_benchmark

    rows = coco_benchmark.measure(arguments.pictures, arguments.detections)
    write("COCO evaluation", coco_benchmark.markdown(rows), rows, arguments)


def run_speed(arguments: argparse.Namespace) -> None:
    """Time contenders in turns."""
    from hordet.config import ConfigError, parse_options
    from hordet.evaluation import contenders as known
    from hordet.evaluation import speed, speed_report

    try:
        contenders = [known.Contender.parse(word) for word in arguments.contenders]
    except ValueError as error:
        raise ConfigError(error) from error
    task = speed.Task.of(arguments, parse_options(arguments.cfg_options), NAIVE)
    result = (*speed.compare(contenders, task, arguments.repeats), task)
    write("Speed", speed_report.markdown(*result), result[0], arguments)
    if arguments.plot:
        speed_report.plot(*result, arguments.plot)


def write(title: str, table: str, rows: list, arguments: argparse.Namespace) -> None:
    """Print a table, and write it and its exact numbers where asked."""
    print(table)
    if arguments.markdown:
        words = shlex.join(["tools/benchmark.py", *sys.argv[1:]])
        heading = f"# {title}\n\nWritten by `python {words}`.\n\n"
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(heading + table)
    if arguments.json:
        arguments.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: given.run(given) or 0, given.debug))
