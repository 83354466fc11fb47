"""Predict pictures: objects with their masks, or a class for every pixel.

python tools/infer.py CONFIG.py CHECKPOINT.pth photo.jpg
python tools/infer.py CONFIG.py CHECKPOINT.pth folder 'more/**/*.png' film.mp4 --out answers
find . -name '*.jpg' | python tools/infer.py CONFIG.py CHECKPOINT.pth -

Exit code: 0 if every picture was predicted, 1 if some could not be read, 2 for a wrong option.
"""

import argparse
import sys
import time
from pathlib import Path

from hordet.command_line import model_arguments, read_run_config, run_tool


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[model_arguments()],
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture, folder, 'glob', video, or - for a list on standard input, one a line",
    )
    add("--out", type=Path, help="where results go (default: predictions, or -2 and so on)")
    add("--batch-size", type=int, default=1, help="pictures at once, if of one size (default: 1)")
    add(
        "--score-threshold",
        type=float,
        help="least score of objects that are drawn and counted (default: 0.3); results.json "
        "holds all that the model gives",
    )
    add("--classes", nargs="+", metavar="NAME", help="only these classes, everywhere")
    add(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="segmentors, for large pictures: predict at their own size by overlapping tiles",
    )
    add(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="COCO annotation file whose ids of pictures and categories results.json shall have",
    )
    add("--no-overlays", action="store_true", help="draw nothing")
    arguments = parser.parse_args()
    if arguments.batch_size < 1:
        parser.error(f"--batch-size {arguments.batch_size}: allowed is 1 or more")
    if not 0 <= (arguments.score_threshold or 0) <= 1:
        parser.error(f"--score-threshold {arguments.score_threshold}: allowed is 0 to 1")
    return arguments


def infer(arguments: argparse.Namespace) -> int:
    """Predict, print a line a picture, and write."""
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from tqdm import tqdm

    from hordet import infer
    from hordet.config import ConfigError

    out = arguments.out or _free_folder()
    lines = sys.stdin if infer.inputs.STDIN in arguments.inputs else ()
    sources, problems = infer.find_sources(arguments.inputs, lines, apart=out)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not sources:
        print("error: there is nothing to predict", file=sys.stderr)
        return 2
    predictor = infer.Predictor.from_config(
        read_run_config(arguments),
        arguments.checkpoint,
        device=arguments.device,
        tile=arguments.tile,
    )
    if predictor.is_semantic and (arguments.score_threshold is not None or arguments.annotations):
        raise ConfigError(
            "--score-threshold and --annotations are for detectors; a segmentor has neither scores "
            "nor COCO results: leave them out"
        )
    infer.prediction.class_numbers(arguments.classes or (), predictor.classes)
    numbers = None
    if arguments.annotations:
        numbers = infer.Numbers.read(arguments.annotations, predictor.classes)
        numbers.require(sources)

    threshold = 0.3 if arguments.score_threshold is None else arguments.score_threshold
    done, began = 0, time.perf_counter()
    bar = tqdm(total=len(sources), unit="file", disable=None, file=sys.stderr, leave=False)

    def report(problem: str) -> None:
        problems.append(problem)
        bar.write(f"error: {problem}", file=sys.stderr)

    with bar, infer.PredictionWriter(out, predictor, numbers, not arguments.no_overlays) as writer:
        predicted = infer.predict_sources(predictor, sources, report, arguments.batch_size)
        for picture, prediction in predicted:
            if arguments.classes:
                prediction = prediction.select(classes=arguments.classes)
            shown = prediction
            if not predictor.is_semantic:
                shown = prediction.select(threshold)
            writer.write(picture, prediction, shown)
            done += 1
            height, width = prediction.size
            bar.write(f"{picture.file_name}  {width} x {height}  {shown.describe()}")
            bar.n = sources.index(picture.source) + 1
            bar.refresh()
    seconds = (time.perf_counter() - began) / max(done, 1)
    broken = f", {len(problems)} could not be read" if problems else ""
    print(f"{done} predicted{broken}; {seconds:.2f} s each  ({out})")
    return int(bool(problems))


def _free_folder() -> Path:
    """Name a folder that is not there yet: no earlier result is written over."""
    number, folder = 1, Path("predictions")
    while folder.exists():
        number += 1
        folder = Path(f"predictions-{number}")
    return folder


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: infer(given), given.debug))
