"""Export a model to ONNX, OpenVINO or torch.export, and compare the file with the model.

hordet export CONFIG.py CHECKPOINT.pth model.onnx
hordet export hordet://nuclei-lite0 model.onnx --image IMAGE
hordet export CONFIG.py CHECKPOINT.pth model.onnx --int8 32 --fp16
hordet export CONFIG.py CHECKPOINT.pth --to openvino          # model.xml, model.bin
hordet export CONFIG.py CHECKPOINT.pth features.pt2 --part features
hordet export CONFIG.py CHECKPOINT.pth model.onnx --example   # also example.py, without torch
hordet test CONFIG.py model.onnx                  # what the file reaches on the test data

A file that differs from the model by more than --limit is not kept.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from hordet.cli.arguments import add_run, choose_checkpoint, read_run_config
from hordet.errors import ExportError

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
ONNX = ("onnx", "onnxscript", "onnxruntime")
NEEDED = {".onnx": ONNX, ".xml": (*ONNX, "openvino")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_run(parser)
    add = parser.add_argument
    add(
        "checkpoint",
        help="weights (.pth or .safetensors; or hordet://NAME), no code in it is run; may be left "
        "out where the config is hordet://NAME",
    )
    add(
        "output",
        type=Path,
        nargs="?",
        help="file to write: .onnx, .xml for OpenVINO, or .pt2 for torch.export",
    )
    add(
        "--to",
        choices=["onnx", "openvino", "torch-export"],
        help="what to write (default: as the file ends; the file is then model.onnx, model.xml or "
        "model.pt2)",
    )
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
        "--example",
        nargs="?",
        const=Path("example.py"),
        type=Path,
        metavar="FILE.py",
        help="also write a script that uses the file with numpy, OpenCV and its runtime alone "
        "(default: example.py)",
    )
    add(
        "--int8",
        type=int,
        metavar="N",
        help="write NAME.int8.onnx too, its ranges set by N training images",
    )
    add(
        "--fp16",
        action="store_true",
        help="write NAME.fp16.onnx (or .fp16.xml) too, its weights in half precision",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, and print the differences."""
    given, output = arguments.checkpoint, arguments.output
    left_out = output is None and Path(given).suffix.lower() in SUFFIXES.values()
    if left_out:  # the weights are those of the config, and the file was taken for them
        output = Path(given)
    arguments.checkpoint = choose_checkpoint(arguments.config, None if left_out else given)
    output = _choose_output(output, arguments.to)
    require_packages(output)
    cfg = read_run_config(arguments)
    from hordet.engine import runner as run
    from hordet.export import exporter
    from hordet.export.write_example import check_example, write_example

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
    if arguments.fp16 and output.suffix == ".pt2":
        raise ExportError(f"got {output}; --fp16 is for .onnx and .xml files: leave it out")
    if arguments.int8 is not None:
        exporter.check_int8(cfg, output)
    if arguments.example:
        check_example(cfg, output, settings.part, arguments.example)
    for row in exporter.export_model(model, cfg, output, settings):
        print(f"largest difference to the model at {row}")
    print(f"{_size(output)}  ({output})")
    if arguments.fp16:
        path, count = exporter.export_half(output)
        print(f"{_size(path)}, {count} weights in half precision  ({path})")
    if arguments.int8 is not None:
        path, count = exporter.export_int8(model, cfg, output, arguments.int8)
        print(f"{_size(path)}, {count} operators in int8  ({path})")
    if arguments.example:
        write_example(arguments.example)
        print(f"now: python {arguments.example} {output} IMAGE")
    return 0


def require_packages(output: Path) -> None:
    """Name what an export lacks, before torch is imported.

    Raises:
        ExportError: A package is not installed.
    """
    needed = NEEDED.get(output.suffix, ())
    lacking = [name for name in needed if find_spec(name) is None]
    if lacking:
        raise ExportError(
            f"an {output.suffix} file needs {', '.join(needed)}, and {', '.join(lacking)} "
            f"{'are' if len(lacking) > 1 else 'is'} not installed: "
            f"pip install {' '.join(lacking)}, or write a .pt2 file, which needs none of them"
        )


def _choose_output(output: Path | None, to: str | None) -> Path:
    """Return the file to write from what was given, a file or a format."""
    if output is None:
        if to is None:
            raise ExportError(
                "no file to write was given: name one, such as model.onnx, or give --to with one "
                f"of {', '.join(SUFFIXES)}"
            )
        return Path("model" + SUFFIXES[to])
    if to is not None and output.suffix != SUFFIXES[to]:
        raise ExportError(f"--to {to} writes files that end in {SUFFIXES[to]}, and got {output}")
    return output


def _size(path: Path) -> str:
    """Return the size of a file and, of OpenVINO's, of the weights beside it."""
    parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return f"{sum(part.stat().st_size for part in parts) / 2**20:.1f} MiB"
