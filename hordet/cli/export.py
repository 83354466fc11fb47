"""Export a model to ONNX or torch.export, and compare the file with the model.

hordet export CONFIG.py CHECKPOINT.pth model.onnx
hordet export CONFIG.py CHECKPOINT.pth model.onnx --int8 32
hordet export CONFIG.py CHECKPOINT.pth features.pt2 --part features
hordet test CONFIG.py model.onnx                  # what the file reaches on the test data

A file that differs from the model by more than --limit is not kept.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from hordet.cli.arguments import add_run, read_run_config
from hordet.errors import ExportError

ONNX = ("onnx", "onnxscript", "onnxruntime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_run(parser)
    add = parser.add_argument
    add("checkpoint", help="weights (.pth or .safetensors; or hordet://NAME); no code in it is run")
    add("output", type=Path, help="file to write: .onnx, or .pt2 for torch.export")
    add(
        "--part",
        choices=["whole", "features"],
        default="whole",
        help="the whole model (default), or backbone and neck",
    )
    add("--labels", action="store_true", help="of a segmentor, classes in place of logits")
    add("--static", action="store_true", help="for images of one size; default: of any")
    add(
        "--transform",
        choices=["fft", "dft"],
        help="of global filters: fft (default with --static, one size), or dft, the same by real "
        "matrix products, for any size and for runtimes without complex numbers",
    )
    add(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the example (default: those of the image)",
    )
    add("--image", help="file to compare on (default: the first image of the test data)")
    add("--limit", type=float, default=1e-4, help="largest difference to accept (default: 1e-4)")
    add(
        "--int8",
        type=int,
        metavar="N",
        help="write NAME.int8.onnx too, its ranges set by N training images",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, and print the differences."""
    require_packages(arguments.output)
    cfg = read_run_config(arguments)
    from hordet.engine import runner as run
    from hordet.export import exporter

    model = run.load_model(cfg, arguments.checkpoint)
    settings = exporter.ExportSettings(
        part=arguments.part,
        labels=arguments.labels,
        dynamic=not arguments.static,
        transform=arguments.transform or ("fft" if arguments.static else "dft"),
        size=tuple(arguments.size) if arguments.size else None,
        image=arguments.image,
        limit=arguments.limit,
    )
    for row in exporter.export_model(model, cfg, arguments.output, settings):
        print(f"largest difference to the model at {row}")
    print(f"{_size(arguments.output)}  ({arguments.output})")
    if arguments.int8 is not None:
        path, count = exporter.export_int8(model, cfg, arguments.output, arguments.int8)
        print(f"{_size(path)}, {count} operators in int8  ({path})")
    return 0


def require_packages(output: Path) -> None:
    """Name what an ONNX export lacks, before torch is imported.

    Raises:
        ExportError: A package is not installed.
    """
    lacking = [name for name in ONNX if output.suffix == ".onnx" and find_spec(name) is None]
    if lacking:
        raise ExportError(
            f"an .onnx file needs {', '.join(ONNX)}, and {', '.join(lacking)} "
            f"{'are' if len(lacking) > 1 else 'is'} not installed: pip install -e '.[export]' in "
            "the folder of hordet, or write a .pt2 file, which needs none of them"
        )


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"
