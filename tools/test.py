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
        help="weights (.pth or .safetensors), no code in them is run; or an .onnx of tools/export.py",
    )
    add("--tta", action="store_true", help="test-time augmentation: several scales and flips")
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

    cfg = read_run_config(arguments)
    runner = run.test_runner(cfg, arguments.checkpoint, tta=arguments.tta, out=arguments.out)
    metrics = runner.test()
    if is_main_process():
        print(f"{run.summary(metrics, runner)}  ({arguments.checkpoint})")
    return 0


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: test(given), given.debug))
