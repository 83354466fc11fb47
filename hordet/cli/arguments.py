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

    - Threads that wait spin a little (under a millisecond, with GNU OpenMP) before they sleep. If
      they sleep at once, a step of a small model takes 1.7 times as long on two quiet cores; if
      they spin for long, a busy machine stalls for seconds.
    - Large tensors on 2 MB pages (Linux): a fresh 50 MB output otherwise costs 13,000 page faults,
      three times as long as multiplying two such tensors.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Describe `--debug`, which every tool has; its value is for `run_tool`."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def config_arguments() -> argparse.ArgumentParser:
    """Describe a config, its overrides and what is trusted.

    Returns:
        A parser without `--help`, to be one of another parser's `parents`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    add("config", help="config file")
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
    return parser


def model_arguments() -> argparse.ArgumentParser:
    """Describe what `config_arguments` does, and the weights and the device of a model.

    Returns:
        A parser without `--help`, to be one of another parser's `parents`.
    """
    parser = argparse.ArgumentParser(add_help=False, parents=[config_arguments()])
    add = parser.add_argument
    add("checkpoint", help="weights (.pth or .safetensors); no code in it is run")
    add("--device", help="such as cpu, cuda:1, mps (default: CUDA where there is one)")
    return parser


def run_arguments() -> argparse.ArgumentParser:
    """Describe what `config_arguments` does, and the folders and the launcher of a run.

    Returns:
        A parser without `--help`, to be one of another parser's `parents`.
    """
    parser = argparse.ArgumentParser(add_help=False, parents=[config_arguments()])
    add = parser.add_argument
    add("--work-dir", help="where logs and checkpoints go (default: work_dirs/NAME_OF_CONFIG)")
    add("--data-root", help="where the data are, in place of the config's data_root")
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
        help="component or config; form eager, channels-last, deployed, compiled, naive, "
        "naive-malloc; dtype float32, bfloat16. The first is what the others are compared with",
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


def complexity_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `tools/benchmark.py complexity` counts."""
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


def backbones_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe which backbones `tools/benchmark.py backbones` measures."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="names of hordet.backbones.peers (default: all)"
    )


def evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what `tools/benchmark.py evaluation` draws."""
    add = parser.add_argument
    add("--pictures", type=int, default=5000, metavar="N", help="drawn pictures (default: 5000)")
    add("--detections", type=int, default=100, metavar="N", help="of each picture (default: 100)")


def necks_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe which trainings of the neck study `tools/benchmark.py necks` runs, and how."""
    add = parser.add_argument
    add(
        "pieces",
        nargs="*",
        metavar="DATASET/BACKBONE/NECK/SEED",
        help="trainings, * for any part, such as 'nuclei/*/FPN/*' (default: all)",
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
        help="figures so far; what is in it is not run again (default: docs/necks.json)",
    )
    add("--work-dir", type=Path, default=Path("work_dirs/necks"), help="where logs go")
    add("--tiny", action="store_true", help="dry runs on stand-in pictures")
    add("--plot", type=Path, metavar="FILE", help="draw accuracy against latency here, as PNG")


def read_run_config(arguments: argparse.Namespace) -> Config:
    """Read the config that a tool's arguments ask for, and fit it to this machine.

    Args:
        arguments: Of `config_arguments`, or of `run_arguments`.

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
        work_dir=vars(arguments).get("work_dir"),
        data_root=vars(arguments).get("data_root"),
        launcher=vars(arguments).get("launcher", "none"),
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
