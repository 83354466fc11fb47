"""Train a detector or a segmentor.

hordet train mask-rcnn_hornet-nano_horfpn_7e
torchrun --nproc-per-node 8 -m hordet train CONFIG.py
hordet train CONFIG.py --tiny          # does it run at all? seconds, no data needed
"""

import argparse
import atexit
import os
import signal
import warnings
from pathlib import Path
from types import FrameType

from hordet.cli.arguments import add_run, add_verbose, number_from, read_run_config
from hordet.errors import RESUME_ME, CheckpointWarning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_run(parser)
    add_verbose(parser)
    add = parser.add_argument
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="go on from the newest whole checkpoint of the work folder or of this folder, or from "
        "this file",
    )
    add(
        "--new-schedule",
        action="store_true",
        help="with --resume: learning rate and schedule of the config, in place of those that the "
        "checkpoint has",
    )
    add("--force", action="store_true", help="train in a work folder that another run holds, too")
    add(
        "--amp",
        nargs="?",
        const="auto",
        default=False,
        choices=("auto", "bfloat16", "float16"),
        help="mixed precision (default of --amp: bfloat16, or float16 on a GPU without it)",
    )
    add(
        "--seed",
        type=number_from(0, 2**32 - 1),
        help="seed of weights, data order and augmentation",
    )
    add(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch of all processes over the config's "
        "auto_scale_lr.base_batch_size",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the last validation's metrics."""
    listen_between_steps()
    from mmengine.dist import is_main_process

    from hordet.engine.hooks.resume import find_end
    from hordet.engine.processes import explain_lost_processes
    from hordet.engine.runner import build_training_runner, read_last_validation
    from hordet.evaluation.headline import describe_metrics

    cfg = read_run_config(arguments)
    with explain_lost_processes():
        runner = build_training_runner(
            cfg,
            resume=arguments.resume,
            amp=arguments.amp,
            seed=arguments.seed,
            auto_scale_lr=arguments.auto_scale_lr,
            force=arguments.force,
            new_schedule=arguments.new_schedule,
            verbose=arguments.verbose,
        )
        if is_main_process() and not (arguments.resume or arguments.tiny):
            tell_of_earlier_run(cfg.work_dir)
        runner.train()
    if is_main_process():
        nothing = runner.message_hub.get_info("nothing_detected")
        metrics = describe_metrics(read_last_validation(runner), nothing)
        print(f"{metrics or 'trained; no validation metrics'}  ({cfg.work_dir})")
        if end := find_end(runner):
            print(end)
    return 0


def tell_of_earlier_run(work_dir: str) -> None:
    """Say in a line that a work folder has checkpoints of a run that is not resumed.

    Args:
        work_dir: The work folder.
    """
    from hordet.checkpoints.newest import list_newest_first

    if newest := next(list_newest_first(Path(work_dir)), None):
        warnings.warn(
            f"{work_dir} has checkpoints of an earlier run ({newest.name}). This one begins anew "
            "and writes over files of the same names; --resume goes on from that one, another "
            "--work-dir keeps both",
            CheckpointWarning,
            stacklevel=2,
        )


def listen_between_steps() -> None:
    """Answer a scheduler's SIGUSR1 that comes before the first step or after the last.

    Python would end by the signal, and a batch file could not tell that from a fault. While the
    loop runs, `hordet.engine.hooks.interrupt` has the signal. A process that leaves ignores it:
    its work is done, and Python forgets its handlers before it has ended.
    """
    # Windows has no SIGUSR1, and whoever ignores it (`trap '' USR1`) means so.
    if hasattr(signal, "SIGUSR1") and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, _end_between_steps)
        atexit.register(signal.signal, signal.SIGUSR1, signal.SIG_IGN)


def _end_between_steps(number: int, frame: FrameType | None) -> None:
    """End at once; the next start begins anew or finds all done."""
    os.write(
        2,
        b"asked to stop by SIGUSR1 while no step is running; the same command with --resume goes "
        b"on (exit code 75)\n",
    )
    os._exit(RESUME_ME)
