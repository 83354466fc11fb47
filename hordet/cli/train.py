"""Train a detector or a segmentor.

hordet train mask-rcnn_hornet-nano_horfpn_7e
torchrun --nproc-per-node 8 -m hordet train CONFIG.py
hordet train CONFIG.py --tiny          # does it run at all? seconds, no data needed
"""

import argparse

from hordet.cli.arguments import add_run, add_verbose, read_run_config


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
        help="go on from the newest whole checkpoint of the work folder, or from this one",
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
    add("--seed", type=int, help="seed of weights, data order and augmentation")
    add(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch of all processes over the config's "
        "auto_scale_lr.base_batch_size",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the last validation's metrics."""
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
        runner.train()
    if is_main_process():
        nothing = runner.message_hub.get_info("nothing_detected")
        metrics = describe_metrics(read_last_validation(runner), nothing)
        print(f"{metrics or 'trained; no validation metrics'}  ({cfg.work_dir})")
        if end := find_end(runner):
            print(end)
    return 0
