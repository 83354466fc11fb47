"""Test a checkpoint: box AP, mask AP or mIoU on the config's test data.

python tools/test.py CONFIG.py work_dirs/CONFIG/epoch_14.pth
python tools/test.py CONFIG.py CHECKPOINT --tta --out predictions.pkl
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
        "checkpoint",
        help="weights (.pth or .safetensors), no code in them is run; or .onnx of tools/export.py",
    )
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--tta", action="store_true", help="test-time augmentation: several scales and flips"
    )
    views.add_argument(
        "--sliced",
        action="store_true",
        help="detect in overlapping patches of large pictures, and in the whole; sliced_model of "
        "the config has the settings",
    )
    add(
        "--out",
        metavar="PATH",
        help="write predictions: .pkl or .json for detection, a folder for segmentation",
    )
    return parser.parse_args()


def test(arguments: argparse.Namespace) -> int:
    """Test, and print the metrics."""
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from mmengine.dist import is_main_process

    from hordet import run
    from hordet.processes import lost_processes_in_words

    cfg = read_run_config(arguments)
    with lost_processes_in_words():
        runner = run.test_runner(
            cfg,
            arguments.checkpoint,
            tta=arguments.tta,
            sliced=arguments.sliced,
            out=arguments.out,
        )
        metrics = runner.test()
    if is_main_process():
        print(f"{run.summary(metrics, runner)}  ({arguments.checkpoint})")
    return 0


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: test(given), given.debug))
