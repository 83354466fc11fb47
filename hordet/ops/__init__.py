"""What mmdet needs and no wheel brings, from one door, `install()`.

mmcv-lite is mmcv without its compiled module `mmcv._ext`, so `import mmcv.ops` fails there, and
mmdet with it. `install()` offers such a module, made of torchvision's operators and plain torch.
Where a compiled mmcv is installed, that one is found first and used untouched. `status()` says
which it is. Likewise for `panopticapi`, which mmdet's panoptic data sets and metric import and
PyPI does not have.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

EXTENSION = "mmcv._ext"
# The module here that fills each.
STAND_INS = {
    EXTENSION: "hordet.ops.extension",
    "panopticapi": "hordet.ops.panoptic",
    "panopticapi.evaluation": "hordet.ops.panoptic",
    "panopticapi.utils": "hordet.ops.panoptic",
}


class ExtensionFinder(MetaPathFinder, Loader):
    """Finds and loads the modules of `STAND_INS`, and answers for no other."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns a specification for a module of `STAND_INS`, None for every other name."""
        if fullname not in STAND_INS:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == "panopticapi")

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Fills the new module; only now are torch and torchvision, or numpy, imported."""
        importlib.import_module(STAND_INS[module.__name__]).populate(module)


def install() -> None:
    """Offers torchvision's operators to an mmcv that has no compiled ones, and a `panopticapi`.

    Appends one finder to the end of `sys.meta_path`: it is asked for these modules only after every
    other way to import them has failed. Imports nothing; calling it again changes nothing.
    """
    if not any(isinstance(finder, ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.append(ExtensionFinder())


@dataclass(frozen=True)
class OperatorStatus:
    """Whose operators `mmcv.ops` runs on.

    Attributes:
        provider: 'mmcv' (compiled), 'torchvision' (this package) or 'none' (`mmcv.ops` is broken).
        message: one line for people; for 'none' it ends in the cure.
    """

    provider: str
    message: str


def status() -> OperatorStatus:
    """Imports `mmcv.ops` and says whose operators it runs on; raises nothing."""
    try:
        mmcv = importlib.import_module("mmcv")
    except Exception as error:  # whatever breaks it, the answer is the same
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
        return OperatorStatus("torchvision", "torchvision and plain torch (mmcv has none compiled)")
    return OperatorStatus("mmcv", f"compiled mmcv {mmcv.__version__}")
