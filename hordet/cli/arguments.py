"""Arguments that several subcommands share, and a parser that names the nearest of what exists."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hordet.checkpoints.weights import PREFIX, find_weights, is_named, suggest_name
from hordet.cli.imports import postpone_collection
from hordet.config.names import find_config, find_weights_of
from hordet.errors import CheckpointError, did_you_mean

if TYPE_CHECKING:
    from mmengine.config import Config

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
# Formats of annotations that are recognized; `hordet.datasets.formats.recognize` has their names.
DATA_FORMATS = ("coco", "yolo", "voc", "labelme", "cvat", "via", "supervisely", "masks", "maps")


class Parser(argparse.ArgumentParser):
    """argparse's parser; an unknown subcommand or flag ends with the nearest one that exists."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Read the words; one that nothing reads is an error of its subcommand."""
        arguments, unknown = self.parse_known_args(args, namespace)
        # Inputs may stand on both sides of the options, which argparse does not read by itself.
        if hasattr(arguments, "inputs") and not any(word.startswith("-") for word in unknown):
            arguments.inputs += unknown
            unknown = []
        if unknown:
            self._parser_of(arguments).error(f"unrecognized arguments: {' '.join(unknown)}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and the message, with the nearest name behind it."""
        unknown = re.fullmatch(r"unrecognized arguments: (\S+).*", message)
        choice = re.fullmatch(
            r"argument (.*): invalid choice: '(.*?)' \(choose from (.*)\)", message
        )
        if unknown:
            message += did_you_mean(unknown[1].partition("=")[0], [*self._option_string_actions])
        elif choice:
            names = [name.strip("' ") for name in choice[3].split(",")]
            message += did_you_mean(choice[2], names)
        elif message.startswith("the following arguments are required"):
            message += f"; `{self.prog} --help` says what each is"
        super().error(message)

    def _parser_of(self, arguments: argparse.Namespace) -> Parser:
        """Return the innermost parser that the words reached."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = getattr(arguments, action.dest, None)
                if chosen in action.choices:
                    return action.choices[chosen]._parser_of(arguments)
        return self


def number_from(
    minimum: float, maximum: float | None = None, kind: Callable[[str], Any] = int
) -> Callable[[str], Any]:
    """Return a type of argument: a number within bounds.

    Args:
        minimum: The least that is allowed.
        maximum: The most; None: no bound.
        kind: int or float.
    """
    allowed = f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"

    def read(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not minimum <= value <= (value if maximum is None else maximum):
            raise argparse.ArgumentTypeError(f"got {word}; allowed is {allowed}")
        return value

    return read


def add_config(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Describe a config, its overrides, what is trusted and what may be fetched."""
    add = parser.add_argument
    add(
        "config",
        nargs="?" if optional else None,
        help="config file, or the name of one that comes with hordet; or hordet://NAME of a whole "
        "model (hordet weights list)",
    )
    add(
        "--tiny",
        action="store_true",
        help="dry run on stand-in images: four iterations of training, four images of test",
    )
    add(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override keys of the config, such as train_dataloader.batch_size=4",
    )
    add(
        "--max-dets",
        type=number_from(1),
        metavar="N",
        help="detections that a detector gives of an image and that are scored (default: the "
        "config's, mostly 100)",
    )
    add("--safe-config", action="store_true", help="refuse a config that holds more than data")
    add_trust(parser)
    add_offline(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Describe that code in checkpoints may run."""
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="open checkpoints that run code of whoever wrote them (from people you trust alone)",
    )


def add_offline(parser: argparse.ArgumentParser) -> None:
    """Describe that nothing may be fetched."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help="fetch nothing, as with HORDET_OFFLINE=1; a folder that HORDET_MIRROR names is read",
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Describe where the data of a config are."""
    parser.add_argument(
        "--data-root", help="where the data are, in place of the config's data_root"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Describe where a model runs."""
    parser.add_argument(
        "--device", help="such as cpu, cuda:1, mps (default: CUDA where there is one)"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Describe a config as `add_config` does, and the folders and the launcher of a run."""
    add_config(parser)
    add = parser.add_argument
    add("--work-dir", help="where logs and checkpoints go (default: work_dirs/NAME_OF_CONFIG)")
    add_data_root(parser)
    add(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes were started (torchrun is recognized by itself)",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Describe how much a run says."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show on the console all that the log file of the work folder gets",
    )


def require_file(checkpoint: str | None) -> None:
    """Check that a checkpoint on this machine is there; whoever loads it checks the rest.

    Raises:
        CheckpointError: There is no such file, or no weights of that name.
    """
    path = (checkpoint or "").partition("#sha256=")[0]
    if is_named(path):
        find_weights(path)
    elif path and not Path(path).expanduser().is_file():
        hint = suggest_name(path)
        if hint or "://" not in path:
            raise CheckpointError(f"no checkpoint file at {path}{hint}")


def looks_like_checkpoint(word: str) -> bool:
    """Tell by its form whether a word names a checkpoint, not an image."""
    return "://" in word or word.partition("#sha256=")[0].endswith(CHECKPOINT_SUFFIXES)


def choose_checkpoint(config: str, given: str | None) -> str:
    """Return the checkpoint to use: the given one, or else the one that comes with the config.

    What it is, how large, and its license are then said on standard error.

    Args:
        config: As on the command line.
        given: As on the command line, if it was given.

    Raises:
        CheckpointError: None is given, and none comes with the config.
    """
    if given:
        return given
    weights = find_weights_of(config)
    if weights is None:
        raise CheckpointError(
            f"no CHECKPOINT is given, and none is published for {config}. Give a .pth or "
            ".safetensors file that `hordet train` has made from it; `hordet weights list` has the "
            "whole models that come with weights"
        )
    said = "" if is_named(config) else "no checkpoint was given; using "
    print(f"note: {said}{weights}", file=sys.stderr)
    return f"{PREFIX}{weights.name}"


def read_run_config(arguments: argparse.Namespace) -> Config:
    """Read the config that a subcommand's arguments ask for, and fit it to this machine.

    Args:
        arguments: Of `add_config`, or of `add_run`.

    Raises:
        hordet.errors.ConfigError: The config or an option is wrong.
        hordet.errors.CheckpointError: The checkpoint is not there.
    """
    # A wrong name or path is told before torch is imported, which takes seconds.
    path = find_config(arguments.config)
    require_file(vars(arguments).get("checkpoint"))
    with postpone_collection():
        from hordet.checkpoints import trust_pickle
        from hordet.config.load import parse_options
        from hordet.engine.runner import read_config
    if arguments.trust_pickle:
        trust_pickle()
    with postpone_collection():  # the modules of the config's types are imported to check it
        return read_config(
            path,
            options=parse_options(arguments.cfg_options),
            work_dir=vars(arguments).get("work_dir"),
            data_root=vars(arguments).get("data_root"),
            launcher=vars(arguments).get("launcher", "none"),
            tiny=arguments.tiny,
            safe=arguments.safe_config,
            max_detections=arguments.max_dets,
        )
