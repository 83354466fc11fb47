"""Measure models and what scores them: what they cost, and how fast they are.

hordet benchmark complexity --all --markdown docs/zoo.md --json zoo.json
hordet benchmark backbones --markdown docs/backbones.md
hordet benchmark evaluation
hordet benchmark start --against ../older
hordet benchmark growth --plot growth.png
hordet benchmark runtimes CONFIG.py CHECKPOINT.pth
hordet benchmark communication cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x
hordet benchmark necks --jobs 2 --costs --markdown docs/necks.md --plot docs/necks.png
hordet benchmark rivals --jobs 1 --minutes 5,10,20 --markdown docs/rivals.md --plot docs/rivals.png
hordet benchmark speed fpn horfpn-7x7 horfpn-7x7:compiled horfpn-7x7:naive --plot neck.png
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hordet.benchmark.forms import FORMS
from hordet.cli.arguments import add_config, add_data_root, number_from, read_run_config
from hordet.config.names import CONFIGS, find_config, find_configs
from hordet.ops.files import write_whole

ROOT = CONFIGS.parent  # the checkout; of a wheel, what stands for it
NAIVE = ROOT / "tests" / "references" / "naive_hornet.py"  # the published equations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the benchmarks, and what each takes."""
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="benchmark")
    for measure, (describe, words) in {
        run_complexity: (complexity_arguments, "parameters and multiply-adds of configs"),
        run_backbones: (backbones_arguments, "backbones under HorFPN: cost, a train step"),
        run_evaluation: (evaluation_arguments, "COCO's metrics: time, memory, pycocotools'"),
        run_start: (start_arguments, "seconds until an image is predicted, a training trains"),
        run_growth: (growth_arguments, "seconds and memory against the number of annotations"),
        run_runtimes: (runtimes_arguments, "AP or mIoU, ms, MB of a model in every runtime"),
        run_communication: (communication_arguments, "what processes send each other in a step"),
        run_speed: (speed_arguments, "milliseconds and memory, beside the machine's limits"),
        run_necks: (necks_arguments, "the neck study: trainings that go on where they were"),
        run_rivals: (rivals_arguments, "hordet's default against others, at equal minutes"),
    }.items():
        command = commands.add_parser(measure.__name__.removeprefix("run_"), help=words)
        describe(command)
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here")
        command.add_argument("--json", type=Path, metavar="FILE", help="write exact numbers here")
        command.set_defaults(measure=measure)


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark that was asked for."""
    return arguments.measure(arguments) or 0


def complexity_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `hordet benchmark complexity` counts."""
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
        help="size of the image (default: 1280 800 for COCO, otherwise the test scale)",
    )


def run_complexity(arguments: argparse.Namespace) -> None:
    """Print parameters and multiply-adds, with the published numbers beside them."""
    from hordet.benchmark import zoo

    configs = list(find_configs().values()) if arguments.all else arguments.configs
    shape = (3, *arguments.shape) if arguments.shape else None
    rows = zoo.count_configs(configs, ROOT, shape)
    write("The zoo", zoo.format_zoo_table(rows), rows, arguments)


def backbones_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe which backbones `hordet benchmark backbones` measures."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="names of hordet.benchmark.peers (default: all)"
    )


def run_backbones(arguments: argparse.Namespace) -> None:
    """Measure backbones under HorFPN, and train a step of each."""
    from hordet.benchmark import backbones as backbone_table
    from hordet.benchmark.peers import PEERS
    from hordet.errors import ConfigError, did_you_mean

    for name in arguments.names:
        if name not in PEERS:
            raise ConfigError(f"no backbone is named {name!r}{did_you_mean(name, list(PEERS))}")
    rows = []
    for name in arguments.names or PEERS:
        print(f"{name} ...", file=sys.stderr)
        rows.append(backbone_table.measure_backbone(name, PEERS[name]))
    write("Backbones under HorFPN", backbone_table.format_backbone_table(rows), rows, arguments)


def evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `hordet benchmark evaluation` draws."""
    add = parser.add_argument
    add("--images", type=int, default=5000, metavar="N", help="drawn images (default: 5000)")
    add("--detections", type=int, default=100, metavar="N", help="of each image (default: 100)")


def run_evaluation(arguments: argparse.Namespace) -> None:
    """Time COCO's metrics against pycocotools, and compare them."""
    from hordet.benchmark import evaluation as coco_benchmark

    rows = coco_benchmark.measure_coco_evaluation(arguments.images, arguments.detections)
    write("COCO evaluation", coco_benchmark.format_evaluation_table(rows), rows, arguments)


def start_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `hordet benchmark start` starts."""
    add = parser.add_argument
    add(
        "config",
        nargs="?",
        default="shapes/mask-rcnn_hornet-nano_horfpn_7e",
        metavar="FOLDER/NAME",
        help="config below configs/ (default: %(default)s)",
    )
    add(
        "--against",
        nargs="+",
        type=Path,
        default=[],
        metavar="CHECKOUT",
        help="folders of other checkouts, which take turns with this one",
    )
    add("--rounds", type=number_from(1), default=5, help="runs of each (default: 5)")


def run_start(arguments: argparse.Namespace) -> None:
    """Time the commands from start to end, here and in other checkouts."""
    from hordet.benchmark import start

    checkouts = [ROOT, *(path.resolve() for path in arguments.against)]
    rows = start.measure(arguments.config.removesuffix(".py"), checkouts, arguments.rounds)
    write("Starts", start.format_start_table(rows), rows, arguments)


def growth_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe how many annotations `hordet benchmark growth` draws."""
    add = parser.add_argument
    add(
        "--annotations",
        nargs="+",
        type=number_from(10),
        default=[1000, 10_000, 100_000, 1_000_000],
        metavar="N",
        help="numbers of drawn annotations (default: 1000 10000 100000 1000000)",
    )
    add("--plot", type=Path, metavar="FILE", help="draw the table here, as PNG")


def run_growth(arguments: argparse.Namespace) -> None:
    """Time the commands that read annotations on more and more of them."""
    from hordet.benchmark import growth

    rows = []
    for row in growth.measure_growth(sorted(set(arguments.annotations)), ROOT):
        line = f"{row.command}, {row.annotations:,}: {row.seconds:.1f} s, {row.gigabytes:.2f} GiB"
        print(line, file=sys.stderr, flush=True)
        rows.append(row)
    write("Growth", growth.format_growth_table(rows), rows, arguments)
    if arguments.plot:
        growth.draw_growth_plot(rows, arguments.plot)


def communication_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe whose tensors `hordet benchmark communication` counts."""
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="config files, or their names")


def run_communication(arguments: argparse.Namespace) -> None:
    """Count what processes of a training send each other in a step, by DDP and by FSDP."""
    paths = [find_config(config) for config in arguments.configs]
    from hordet.benchmark import communication

    rows = [row for path in paths for row in communication.count_config(path)]
    table = communication.format_communication_table(rows)
    write("Communication in a training step", table, rows, arguments)


def runtimes_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `hordet benchmark runtimes` exports, predicts and scores."""
    add_config(parser)
    add_data_root(parser)
    add = parser.add_argument
    add("checkpoint", help="weights (.pth or .safetensors; or hordet://NAME); no code in it is run")
    add(
        "--forms",
        nargs="+",
        default=list(FORMS),
        choices=list(FORMS),
        metavar="FORM",
        help=f"of {', '.join(FORMS)} (default: all)",
    )
    add("--images", type=number_from(1), metavar="N", help="test images (default: all)")
    add(
        "--int8",
        type=number_from(1),
        default=32,
        metavar="N",
        help="training images that set the ranges of int8 (default: 32)",
    )
    add("--threads", type=number_from(1), default=2, help="of every runtime (default: 2)")
    add("--files", type=Path, metavar="FOLDER", help="keep the exported files here")


def run_runtimes(arguments: argparse.Namespace) -> int:
    """Export a model, and predict the test images in every runtime, in turns."""
    cfg = read_run_config(arguments)
    from hordet.benchmark import runtimes

    with TemporaryDirectory() as scratch:
        folder = arguments.files or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        task = runtimes.RuntimeTask(
            cfg,
            arguments.checkpoint,
            folder,
            arguments.images,
            arguments.int8,
            arguments.threads,
        )
        rows = runtimes.measure_runtimes(task, arguments.forms)
    write("Runtimes", runtimes.format_runtime_table(rows, task), rows, arguments)
    return int(any(row.problem for row in rows))


def speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `hordet benchmark speed` times and how."""
    add = parser.add_argument
    add(
        "candidates",
        nargs="+",
        metavar="NAME[:FORM][:DTYPE]",
        help="component or config; form eager, channels-last, deployed, compiled, naive, "
        "naive-malloc; dtype float32, tf32 (CUDA), bfloat16, float16. The first is what the "
        "others are compared with",
    )
    add("--pass", dest="kind", choices=["forward", "training", "pipeline"], default="forward")
    add("--repeats", type=int, default=15, help="turns of each candidate (default: 15)")
    add("--threads", type=int, default=2, help="of torch (default: 2)")
    add("--batch", type=int, default=1, help="images at once (default: 1)")
    add("--images", type=int, default=2, help="test images a turn, for pipeline (default: 2)")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--data-root", help="where a config's data are")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override configs' keys")
    add("--plot", type=Path, metavar="FILE", help="draw the table here, as PNG")
    add(
        "--where",
        action="store_true",
        help="with --pass training and configs: the step by part of the model and by operator, "
        "instead of turns",
    )


def run_speed(arguments: argparse.Namespace) -> None:
    """Time candidates in turns, or profile the steps of configs."""
    from hordet.benchmark import candidates as known
    from hordet.benchmark import speed, speed_report, step_profile
    from hordet.config.load import parse_options
    from hordet.errors import ConfigError

    try:
        candidates = [known.Candidate.parse(word) for word in arguments.candidates]
    except ValueError as error:
        raise ConfigError(error) from error
    task = speed.SpeedSettings.from_arguments(
        arguments, parse_options(arguments.cfg_options), NAIVE
    )
    if arguments.where:
        components = [str(each) for each in candidates if each.name in known.COMPONENTS]
        if components or task.kind != "training" or task.device != "cpu" or arguments.plot:
            raise ConfigError(
                f"got --where with --pass {task.kind}, --device {task.device}"
                f"{', --plot' * bool(arguments.plot)}, components {', '.join(components) or 'none'}"
                "; it profiles the training steps of configs on the CPU, and draws nothing"
            )
        try:
            found = [
                step_profile.profile_step(each, task, arguments.repeats) for each in candidates
            ]
        except ValueError as error:  # of torch: batch norms need two values a channel
            raise ConfigError(f"{error}: give --batch 2 or more") from error
        tables = "\n".join(map(step_profile.format_profile, found))
        write("Where a training step's time goes", tables, found, arguments)
        return
    try:
        result = (*speed.time_candidates(candidates, task, arguments.repeats), task)
    except ValueError as error:
        raise ConfigError(error) from error
    write("Speed", speed_report.format_speed_table(*result), result[0], arguments)
    if arguments.plot:
        speed_report.draw_speed_plot(*result, arguments.plot)


def necks_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe which trainings of the neck study `hordet benchmark necks` runs, and how."""
    add = parser.add_argument
    add(
        "trainings",
        nargs="*",
        metavar="DATASET/BACKBONE/NECK/RATE/SEED",
        help="trainings, * for any part, such as 'nuclei/*/FPN/*/0' (default: all)",
    )
    add(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="run the missing trainings, N at a time, one thread each (default: 0, only show)",
    )
    add("--costs", action="store_true", help="count and time the models, on a quiet machine")
    add("--threads", type=int, default=2, help="of torch, for --costs (default: 2)")
    add("--repeats", type=int, default=30, help="turns of each model, for --costs (default: 30)")
    add(
        "--results",
        type=Path,
        default=Path("docs/necks.json"),
        metavar="FILE",
        help="results so far; what is in it is not run again (default: docs/necks.json)",
    )
    add("--work-dir", type=Path, default=Path("work_dirs/necks"), help="where logs go")
    add("--tiny", action="store_true", help="dry runs on stand-in images")
    add("--plot", type=Path, metavar="FILE", help="draw accuracy against latency here, as PNG")
    add(
        "--neighbor-plot",
        type=Path,
        metavar="FILE",
        help="draw the accuracy of gnConv's neighbors beside FPN's and HorFPN's here, as PNG",
    )


def run_necks(arguments: argparse.Namespace) -> int:
    """Train what is missing of the neck study, and show what is there."""
    from hordet.benchmark.necks import costs, plots, report, results
    from hordet.benchmark.necks.plan import select_trainings
    from hordet.benchmark.necks.trainings import run_trainings

    trainings, failed = select_trainings(arguments.trainings), False
    study = results.StudyResults(arguments.results, arguments.tiny)
    missing = study.find_missing(trainings) if arguments.jobs > 0 else []
    where = (arguments.jobs, ROOT, arguments.work_dir, arguments.tiny)
    for number, (training, record) in enumerate(run_trainings(missing, *where), start=1):
        if isinstance(record, str):
            failed = True
        else:
            study.add(record)
            record = ", ".join(f"{name} {value:.3f}" for name, value in record["metrics"].items())
        print(f"{number} of {len(missing)}: {training}: {record}", file=sys.stderr, flush=True)
    if arguments.costs:
        study.set_costs(*costs.measure_costs(trainings, ROOT, arguments.threads, arguments.repeats))
    rows = report.build_rows(study)
    if arguments.plot:
        plots.draw_neck_plot(rows, arguments.plot)
    if arguments.neighbor_plot:
        plots.draw_neighbor_plot(rows, arguments.neighbor_plot)
    plot = find_from_page(arguments.plot, arguments.markdown)
    write("The neck study", report.format_neck_table(rows, study, plot), rows, arguments)
    return int(failed)


def rivals_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe which runs of the face-off `hordet benchmark rivals` makes, and where."""
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        metavar="DATASET/RIVAL/START/MINUTES/SEED",
        help="runs, * for any part, such as 'nuclei/*/scratch/10/0' (default: all)",
    )
    add(
        "--minutes",
        type=numbers_of(float),
        default=[5.0, 10.0, 20.0],
        metavar="N,N",
        help="of each training (default: 5,10,20)",
    )
    add("--seeds", type=numbers_of(int), default=[0, 1], metavar="N,N", help="(default: 0,1)")
    add(
        "--jobs",
        type=int,
        choices=(0, 1),
        default=0,
        help="1: make the missing runs, one at a time, on a quiet machine (default: 0, only show)",
    )
    add("--threads", type=number_from(1), default=2, help="threads and cores of each (default: 2)")
    add(
        "--results",
        type=Path,
        default=Path("docs/rivals.json"),
        metavar="FILE",
        help="results so far; what is in it is not run again (default: docs/rivals.json)",
    )
    add(
        "--env",
        type=Path,
        default=Path("work_dirs/rivals_env"),
        metavar="FOLDER",
        help="environment of the rivals' packages, made by venv and pip where it is not there "
        "(default: work_dirs/rivals_env)",
    )
    add(
        "--data-root",
        type=Path,
        default=Path(os.environ.get("HORDET_DATA", "data")),
        metavar="FOLDER",
        help="holds nuclei/ and camvid/ (default: HORDET_DATA, or data)",
    )
    add("--work-dir", type=Path, default=Path("work_dirs/rivals"), help="where outputs go")
    add("--tiny", action="store_true", help="dry runs of two steps on drawn images")
    add("--plot", type=Path, metavar="FILE", help="draw the metric over the minutes here, as PNG")


def numbers_of(kind: type[float] | type[int]) -> Callable[[str], list[float]]:
    """Return a type of argument: numbers with commas between, minutes above 0 and seeds from 0."""

    def read(words: str) -> list[float]:
        try:
            values = [kind(word) for word in words.split(",")]
        except ValueError:
            values = []
        least = 0 if kind is int else 1e-9
        if not values or not all(least <= value < 1e9 for value in values):
            raise argparse.ArgumentTypeError(
                f"got {words!r}; give numbers {'of 0 or more' if kind is int else 'above 0'} with "
                "commas between, such as 5,10"
            )
        return list(dict.fromkeys(values))

    return read


def run_rivals(arguments: argparse.Namespace) -> int:
    """Make what is missing of the face-off, and show what is there."""
    from hordet.benchmark.rivals import faceoff, report
    from hordet.benchmark.rivals.plan import WEIGHTS, select_runs
    from hordet.benchmark.rivals.results import RivalResults
    from hordet.benchmark.rivals.runs import OUTPUT, Place, describe_machine
    from hordet.checkpoints import ensure_file

    runs = select_runs(arguments.runs, arguments.minutes, arguments.seeds)
    results = RivalResults(arguments.results, arguments.tiny)
    missing, failed = results.find_missing(runs) if arguments.jobs else [], False
    if missing:
        machine = describe_machine(arguments.threads)
        results.check_machine(machine)
        needed = any(run.start == WEIGHTS for run in missing)
        weights = ensure_file("hordet://efficientnet-lite0") if needed else None
        place = Place(arguments.work_dir, arguments.threads, weights, arguments.tiny)
        data = faceoff.find_data(missing, arguments.data_root, place)
        made = faceoff.run_rivals(missing, data, arguments.env, place)
        for number, (run, record) in enumerate(made, start=1):
            if isinstance(record, str):
                failed = True
                results.add_problem(run, record)
            else:
                results.add(record, machine)
                found = record["metrics"].items()
                record = ", ".join(f"{name} {value:.3f}" for name, value in found)
            print(f"{number} of {len(missing)}: {run}: {record}", file=sys.stderr, flush=True)
        if failed:
            outputs = place.work_dir / "RUN" / OUTPUT
            print(f"what a run said is in {outputs}", file=sys.stderr)
    rows = report.build_rows(results)
    if arguments.plot:
        report.draw_rival_plot(rows, arguments.plot)
    plot = find_from_page(arguments.plot, arguments.markdown)
    write("The face-off", report.format_rival_page(rows, results, plot), rows, arguments)
    return int(failed)


def find_from_page(plot: Path | None, page: Path | None) -> str | None:
    """Return the path of a plot as its page links it; without a page, from the current folder."""
    return os.path.relpath(plot, page.parent if page else Path()) if plot else None


def write(title: str, table: str, rows: list, arguments: argparse.Namespace) -> None:
    """Write a table and its exact numbers where asked, then print it."""
    if arguments.markdown:
        words = shlex.join(["hordet", *arguments.words])
        heading = f"# {title}\n\nWritten by `{words}`.\n\n"
        write_whole(arguments.markdown, heading + table)
    if arguments.json:
        write_whole(arguments.json, json.dumps([row.as_dict() for row in rows], indent=1) + "\n")
    print(table)  # last: its reader, such as `head`, may go away
