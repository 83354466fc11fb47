"""Predict images: objects with their masks, or a class for every pixel.

hordet infer hordet://nuclei-lite0 photo.png      # a model that comes with hordet
hordet infer CONFIG.py CHECKPOINT.pth photo.jpg
hordet infer CONFIG.py CHECKPOINT.pth folder 'more/**/*.png' film.mp4 --out answers
find . -name '*.jpg' | hordet infer CONFIG.py CHECKPOINT.pth -

Without CHECKPOINT the published weights of the config are taken, if there are any.

Exit code: 0 if every image was predicted, 1 if an error was reported for some, 2 for a wrong
option. Results of an earlier run in the same folder are replaced at the end; a run that is broken
off leaves them as they are and keeps its own as results.unfinished.json.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from hordet.cli.arguments import (
    add_config,
    add_device,
    choose_checkpoint,
    looks_like_checkpoint,
    number_from,
    read_run_config,
)
from hordet.cli.imports import postpone_collection
from hordet.config.names import find_weights_of
from hordet.errors import ConfigError

EXPORTED = {".onnx", ".xml", ".pt2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_config(parser)
    add_device(parser)
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="[CHECKPOINT] INPUT",
        help="weights (.pth or .safetensors, no code in them is run; or hordet://NAME); then "
        "image, folder, 'glob', video, or - for a list on standard input, one a line",
    )
    add("--out", type=Path, help="where results go (default: predictions, or -2 and so on)")
    add(
        "--batch-size",
        type=number_from(1),
        default=1,
        help="images at once, if of one size (default: 1)",
    )
    add(
        "--score-threshold",
        type=number_from(0, 1, float),
        help="least score of objects that are drawn and counted (default: 0.3); results.json "
        "holds all that the model gives",
    )
    add("--classes", nargs="+", metavar="NAME", help="only these classes, everywhere")
    add(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="for large images: predict by overlapping tiles; a detector also looks at the whole",
    )
    add(
        "--overlap",
        type=float,
        metavar="SHARE",
        help="share of a tile that its neighbor has too (default: 0.25, segmentors 0.33)",
    )
    add(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="COCO annotation file whose ids of images and categories results.json shall have",
    )
    add("--no-overlays", action="store_true", help="draw nothing")


def run(arguments: argparse.Namespace) -> int:
    """Predict, print a line an image, and write."""
    given, inputs = _split_inputs(arguments.config, arguments.inputs)
    arguments.checkpoint = choose_checkpoint(arguments.config, given)
    with postpone_collection():
        from tqdm import tqdm

        from hordet.inference import Predictor
        from hordet.inference.prediction import Instances, find_class_indices
        from hordet.inference.sources import STDIN, find_sources
        from hordet.inference.stream import describe_failure, predict_sources
        from hordet.inference.writers import AnnotationIds, PredictionWriter, stops_everything

    out = arguments.out or _free_folder()
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names that are no UTF-8
    lines = sys.stdin if STDIN in inputs else ()
    sources, problems = find_sources(inputs, lines, out, _say)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not sources:
        print("error: there is nothing to predict", file=sys.stderr)
        return 2
    predictor = Predictor.from_config(
        read_run_config(arguments),
        arguments.checkpoint,
        device=arguments.device,
        tile=arguments.tile,
        overlap=arguments.overlap,
    )
    if predictor.is_semantic and (arguments.score_threshold is not None or arguments.annotations):
        raise ConfigError(
            "--score-threshold and --annotations are for detectors; a segmentor has neither scores "
            "nor COCO results: leave them out"
        )
    find_class_indices(arguments.classes or (), predictor.classes)
    numbers = None
    if arguments.annotations:
        numbers = AnnotationIds.read(arguments.annotations, predictor.classes)
        for note in filter(None, (numbers.require(sources), numbers.note)):
            _say(note)

    threshold = 0.3 if arguments.score_threshold is None else arguments.score_threshold
    done, began = 0, time.perf_counter()
    bar = tqdm(total=len(sources), unit="file", disable=None, file=sys.stderr, leave=False)
    places = {source: number for number, source in enumerate(sources, start=1)}

    def report(problem: str) -> None:
        if problem in problems:  # such as of each frame of a video
            return
        problems.append(problem)
        bar.write(f"error: {problem}", file=sys.stderr)
        if arguments.debug:
            traceback.print_exc()

    writer = PredictionWriter(out, predictor, numbers, not arguments.no_overlays)
    if writer.note:
        _say(writer.note)
    try:
        with bar, writer:
            predicted = predict_sources(predictor, sources, report, arguments.batch_size)
            for image, prediction in predicted:
                try:
                    if arguments.classes:
                        prediction = prediction.select(classes=arguments.classes)
                    shown = prediction
                    if isinstance(prediction, Instances):
                        shown = prediction.select(threshold)
                    writer.write(image, prediction, shown)
                    height, width = prediction.size
                    line = f"{image.file_name}  {width} x {height}  {shown.describe()}"
                except Exception as error:
                    if stops_everything(error):
                        raise
                    report(describe_failure(image.source, error))
                    continue
                done += 1
                bar.write(line)
                bar.n = places[image.source]
                bar.refresh()
    except BaseException:
        if done:
            _say(_describe_rest(done, out, writer.unfinished))
        raise
    seconds = (time.perf_counter() - began) / max(done, 1)
    noun = "error" if len(problems) == 1 else "errors"
    broken = f", {len(problems)} {noun} reported" if problems else ""
    print(f"{done} predicted{broken}; {seconds:.2f} s each  ({out})")
    return int(bool(problems))


def _split_inputs(config: str, words: list[str]) -> tuple[str | None, list[str]]:
    """Tell the checkpoint, if one is given, from the inputs.

    A config without weights of its own needs one, so its first word is one whatever its form.
    """
    first, *others = words
    for word in words:
        if Path(word).suffix.lower() in EXPORTED:
            raise ConfigError(
                f"got {word}, a file of hordet export, and hordet infer takes checkpoints. Use "
                "the script of `hordet export --example`, or `hordet test CONFIG FILE` for metrics"
            )
    if looks_like_checkpoint(first) or (others and find_weights_of(config) is None):
        if not others:
            raise ConfigError("no INPUT is given: name images, folders or videos")
        return first, others
    return None, words


def _describe_rest(done: int, out: Path, unfinished: Sequence[Path]) -> str:
    """Say what a run that is broken off has left."""
    line = f"broken off after {done} images, whose overlays or label maps are in {out}"
    kept = ", ".join(path.name for path in unfinished)
    end = f". It has kept {kept} there; files of the usual names are an earlier run's"
    return line + end if kept else line


def _say(words: str) -> None:
    print(f"note: {words}", file=sys.stderr)


def _free_folder() -> Path:
    """Name a folder that is not there yet: no earlier result is written over."""
    number, folder = 1, Path("predictions")
    while folder.exists():
        number += 1
        folder = Path(f"predictions-{number}")
    return folder
