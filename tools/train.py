"""Train a detector or a segmentor.

python tools/train.py configs/shapes/CONFIG.py
torchrun --nproc-per-node 8 tools/train.py CONFIG.py
python tools/train.py CONFIG.py --tiny          # does it run at all? seconds, no data needed
"""

import argparse
import os
import sys


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", help="config file")
    add("--work-dir", help="where logs and checkpoints go (default: work_dirs/NAME_OF_CONFIG)")
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="continue from the latest checkpoint of the work folder, or from this one",
    )
    add("--amp", action="store_true", help="mixed precision (bfloat16 on a CPU)")
    add("--seed", type=int, help="seed of weights, data order and augmentation")
    add("--data-root", help="where the data are, in place of the config's data_root")
    add("--tiny", action="store_true", help="dry run: four iterations on stand-in pictures")
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
    return parser.parse_args()


def main() -> int:
    """Train, and print the last validation's metrics."""
    arguments = parse_arguments()
    # Before torch: on a busy machine, threads that spin while they wait stall for seconds.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from mmengine.dist import is_main_process

    from hordet import run
    from hordet.config import parse_options

    run.quiet()
    try:
        cfg = run.read_config(
            arguments.config,
            options=parse_options(arguments.cfg_options),
            work_dir=arguments.work_dir,
            data_root=arguments.data_root,
            launcher=arguments.launcher,
            tiny=arguments.tiny,
        )
        runner = run.training_runner(
            cfg, resume=arguments.resume, amp=arguments.amp, seed=arguments.seed
        )
        runner.train()
    except run.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:  # a loss that is not finite, with its evidence
        print(f"error: {error}", file=sys.stderr)
        return 1
    if is_main_process():
        metrics = run.summary(run.last_validation(runner))
        print(f"{metrics or 'trained; no validation metrics'}  ({cfg.work_dir})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
