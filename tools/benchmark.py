"""Measure models and what scores them: what they cost, and how fast they are.

python tools/benchmark.py complexity --all --markdown docs/zoo.md --json zoo.json
python tools/benchmark.py backbones --markdown docs/backbones.md
python tools/benchmark.py evaluation
python tools/benchmark.py necks --jobs 2 --costs --markdown docs/necks.md --plot docs/necks.png
python tools/benchmark.py speed fpn horfpn-7x7 horfpn-7x7:compiled horfpn-7x7:naive --plot neck.png
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from hordet import command_line

ROOT = Path(__file__).resolve().parents[1]
NAIVE = ROOT / "tests" / "references" / "naive_hornet.py"  # the published equations


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, (describe, words) in {
        run_complexity: (
            command_line.complexity_arguments,
            "parameters and multiply-adds of configs",
        ),
        run_backbones: (
            command_line.backbones_arguments,
            "backbones under HorFPN: cost, a train step",
        ),
        run_evaluation: (
            command_line.evaluation_arguments,
            "COCO figures: time, memory, pycocotools'",
        ),
        run_speed: (
            command_line.speed_arguments,
            "milliseconds and memory, beside the machine's limits",
        ),
        run_necks: (
            command_line.necks_arguments,
            "the neck study: trainings that go on where they were",
        ),
    }.items():
        command = commands.add_parser(run.__name__.removeprefix("run_"), help=words)
        describe(command)
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here")
        command.add_argument("--json", type=Path, metavar="FILE", help="write exact numbers here")
        command_line.add_debug(command)
        command.set_defaults(run=run)
    return parser.parse_args()


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


def run_necks(arguments: argparse.Namespace) -> int:
    """Train what is missing of the neck study, and show what is there."""
    from hordet.study import costs, report, results, trainings
    from hordet.study.pieces import select

    pieces, failed = select(arguments.pieces), False
    study = results.Results(arguments.results, arguments.tiny)
    missing = study.missing(pieces) if arguments.jobs > 0 else []
    where = (arguments.jobs, ROOT, arguments.work_dir, arguments.tiny)
    for number, (piece, record) in enumerate(trainings.train_all(missing, *where), start=1):
        if isinstance(record, str):
            failed = True
        else:
            study.add(record)
            record = ", ".join(f"{name} {value:.3f}" for name, value in record["metrics"].items())
        print(f"{number} of {len(missing)}: {piece}: {record}", file=sys.stderr, flush=True)
    if arguments.costs:
        study.set_costs(*costs.measure(pieces, ROOT, arguments.threads, arguments.repeats))
    rows = report.rows_of(study)
    write("The neck study", report.markdown(rows, study), rows, arguments)
    if arguments.plot:
        report.plot(rows, arguments.plot)
    return int(failed)


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
    sys.exit(command_line.run_tool(lambda: given.run(given) or 0, given.debug))
