"""Train a detector or a segmentor.

python tools/train.py configs/shapes/CONFIG.py
torchrun --nproc-per-node 8 tools/train.py CONFIG.py
python tools/train.py CONFIG.py --tiny          # does it run at all? seconds, no data needed
"""

import argparse
import sys

from hordet.command_line import read_run_config, run_arguments, run_tool


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[run_arguments()],
    )
    add = parser.add_argument
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="go on from the newest whole checkpoint of the work folder, or from this one",
    )
    add("--amp", action="store_true", help="mixed precision (bfloat16 on a CPU)")
    add("--seed", type=int, help="seed of weights, data order and augmentation")
    add(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch of all processes over the config's "
        "auto_scale_lr.base_batch_size",
    )
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> int:
    """Train, and print the last validation's metrics."""
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from mmengine.dist import is_main_process

    from hordet import run
    from hordet.processes import lost_processes_in_words

    cfg = read_run_config(arguments)
    with lost_processes_in_words():
        runner = run.training_runner(
            cfg,
            resume=arguments.resume,
            amp=arguments.amp,
            seed=arguments.seed,
            auto_scale_lr=arguments.auto_scale_lr,
        )
        runner.train()
    if is_main_process():
        metrics = run.summary(run.last_validation(runner), runner)
        print(f"{metrics or 'trained; no validation metrics'}  ({cfg.work_dir})")
    return 0


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: train(given), given.debug))
