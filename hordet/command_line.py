"""Arguments that the tools which run a config share; light, for `--help` must answer at once."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

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
    from hordet.config import parse_options
    from hordet.run import read_config

    return read_config(
        arguments.config,
        options=parse_options(arguments.cfg_options),
        work_dir=arguments.work_dir,
        data_root=arguments.data_root,
        launcher=arguments.launcher,
        tiny=arguments.tiny,
    )
