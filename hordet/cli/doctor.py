"""Say what is installed: versions, devices, whose operators are in use, and what will not work.

hordet doctor
hordet doctor --latest     # for a weekly job: what is newer than the tests have seen?
hordet doctor --gpu --json gpu.json

With --gpu it checks that hordet is right and fast on the first GPU, within limits that add up to
eight minutes.

Exit code: 0 if everything is in place, 1 if something will not work; each such line says the cure.
With --latest it is also 1 if a package is newer than the newest tested one.
"""

import argparse
import importlib
import json
import platform
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from hordet import __version__
from hordet.errors import ConfigError, did_you_mean
from hordet.ops import describe_operators

# What is imported, and which distributions provide it: the original or a maintained fork.
_PACKAGES = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
    "mmengine": ("mmengine", "mmengine-lite", "onedl-mmengine"),
    "mmcv": ("mmcv", "mmcv-lite", "mmcv-full", "onedl-mmcv"),
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "mmseg": ("mmsegmentation", "onedl-mmsegmentation"),
    "timm": ("timm",),
    "pycocotools": ("pycocotools",),
    "faster_coco_eval": ("faster-coco-eval",),
    "sahi": ("sahi",),
    "safetensors": ("safetensors",),
    "filelock": ("filelock",),
    "packaging": ("packaging",),
    "matplotlib": ("matplotlib",),
    "PIL": ("pillow",),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "yaml": ("pyyaml",),
    "jinja2": ("jinja2",),
    "tqdm": ("tqdm",),
    "lazy_loader": ("lazy_loader",),
    "argcomplete": ("argcomplete",),
    "ftfy": ("ftfy",),
    "regex": ("regex",),
}
# The newest versions that were tested, by distribution: by the default tests or by the short form
# of `tests/run_on.sh`. Patch releases count as tested.
TESTED = {
    "python": "3.13",
    "torch": "2.15",
    "torchvision": "0.29",
    "numpy": "2.5",
    "mmengine": "0.10",
    "mmcv-lite": "2.1",
    "mmdet": "3.3",
    "mmsegmentation": "1.2",
    "timm": "1.0",
    "pycocotools": "2.0",
    "faster-coco-eval": "1.8",
    "opencv-python": "5.0",
    "setuptools": "84.2",
    "onnx": "1.23",
    "onnxruntime": "1.32",
    "onnxscript": "0.7",
    "openvino": "2026.4",
    "pillow": "12.3",
    "sahi": "0.12",
    "shapely": "2.2",
    "safetensors": "0.8",
    "matplotlib": "3.11",
    "scipy": "1.18",
    "gradio": "6.31",
}
# Packages of the extras: without them a part of hordet says what it lacks.
_EXTRAS = ("onnx", "onnxruntime", "onnxscript", "openvino", "gradio", "tensorboard")
_CURE = "pip install, of hordet's wheel or in its checkout (-e .), installs what is missing"


def describe() -> tuple[list[str], list[str]]:
    """Return what there is and what is amiss, as lines for people."""
    lines = [_line("hordet", __version__), _line("python", platform.python_version())]
    faults: list[str] = []
    for module, distributions in _PACKAGES.items():
        found = [text for name in distributions if (text := _installed(name))]
        lines.append(_line(module, ", ".join(found) or "not installed"))
        if len(found) > 1:
            faults.append(
                f"{module} comes from several packages ({', '.join(found)}), which overwrite each "
                "other; pip uninstall all of them, then install one"
            )
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken binary may raise anything
            faults.append(f"{module} cannot be imported ({type(error).__name__}: {error}); {_CURE}")
    extras = [_installed(name) or f"no {name}" for name in _EXTRAS]
    lines.append(_line("extras", ", ".join(extras)))
    operators = describe_operators()
    lines.append(_line("operators", operators.message))
    if operators.provider == "none":
        faults.append(operators.message)
    elif operators.missing:
        # As words: a line of its own for each would bury the rest.
        first, *rest = textwrap.wrap(", ".join(operators.missing), 84, break_on_hyphens=False)
        total = len(operators.missing) + operators.supplied
        lines.append(_line("not supplied", f"{len(operators.missing)} of mmcv's {total}: {first}"))
        lines += [_line("", line) for line in rest]
    for module in ("mmdet.models", "mmseg.models") if not faults else ():
        try:
            importlib.import_module(module)
        except Exception as error:  # mmdet and mmseg check versions by assertions
            message = f"{type(error).__name__}: {error}"
            faults.append(f"{module} cannot be imported ({message}); {_CURE}")
    if "torch" in sys.modules:
        lines.append(_line("devices", _devices()))
    return lines, faults


def _line(name: str, text: str) -> str:
    return f"{name:12} {text}"


def _installed(name: str) -> str | None:
    """Return the name and version of an installed distribution."""
    try:
        return f"{name} {distribution(name).version}"
    except PackageNotFoundError:
        return None


def _devices() -> str:
    import torch

    cpu = f"cpu ({torch.get_num_threads()} threads)"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([*(f"cuda:{i} ({name})" for i, name in enumerate(names)), cpu])


def find_untested() -> list[str]:
    """Return a line for each installed version that is newer than the newest tested one."""
    from packaging.version import Version  # not needed to describe a broken environment

    lines = []
    for name, tested in TESTED.items():
        try:
            got = platform.python_version() if name == "python" else distribution(name).version
        except PackageNotFoundError:  # an extra, or a fork stands in its place
            continue
        if Version(got).release[:2] > Version(tested).release:
            lines.append(f"{name} {got}; the newest tested is {tested}")
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    add("--gpu", action="store_true", help="check the first GPU: faults, precisions, speed")
    add("--dry-run", action="store_true", help="with --gpu: the same on a CPU, at small sizes")
    add("--parts", nargs="+", default=[], metavar="PART", help="with --gpu: these parts alone")
    add("--json", type=Path, metavar="FILE", help="with --gpu: write exact numbers here")
    add("--latest", action="store_true", help="also say what is newer than the tested versions")


def run(arguments: argparse.Namespace) -> int:
    """Print the description, or the check of the GPU; return 1 if something is amiss.

    With --latest also if something is newer than tested.
    """
    if arguments.gpu:
        return _check_gpu(arguments)
    if arguments.dry_run or arguments.parts or arguments.json:
        raise ConfigError(
            "--dry-run, --parts and --json are for the check of a GPU: give --gpu as well, or "
            "leave them out"
        )
    lines, faults = describe()
    print("\n".join(lines))
    for fault in faults:
        print(f"WILL NOT WORK: {fault}")
    if not faults:
        print("everything is in place")
    untested = find_untested() if arguments.latest else []
    for line in untested:
        print(f"NOT TESTED: {line}")
    if arguments.latest and not untested:
        print("nothing is newer than the tested versions")
    return 1 if faults or untested else 0


def _check_gpu(arguments: argparse.Namespace) -> int:
    """Check the first GPU, print the table, and return 1 if something failed."""
    import torch

    from hordet.benchmark.gpu_check import PARTS, format_check_table, run_check
    from hordet.ops.files import write_whole

    if arguments.latest:
        raise ConfigError("--latest looks at versions and --gpu at a GPU: give one of them")
    for name in arguments.parts:
        if name not in PARTS:
            hint = did_you_mean(name, list(PARTS))
            raise ConfigError(f"no part is named {name!r}{hint}; there are {', '.join(PARTS)}")
    if not arguments.dry_run and not torch.cuda.is_available():
        raise ConfigError(
            "--gpu needs a GPU that torch can use, and there is none: install a torch for CUDA, or "
            "add --dry-run, which goes through what a CPU can run of it"
        )

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    report = run_check(arguments.dry_run, arguments.parts, tell)
    print(format_check_table(report), end="")
    if arguments.json:
        write_whole(arguments.json, json.dumps(report.as_dict(), indent=1) + "\n")
    return 1 if report.failed else 0
