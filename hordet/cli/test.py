"""Test a checkpoint: box AP, mask AP or mIoU on the config's test data.

hordet test CONFIG.py work_dirs/CONFIG/epoch_14.pth
hordet test CONFIG.py CHECKPOINT --tta --out predictions.pkl
"""

import argparse
from pathlib import Path

from hordet.cli.arguments import add_run, add_verbose, read_run_config
from hordet.errors import ExportError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_run(parser)
    add_verbose(parser)
    add = parser.add_argument
    add(
        "checkpoint",
        help="weights (.pth or .safetensors; or hordet://NAME), no code in them is run; or a file "
        "of hordet export (.onnx, .xml)",
    )
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--tta", action="store_true", help="test-time augmentation: several scales and flips"
    )
    views.add_argument(
        "--sliced",
        action="store_true",
        help="detect in overlapping patches of large images, and in the whole; sliced_model of "
        "the config has the settings",
    )
    add(
        "--out",
        metavar="PATH",
        help="write predictions: .pkl or .json for detection, a folder for segmentation",
    )


def run(arguments: argparse.Namespace) -> int:
    """Test, and print the metrics."""
    from mmengine.dist import is_main_process

    from hordet.datasets.classes import read_metainfo
    from hordet.datasets.roots import walk_datasets
    from hordet.engine.processes import explain_lost_processes
    from hordet.engine.runner import build_test_runner
    from hordet.evaluation.headline import describe_metrics

    ending = Path(arguments.checkpoint).suffix.lower()
    if ending == ".pt2":
        raise ExportError(
            f"got {arguments.checkpoint}; hordet test runs .onnx and .xml files of hordet export. "
            "A .pt2 is torch's own program: export the model as .onnx to test it"
        )
    cfg = read_run_config(arguments)
    exported = ending in (".onnx", ".xml")
    with explain_lost_processes():
        runner = build_test_runner(
            cfg,
            None if exported else arguments.checkpoint,
            tta=arguments.tta,
            sliced=arguments.sliced,
            out=arguments.out,
            verbose=arguments.verbose,
        )
        if exported:
            from hordet.export.runtime import predict_with

            dataset = next(walk_datasets(cfg.test_dataloader.dataset))
            classes = read_metainfo(dataset, cfg.get("default_scope")).get("classes", ())
            predict_with(runner.model, arguments.checkpoint, classes)
        metrics = runner.test()
    if is_main_process():
        nothing = runner.message_hub.get_info("nothing_detected")
        print(f"{describe_metrics(metrics, nothing)}  ({arguments.checkpoint})")
    return 0
