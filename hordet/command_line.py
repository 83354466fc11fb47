"""Arguments that the tools which run a config share; light, for `--help` must answer at once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config


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
