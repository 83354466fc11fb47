"""Every reach into a third party's private parts: the version it is for, why, and its end.

`tests/ops/test_upstream.py` fails when a library no longer needs one of them: remove it then. This
module imports no library, for it comes before them.
"""

import functools
import importlib
import importlib.util
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from hordet.errors import did_you_mean

# Beginnings of warnings (regular expressions) that mm* give about their own code.
_HARMLESS = (
    r'"FileClient" will be deprecated',  # mmengine's CheckpointHook uses it by itself
    r'"HardDiskBackend" is the alias',  # likewise
    r"The prefix is not set in metric class",  # mmseg's IoUMetric; keys need none with one metric
    r"``build_loss`` would be deprecated",  # mmseg's heads call it
    r"Default ``avg_non_ignore`` is False",  # the published recipes keep that default
    r"The shape of value will convert",  # mmseg's heads, under test-time augmentation
    r"`broadcast_buffers` is deprecated",  # mmengine's parallel wrapper hands it to torch
    r"Grad strides do not match bucket view",  # depthwise kernels; costs a copy, changes nothing
    r"Setting (OMP|MKL)_NUM_THREADS",  # mmengine says what it did
    r"DeprecationWarning: `num_anchors` is",  # mmdet's ATSSHead asks mmdet's AnchorHead for it
    r"To copy construct from a tensor",  # mmdet's FCNMaskHead, under test
    r"torch.meshgrid: in an upcoming release",  # mmdet's point generator
    r"`create_unbacked_symint` is deprecated",  # torchvision's NMS, while torch.export follows it
    r"This DataLoader will create \d+ worker",  # more than this machine has cores: they take turns
    r"The draw is False, it means",  # mmseg's hook, which draws nothing by default
    r'("\\.*" is an )?invalid escape sequence',  # mmdet's docstrings, since Python 3.12
)


def silence_warnings() -> None:
    """Silence warnings of the libraries that are harmless and that nobody here can act on."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message)


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether a log record is none of these; a filter of a logger."""
    return not any(re.match(message, record.getMessage()) for message in _HARMLESS)


# What most runs never use, by the module that imports it anyway. Seconds on two cores.
UNUSED: dict[str, tuple[str, ...]] = {
    # mmengine 0.10: torch's FSDP, with sympy behind it: 1.2. A run uses them if its config names
    # them (`LATE`).
    "mmengine.optim.optimizer": ("mmengine.optim.optimizer.zero_optimizer",),
    "mmengine.model.wrappers": ("mmengine.model.wrappers.fully_sharded_distributed",),
    "mmengine._strategy": ("mmengine._strategy.fsdp",),
    # torchvision 0.29: the compiler, for a function that is called on GPUs in deterministic mode:
    # 1.0; and all its models and data sets: 0.3.
    "torchvision.ops.roi_align": ("torch._dynamo.utils",),
    "torchvision": ("torchvision.datasets", "torchvision.models"),
    # mmdet 3.3: plots of tracking errors: 0.7; assigners of transformers: 0.6; CrowdHuman: 0.3.
    "mmdet.utils.mot_error_visualize": ("matplotlib.pyplot", "matplotlib.patches"),
    "mmdet.models.task_modules.assigners.hungarian_assigner": ("scipy.optimize",),
    "mmdet.models.task_modules.assigners.topk_hungarian_assigner": ("scipy.optimize",),
    "mmdet.models.task_modules.tracking.aflink": ("scipy.optimize",),
    "mmdet.models.task_modules.tracking.kalman_filter": ("scipy.linalg",),
    "mmdet.evaluation.metrics.semseg_metric": ("prettytable",),
    "mmdet.evaluation.metrics.crowdhuman_metric": ("scipy.sparse", "scipy.sparse.csgraph"),
    # mmseg 1.2: likewise, and timm, which hordet's own backbone uses: 0.7.
    "mmseg.evaluation.metrics.depth_metric": ("prettytable",),
    "mmseg.evaluation.metrics.iou_metric": ("prettytable",),
    "mmseg.models.assigners.hungarian_assigner": ("scipy.optimize",),
    "mmseg.models.backbones.beit": ("scipy.interpolate",),
    "mmseg.models.backbones.timm_backbone": ("timm",),
    "mmseg.models.losses.huasdorff_distance_loss": ("scipy.ndimage",),
    "mmseg.datasets.transforms.transforms": ("scipy.ndimage",),
}
# Components of mmengine that register themselves as their module is imported: the registry each is
# in, and that module.
LATE = {
    "ZeroRedundancyOptimizer": ("OPTIMIZERS", "mmengine.optim.optimizer.zero_optimizer"),
    "MMFullyShardedDataParallel": (
        "MODEL_WRAPPERS",
        "mmengine.model.wrappers.fully_sharded_distributed",
    ),
    "FSDPStrategy": ("STRATEGIES", "mmengine._strategy.fsdp"),
}


def postpone_imports() -> None:
    """Import what `UNUSED` names when it is first used, and not before.

    For a command, which imports the libraries for one run; `import hordet` does not call it. What
    is imported already stays as it is. Calling it again changes nothing.
    """
    if not any(isinstance(finder, _ImportWatch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportWatch())


class _ImportWatch(MetaPathFinder, Loader):
    """Loads the modules of `UNUSED` and `_AFTER`, and answers for no other.

    While one of `UNUSED` is run, a stand-in takes the place of what it need not import. Afterwards
    `sys.modules` is as if it had never asked: whoever else imports the same gets the real module.
    """

    def __init__(self) -> None:
        self._loaders: dict[str, Loader] = {}  # Python's, of the modules now loading

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as Python would, with this loader in place of its own."""
        if fullname == "torch._dynamo":
            _restore_dynamo_checks()
        if fullname not in UNUSED and fullname not in _AFTER:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            self._loaders[fullname] = spec.loader
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave that to Python's loader."""
        return self._loaders[spec.name].create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and give it back to the loader that it would have had."""
        name = module.__name__
        loader = self._loaders.pop(name)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = loader
        with _stand_ins(UNUSED.get(name, ())):
            loader.exec_module(module)
        _AFTER.get(name, lambda module: None)(module)


@contextmanager
def _stand_ins(names: Sequence[str]) -> Iterator[None]:
    """Put stand-ins of modules that are not imported yet into `sys.modules`, for a while."""
    added: dict[str, _LateModule] = {}
    for name in names:
        if name in sys.modules:
            continue
        added[name] = _LateModule(name)
        # `import a.b as c` takes b from a.
        while (parent := name.rpartition(".")[0]) and parent not in sys.modules:
            added.setdefault(parent, _LateModule(parent))
            vars(added[parent])[name.rpartition(".")[2]] = added[name]
            name = parent
    sys.modules.update(added)
    try:
        yield
    finally:
        for name, module in added.items():
            vars(module)["_closed"] = True
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _LateModule(ModuleType):
    """Stands for a module: while `from` takes names of it, each is late; then it is the real one.

    A name that was taken stays a `_LateObject`; the module's attributes are the real ones.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if "_closed" not in vars(self):
            return _LateObject(self.__name__, name)
        return getattr(importlib.import_module(self.__name__), name)


class _LateObject:
    """Stands for a class or function of a module that is imported when this is used."""

    def __init__(self, module: str, name: str) -> None:
        self._path = module, name

    def _load(self) -> Any:
        module, name = self._path
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self._load(),)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._load())

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, self._load())

    def __reduce__(self) -> tuple:
        return _LateObject, self._path

    def __repr__(self) -> str:
        return "<{}.{}, not imported>".format(*self._path)


class _LateEntries(dict):
    """The entries of a registry of mmengine; those of `LATE` are imported when they are asked for.

    `Registry.get` of mmengine 0.10 asks `in` first; a registry has no hook for that.
    """

    def __init__(self, entries: dict, modules: dict[str, str]) -> None:
        super().__init__(entries)
        self._modules = modules

    def __contains__(self, name: object) -> bool:
        module = self._modules.pop(name, None) if isinstance(name, str) else None
        if module is not None:
            importlib.import_module(module)
        return super().__contains__(name)


def _add_late_entries(root: ModuleType) -> None:
    """Let mmengine's registries know the components of `LATE`."""
    for name, (registry, module) in LATE.items():
        if module not in sys.modules:
            owner = getattr(root, registry)
            owner._module_dict = _LateEntries(owner._module_dict, {name: module})


_unchecked: list[Callable] = []  # functions that need not ask the compiler before it is imported


def _skip_dynamo_checks(module: Any) -> None:
    """Let torch's optimizers be built without the compiler, while nothing is compiled.

    torch 2.14 keeps the compiler from looking into some of its functions (`_disable_dynamo`): the
    first call of one, such as an optimizer's first, imports `torch._dynamo` (1.0 s). It keeps the
    way around in the function's attribute `__dynamo_disable`; until `torch._dynamo` is imported,
    that way is the function itself.
    """
    disable = module._disable_dynamo

    @functools.wraps(disable)
    def disable_dynamo(function: Callable | None = None, recursive: bool = True) -> Any:
        if function is None:
            return functools.partial(disable_dynamo, recursive=recursive)
        if "torch._dynamo" not in sys.modules:
            setattr(function, "__dynamo_disable", function)  # noqa: B010, a class would mangle it
            _unchecked.append(function)
        return disable(function, recursive)

    module._disable_dynamo = disable_dynamo


def _step_without_dynamo(module: Any) -> None:
    """Let an optimizer step without the compiler, while nothing is compiled.

    torch 2.14 wraps each `step` to keep a compiled one apart (`_use_grad_for_differentiable`), and
    imports `torch._dynamo` for that. Without it the wrapper does no more than is done here.
    """
    wrap = module._use_grad_for_differentiable

    @functools.wraps(wrap)
    def use_grad_for_differentiable(function: Callable) -> Callable:
        wrapped = wrap(function)

        @functools.wraps(function)
        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            if "torch._dynamo" in sys.modules:
                return wrapped(self, *args, **kwargs)
            with module.torch.set_grad_enabled(self.defaults["differentiable"]):
                return function(self, *args, **kwargs)

        return step

    module._use_grad_for_differentiable = use_grad_for_differentiable


def _restore_dynamo_checks() -> None:
    """Make torch as it was: the compiler comes."""
    while _unchecked:
        delattr(_unchecked.pop(), "__dynamo_disable")


def _leave_set_undocumented(module: Any) -> None:
    """Let matplotlib's classes be made without the docstrings of their methods `set`.

    matplotlib 3.11 puts one together for each of 105 classes as it is imported, from the docstrings
    of all its setters: half of the import's time. Nothing reads them while a command runs.
    """

    def mark_set(cls: type[Any]) -> None:
        setattr(cls.set, "_autogenerated_signature", True)  # noqa: B010, of a function

    module.Artist._update_set_signature_and_docstring = classmethod(mark_set)


# What is done to a module once it has run.
_AFTER: dict[str, Callable[[Any], None]] = {
    "matplotlib.artist": _leave_set_undocumented,
    "mmengine.registry.root": _add_late_entries,
    "torch._compile": _skip_dynamo_checks,
    "torch.optim.optimizer": _step_without_dynamo,
}


def disable_compiler(function: Callable) -> Callable:
    """Keep a function out of compiled code, as `torch.compiler.disable` does.

    That imports the compiler at once (torch 2.14; 1.0 s), this when the function is first called.
    """
    from torch._compile import _disable_dynamo

    return _disable_dynamo(function)


def copy_without_waiting(model: Any) -> None:
    """Let a model's preprocessors copy batches to a GPU while the host goes on.

    mmengine 0.10 has an option for that (`non_blocking`), which mmseg 1.2 does not pass on; the
    option's attribute is set. It helps with pinned memory alone, and a CPU does not care.
    """
    from mmengine.model import BaseDataPreprocessor

    for module in model.modules():
        if isinstance(module, BaseDataPreprocessor):
            module._non_blocking = True


def grow_log_buffers() -> None:
    """Let mmengine's log buffers grow without a copy of all that they hold.

    mmengine 0.10 appends to a HistoryBuffer by `numpy.append`, a copy for each scalar of each
    iteration: 0.04 to 0.28 ms a scalar after 44,000 iterations. Numbers and checkpoints stay as
    they are. Calling it again changes nothing.
    """
    from mmengine.logging import HistoryBuffer

    original: Any = HistoryBuffer.update
    if getattr(original, "__wrapped__", None) is not None:
        return

    @functools.wraps(original)
    def update(self: Any, log_val: int | float, count: int = 1) -> None:
        if not isinstance(log_val, (int, float)) or not isinstance(count, (int, float)):
            original(self, log_val, count)  # it raises
        self._log_history = _append(self._log_history, log_val)[-self.max_length :]
        self._count_history = _append(self._count_history, count)[-self.max_length :]

    HistoryBuffer.update = update


def _append(values: Any, value: int | float) -> Any:
    """Return an array (n,) with one more value, in the room behind it where there is some."""
    import numpy as np

    if values.dtype != np.float64 or type(value) not in (int, float):
        return np.append(values, value)  # a type that may have to become another
    size, room = len(values), values.base
    if isinstance(room, np.ndarray) and room.dtype == values.dtype and room.ndim == 1:
        start = (values.ctypes.data - room.ctypes.data) // values.itemsize
        if start + size < len(room):
            room[start + size] = value
            return room[start : start + size + 1]
    room = np.empty(2 * size + 64)
    room[:size], room[size] = values, value
    return room[: size + 1]


def allow_single_anchors() -> None:
    """Let mmdet's RPN head read a level that has one anchor in all.

    mmdet 3.3 squeezes the scores of a level: one score has no dimension left, and counting it fails
    with "IndexError: tuple index out of range". That takes one anchor a position, as for objects
    of one size and shape, and a coarsest level of one position, as of images of 64 pixels. Such an
    anchor is now handed over twice, and non-maximum suppression drops the copy. Calling this again
    changes nothing, and so does a call where no model of mmdet was built.
    """
    module: Any = sys.modules.get("mmdet.models.dense_heads.rpn_head")
    if module is None:
        return
    original: Any = module.RPNHead._predict_by_feat_single
    if getattr(original, "__wrapped__", None) is not None:
        return
    join = module.torch.cat

    @functools.wraps(original)
    def predict(
        self: Any,
        cls_score_list: list,
        bbox_pred_list: list,
        score_factor_list: list,
        mlvl_priors: list,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        scores, boxes, priors = list(cls_score_list), list(bbox_pred_list), list(mlvl_priors)
        for level, anchors in enumerate(mlvl_priors):
            if len(anchors) == 1:
                priors[level] = anchors[[0, 0]]
                scores[level] = join([scores[level]] * 2, -1)
                boxes[level] = join([boxes[level]] * 2, -1)
        return original(self, scores, boxes, score_factor_list, priors, *args, **kwargs)

    module.RPNHead._predict_by_feat_single = predict


@contextmanager
def find_configs_of_packages() -> Iterator[None]:
    """Find `package::config` in the installed package while a config is read.

    mmengine 0.10 asks `pkg_resources` for the package, which setuptools 82 no longer has, and reads
    the package's hundred YAML files first.
    """
    from mmengine.config import Config

    original = Config._get_cfg_path

    def find(name: str, file: str) -> tuple[str, str | None]:
        package, separator, config = name.partition("::")
        if not separator:
            return original(name, file)
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"base {name!r} needs the package {package!r}")
        folder = Path(spec.origin).parent / ".mim" / "configs"
        if not (folder / config).is_file():
            names = [found.relative_to(folder).as_posix() for found in folder.rglob("*.py")]
            raise FileNotFoundError(
                f"{package} has no config {config!r}{did_you_mean(config, names)}"
            )
        # The configs here say in whose scope they are; a package's own types need no scope.
        return str(folder / config), None if package == "hordet" else package

    Config._get_cfg_path = staticmethod(find)
    try:
        yield
    finally:
        Config._get_cfg_path = staticmethod(original)
