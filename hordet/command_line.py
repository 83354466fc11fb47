"""Arguments that the tools which run a config share; light, for `--help` must answer at once."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hordet.errors import RESUME_ME, Interrupted, UserError
from hordet.harmless import quiet

if TYPE_CHECKING:
    from mmengine.config import Config


def tune_process() -> None:
    """Set what torch reads when it is first imported, unless the user has set it.

    - On a busy machine, threads that spin while they wait stall for seconds.
    - Large tensors on 2 MB pages (Linux): a fresh 50 MB output otherwise costs 13,000 page faults,
      three times as long as multiplying two such tensors.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Describe `--debug`, which every tool has; its value is for `run_tool`."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run_arguments() -> argparse.ArgumentParser:
    """Describe the config, its overrides, the folders and the launcher.

    Returns:
        A parser without `--help`, to be one of another parser's `parents`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    add("config", help="config file")
    add("--work-dir", help="where logs and checkpoints go (default: work_dirs/NAME_OF_CONFIG)")
    add("--data-root", help="where the data are, in place of the config's data_root")
    add(
        "--tiny",
        action="store_true",
        help="dry run on stand-in pictures: four iterations of training, four pictures of test",
    )
    add(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override keys of the config, such as train_dataloader.batch_size=4",
    )
    add("--safe-config", action="store_true", help="refuse a config that holds more than data")
    add(
        "--trust-pickle",
        action="store_true",
        help="open checkpoints that run code of whoever wrote them (from people you trust alone)",
    )
    add_debug(parser)
    add(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes were started (torchrun is recognised by itself)",
    )
    return parser


def speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `tools/benchmark.py speed` times and how."""
    add = parser.add_argument
    add(
        "contenders",
        nargs="+",
        metavar="NAME[:FORM][:DTYPE]",
        help="component or config; form eager, deployed, compiled, naive, naive-malloc; dtype "
        "float32, bfloat16. The first is what the others are compared with",
    )
    add("--pass", dest="kind", choices=["forward", "training", "pipeline"], default="forward")
    add("--repeats", type=int, default=15, help="turns of each contender (default: 15)")
    add("--threads", type=int, default=2, help="of torch (default: 2)")
    add("--batch", type=int, default=1, help="pictures at once (default: 1)")
    add("--pictures", type=int, default=2, help="test pictures a turn, for pipeline (default: 2)")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--data-root", help="where a config's data are")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override configs' keys")
    add("--plot", type=Path, metavar="FILE", help="draw the table here, as PNG")


def read_run_config(arguments: argparse.Namespace) -> Config:
    """Read the config that the arguments of `run_arguments` ask for, and fit it to this machine.

    Raises:
        hordet.config.ConfigError: The config or an option is wrong.
    """
    # torch and mm* take seconds to import; --help and a wrong flag do without.
    from hordet.checkpoints import trust_pickle
    from hordet.config import parse_options
    from hordet.run import read_config

    if arguments.trust_pickle:
        trust_pickle()
    return read_config(
        arguments.config,
        options=parse_options(arguments.cfg_options),
        work_dir=arguments.work_dir,
        data_root=arguments.data_root,
        launcher=arguments.launcher,
        tiny=arguments.tiny,
        safe=arguments.safe_config,
    )


def run_tool(body: Callable[[], int], debug: bool = False) -> int:
    """Run a tool, and say in words what went wrong.

    Args:
        body: Does the work and returns an exit code.
        debug: Let errors through, with their tracebacks.

    Returns:
        The exit code: that of the body; 75 for a training that was asked to stop and can be
        resumed; 2 for what the user can put right; 1 for any other error, with its traceback in a
        file; 130 after Ctrl-C.
    """
    tune_process()
    quiet()
    try:
        return body()
    except Interrupted as error:
        print(error, file=sys.stderr)
        return RESUME_ME
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
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
