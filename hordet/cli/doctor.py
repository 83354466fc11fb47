"""Say what is installed: versions, devices, whose operators are in use, and what will not work.

hordet doctor
hordet doctor --latest     # for a weekly job: what is newer than the tests have seen?

Exit code: 0 if everything is in place, 1 if something will not work; each such line says the cure.
With --latest it is also 1 if a package is newer than the newest tested one.
"""

import argparse
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, distribution

from hordet import __version__
from hordet.ops import status

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
}
_CURE = "pip install -e . in the folder of hordet installs what is missing"


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
    operators = status()
    lines.append(_line("operators", operators.message))
    if operators.provider == "none":
        faults.append(operators.message)
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
    parser.add_argument(
        "--latest", action="store_true", help="also say what is newer than the tested versions"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the description; return 1 if something is amiss or, if asked, newer than tested."""
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
