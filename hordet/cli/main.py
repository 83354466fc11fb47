"""The command itself: it chooses a subcommand, reads its arguments, and says in words what failed.

A subcommand is a module here: its docstring is its help, `add_arguments` describes what it takes,
`run` does the work and returns the exit code. None imports torch before `run`, so that `--help` and
a wrong flag answer at once.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

from hordet import __version__
from hordet.cli.arguments import Parser
from hordet.errors import (
    RESUME_ME,
    CheckpointWarning,
    ConfigWarning,
    DatasetWarning,
    Interrupted,
    UserError,
)
from hordet.ops.terminal import print_any_name
from hordet.ops.upstream import postpone_imports, silence_warnings

BROKEN_PIPE = 141  # as the shell says of a process that SIGPIPE has ended
SUBCOMMANDS = (
    "train",
    "test",
    "infer",
    "check",
    "report",
    "export",
    "demo",
    "new-config",
    "weights",
    "convert",
    "convert-data",
    "benchmark",
    "slice",
    "evaluate",
    "configs",
    "doctor",
)


def build_parser() -> Parser:
    """Describe the whole command; each subcommand's arguments name its module as `module`."""
    parser = Parser(
        prog="hordet",
        description="Dense prediction with HorNet: detectors and segmentors, from data to report.",
    )
    parser.add_argument("--version", action="version", version=f"hordet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name in SUBCOMMANDS:
        module = import_module(f"hordet.cli.{name.replace('-', '_')}")
        assert module.__doc__
        words, _, _ = module.__doc__.partition("\n")
        command = commands.add_parser(
            name,
            help=words[0].lower() + words[1:].removesuffix("."),
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(module=module)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        words: What stands behind `hordet`; by default what the shell gave.

    Returns:
        The exit code, as of `run_in_words`. A wrong word ends the process with 2.
    """
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(parser)
    words = sys.argv[1:] if words is None else words
    try:
        arguments = parser.parse_args(words)
    except SystemExit:  # --help, whose reader may have gone
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _leave_lost_output()
        raise
    except BrokenPipeError:  # Python's argparse lets it through before 3.12
        _leave_lost_output()
        return BROKEN_PIPE
    arguments.words = [*words]  # a page that a subcommand writes says what wrote it
    if vars(arguments).get("offline"):
        os.environ["HORDET_OFFLINE"] = "1"  # for the processes of this run, too
    module: ModuleType = arguments.module
    postpone_imports()
    return run_in_words(lambda: module.run(arguments), arguments.debug)


def tune_process() -> None:
    """Set what torch reads when it is first imported, unless the user has set it.

    - Threads that wait spin a little (under a millisecond, with GNU OpenMP) before they sleep. If
      they sleep at once, a step of a small model takes 1.7 times as long on two quiet cores; if
      they spin for long, a busy machine stalls for seconds.
    - Large tensors on 2 MB pages (Linux): a fresh 50 MB output otherwise costs 13,000 page faults,
      three times as long as multiplying two such tensors.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # OpenCV prints a line of its own beside each error that hordet reports.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")


def run_in_words(body: Callable[[], int], debug: bool = False) -> int:
    """Run a subcommand, and say in words what went wrong.

    Args:
        body: Does the work and returns an exit code.
        debug: Let errors through, with their tracebacks.

    Returns:
        The exit code: that of the body; 75 for a training that was asked to stop and can be
        resumed; 2 for what the user can put right; 1 for any other error, with its traceback in a
        file; 130 after Ctrl-C; 141, as of SIGPIPE, when the reader of the output has gone, such as
        `head`.
    """
    tune_process()
    silence_warnings()
    _show_own_warnings_plainly()
    print_any_name()
    try:
        code = body()
        sys.stdout.flush()
        return code
    except Interrupted as error:
        print(error, file=sys.stderr)
        return RESUME_ME
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _leave_lost_output():
            return BROKEN_PIPE
        if debug:
            raise
        if isinstance(error, OSError) and error.filename:
            error = OSError(
                f"{error.filename}: {error.strerror}. Check the path, and that you may read and "
                "write there"
            )
        if isinstance(error, (UserError, OSError)):
            print(f"error: {error}", file=sys.stderr)
            return 2
        print(f"error: {_describe(error)}", file=sys.stderr)
        return 1


def _show_own_warnings_plainly() -> None:
    """Show what hordet says of data and checkpoints without the place in its code."""
    usual = warnings.formatwarning

    def format_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, (ConfigWarning, DatasetWarning, CheckpointWarning)):
            return f"warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = format_warning


def _leave_lost_output() -> bool:
    """Tell whether the reader of the output has gone; what is left to write then goes nowhere."""
    if not hasattr(select, "poll"):  # Windows
        return False
    lost = False
    for stream in (sys.stdout, sys.stderr):
        try:
            number = stream.fileno()
        except (AttributeError, OSError, ValueError):  # none, replaced by another, or closed
            continue
        poll = select.poll()
        poll.register(number, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), number)
            lost = True
    return lost


def _describe(error: Exception) -> str:
    """Return an unforeseen error in a line, and where its traceback was written."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="hordet-error-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    words = " ".join(str(error).split()) or "without a message"
    return (
        f"{type(error).__name__}: {words[:500]}\nThis was not foreseen. Where it happened is in "
        f"{file.name}; --debug shows it here."
    )
