"""Modules that mmdet needs and that cannot be installed as wheels; `install()` provides them.

mmcv-lite is mmcv without its compiled module `mmcv._ext`, so `import mmcv.ops` fails there, and
`import mmdet` too. `install()` provides this module by torchvision's operators and plain torch. If
a compiled mmcv is installed, that one is used. `describe_operators()` tells which of them is in
use. It does the same for `panopticapi`, which mmdet's panoptic data sets and metric import, and
which is not on PyPI.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

EXTENSION = "mmcv._ext"
# The module of this package that fills each of these modules.
STAND_INS = {
    EXTENSION: "hordet.ops.extension",
    "panopticapi": "hordet.ops.panoptic",
    "panopticapi.evaluation": "hordet.ops.panoptic",
    "panopticapi.utils": "hordet.ops.panoptic",
}


class ExtensionFinder(MetaPathFinder, Loader):
    """Finds and loads the modules of `STAND_INS`, and no others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification for a module of `STAND_INS`, and None for every other name."""
        if fullname not in STAND_INS:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == "panopticapi")

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None, so that Python makes the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the new module; torch and torchvision, or numpy, are imported only now."""
        importlib.import_module(STAND_INS[module.__name__]).populate(module)


def install() -> None:
    """Provide torchvision's operators to an mmcv without compiled ones, and `panopticapi`.

    It appends one finder to `sys.meta_path`, which is asked for these modules only after every
    other way to import them has failed. It imports nothing; a second call changes nothing.
    """
    if not any(isinstance(finder, ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.append(ExtensionFinder())


@dataclass(frozen=True)
class OperatorStatus:
    """The operators that `mmcv.ops` uses.

    Attributes:
        provider: 'mmcv' (compiled), 'torchvision' (this package) or 'none' (`mmcv.ops` is broken).
        message: One line; for 'none' it ends with what to do.
        supplied: Number of operators that there are, of those that mmcv's modules ask for.
        missing: Names of those that raise when they are called.
    """

    provider: str
    message: str
    supplied: int = 0
    missing: tuple[str, ...] = ()


def describe_operators() -> OperatorStatus:
    """Import `mmcv.ops` and return which operators it uses; nothing is raised."""
    try:
        mmcv = importlib.import_module("mmcv")
    except Exception as error:  # of any class; mmcv is broken
        cause = f"{type(error).__name__}: {error}"
        return OperatorStatus("none", f"mmcv cannot be imported ({cause}); pip install mmcv-lite")
    compiled = PathFinder.find_spec(EXTENSION, mmcv.__path__)
    try:
        importlib.import_module("mmcv.ops")
    except Exception as error:  # a binary made for another torch may raise anything
        cause = f"{type(error).__name__}: {error}"
        if compiled is None:
            message = f"mmcv.ops cannot be imported ({cause}); reinstall mmcv-lite and torchvision"
        else:
            message = (
                f"the compiled operators at {compiled.origin} are broken ({cause}); install an "
                "mmcv built for this torch, or pip uninstall mmcv and pip install mmcv-lite"
            )
        return OperatorStatus("none", message)
    if isinstance(sys.modules[EXTENSION].__loader__, ExtensionFinder):
        extension = importlib.import_module(STAND_INS[EXTENSION])
        return OperatorStatus(
            "torchvision",
            "torchvision and plain torch (mmcv has none compiled)",
            len(extension.OPERATORS),
            tuple(sorted(extension.missing)),
        )
    return OperatorStatus("mmcv", f"compiled mmcv {mmcv.__version__}")
