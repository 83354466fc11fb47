"""What a safe config may name: types, files and the few words that libraries turn into code.

A config is data, and still some of its text becomes code where a library looks a `type` up by
import, evaluates a word, or unpickles a file. Types must therefore be registered components of five
packages, or classes of torch.optim and torch.nn by their exact names; and the parameters that reach
`eval`, an import, a pickle, a program or the removal of files have a rule each below. The rules
come from reading every such call in the installed packages; `tests/config/test_call_sites.py` lists
the calls again and fails at a new one. `close_doors` shuts the same ways at run time, for what no
rule foresaw.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import mmengine.registry.registry as mmengine_registry
import torch
import yaml
from mmengine.fileio.handlers.registry_utils import file_handlers
from mmengine.runner.checkpoint import CheckpointLoader

from hordet.config.faults import list_registered_names, list_registries
from hordet.errors import ConfigError, did_you_mean

# Their components may be types, and they may be scopes.
PACKAGES = ("hordet", "mmcv", "mmdet", "mmengine", "mmseg")
# Words under `type` that their owner compares or finds in mmcv.ops, and looks up in no registry.
WORDS = {
    *("nms", "soft_nms", "nms_match", "nms_quadri", "nms_rotated"),
    *("RoIAlign", "RoIPool", "SimpleRoIAlign", "RiRoIAlignRotated", "RoIAlignRotated"),
    *("DeformRoIPool", "DeformRoIPoolPack", "ModulatedDeformRoIPoolPack", "PrRoIPool"),
    *("conv", "interpolation_conv", "last_conv"),  # of FPG
    *("log_trace", "tb_trace"),  # of ProfilerHook
}
# Registered components that run, import or unpickle what their parameters or files say.
_PICKLED = "it reads its files as pickles"
_STARTS = "it starts another program or sends data to a server; hordet knows tracker='tensorboard'"
_HUB = "it takes code or weights from a place that its name chooses"
_REMOVES = "it removes the folder that its parameters name, with all that is in it"
REFUSED = {
    "AimVisBackend": _STARTS,
    "Albu": "it takes any name from the package albumentations",
    "ATSSVLFusionHead": _HUB,
    "BertModel": _HUB,
    "CLIPTextEncoder": _HUB,
    "CityScapesMetric": _REMOVES,
    "CityscapesMetric": _REMOVES,
    "ClearMLVisBackend": _STARTS,
    "ColossalAIStrategy": _STARTS,
    "CrowdHumanDataset": "it writes a file into the folder of its data, wherever that is",
    "DSDLDetDataset": "it reads its files as YAML that may call Python",
    "DSDLSegDataset": "it reads its files as YAML that may call Python",
    "DVCLiveVisBackend": _STARTS,
    "DeepSpeedStrategy": _STARTS,
    "InstaBoost": "it runs a package of its own choice",
    "MLflowVisBackend": _STARTS,
    "MOTChallengeMetric": "it takes any name from the package trackeval",
    "NeptuneVisBackend": _STARTS,
    "OpenImagesChallengeDataset": _PICKLED,
    "OpenImagesDataset": _PICKLED,
    "RFSearchHook": "it evaluates text",
    "RandomSamplingNegPos": _HUB,
    "RefCocoDataset": _PICKLED,
    "TIMMBackbone": f"{_HUB}; hordet.TimmBackbone takes timm's own names alone",
    "VPD": _HUB,
    "WandbVisBackend": _STARTS,
}
# File suffixes that mmengine reads by unpickling, or by a YAML loader that may call Python.
CODE_SUFFIXES = ("pickle", "pkl", "yaml", "yml")
MAX_PATH = 4096  # characters; file systems take no more
# What may stand before `://`: files of the web, of which no pickle is run, and fixed lists of them.
# hordet:// names data that hordet draws.
SCHEMES = (
    "hordet",
    "http",
    "https",
    "modelzoo",
    "open-mmlab",
    "openmmlab",
    "timm",
    "torchvision",
)
BACKENDS = ("disk", "hordet.timed", "http", "local")
_IMPORTS = {
    *PACKAGES,
    *(
        f"{package}.{room}"
        for package in PACKAGES
        for room in ("datasets", "engine", "evaluation", "models", "registry", "visualization")
    ),
}
_TIMM = re.compile(r"pretrained|checkpoint|cache|hub|url|file|path|scriptable|exportable")


def find_dangers(cfg: dict) -> Iterator[str]:
    """Yield what a config names that might run anything, a line each: item, value, what is allowed.

    Args:
        cfg: The merged config, of plain data.
    """
    yield from _walk(cfg, "", "", {})


def _walk(value: Any, path: str, key: str, texts: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield what is wrong with a value and all in it; each text is looked at once (`texts`)."""
    if rule := _RULES.get(key):
        allowed = rule(value)
        if allowed:
            yield f"{path}={_shorten(value)}: {allowed}"
            return
    if isinstance(value, dict):
        for name, item in dict.items(value):
            yield from _walk(item, f"{path}.{name}" if path else str(name), str(name), texts)
    elif isinstance(value, (list, tuple, set)):
        for index, item in enumerate(value):
            # A list of types is checked as one of them is; other rules see the whole list.
            yield from _walk(item, f"{path}.{index}", key if rule is _check_type else "", texts)
    elif isinstance(value, str):
        if value not in texts:
            texts[value] = tuple(islice(_check_text(value), 3))
        yield from (f"{path}={_shorten(value)}: {words}" for words in texts[value])


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _check_text(text: str) -> Iterator[str]:
    """Yield what is wrong with a text, wherever it stands."""
    if text.rpartition(".")[2].strip().lower() in CODE_SUFFIXES:
        yield "a pickle, or YAML that may call Python, is not read; convert it to JSON"
    # A text may be long and made to be slow: each part is looked at once.
    for part in text.split(":/")[:-1]:
        scheme = re.split(r"[\s/:]", part[-20:])[-1]
        if scheme.lower() not in SCHEMES:
            yield f"{scheme}:// is not read; allowed are {', '.join(SCHEMES)}, and local files"
    if re.search(r"__\w{1,100}__", text):
        yield "a name with two underscores on both sides is Python's own"
    if any(re.search(r"\blambda\b", part[-207:]) for part in text.split(":")[:-1]):
        yield "a function is no data"
    name = text.rpartition(".")[2]
    if name in REFUSED:
        yield f"{name} is refused: {REFUSED[name]}"


def _check_type(value: Any) -> str | None:
    """Return what is wrong with the name of a component, if anything."""
    if value is None or isinstance(value, (list, tuple)):
        return None  # of a list each is checked
    if not isinstance(value, str):
        return "a type is the name of a component"
    name = value.rpartition(".")[2]
    if name in REFUSED:
        return f"{name} is refused: {REFUSED[name]}"
    if resolve(value) is None and value not in WORDS and not _is_registered(value):
        hint = did_you_mean(name, _registered())
        return (
            f"it is no registered component of {', '.join(PACKAGES)}, nor a class of torch.optim "
            f"or torch.nn{hint}"
        )
    return None


def _is_registered(value: str) -> bool:
    scope, _, name = value.rpartition(".")
    return name in _registered() and (not scope or scope in PACKAGES)


@cache
def _registered() -> frozenset[str]:
    return frozenset().union(*map(list_registered_names, PACKAGES))


def resolve(name: str) -> Any:
    """Return the class that a full name means, if it is one of the allowed; nothing is imported.

    Args:
        name: Such as `torch.optim.AdamW`, or `mmdet.models.detectors.MaskRCNN` of a dumped config.
    """
    module, _, short = name.rpartition(".")
    if module in ("torch.optim", "torch.nn"):
        found = vars(torch.optim if module == "torch.optim" else torch.nn).get(short)
        kind = torch.optim.Optimizer if module == "torch.optim" else torch.nn.Module
        return found if isinstance(found, type) and issubclass(found, kind) else None
    package = module.partition(".")[0]
    if package not in PACKAGES or module == package or short not in _registered():
        return None
    for registry in list_registries(package):
        found = registry.get(short)
        home = getattr(found, "__module__", "")
        if home == module or home.startswith(f"{module}."):
            return found
    return None


def _one_of(*allowed: Any) -> Callable[[Any], str | None]:
    """Return a rule: one of these values alone."""

    def check(value: Any) -> str | None:
        if value is None or any(type(value) is type(item) and value == item for item in allowed):
            return None
        return f"allowed are {', '.join(map(str, allowed))}"

    return check


def _check_path(value: Any) -> str | None:
    """A place that is written to lies below the folder one works in."""
    if isinstance(value, str) and (
        len(value) > MAX_PATH
        or value.startswith(("/", "~", "\\"))
        or ".." in re.split(r"[/\\]", value)
        or re.match(r"\w+:", value)
        or not value.isprintable()
    ):
        return "a place that is written to must be a relative path without '..'; --work-dir is free"
    if isinstance(value, str) and not Path(value).resolve().is_relative_to(Path.cwd().resolve()):
        return "a link leads it out of the folder one works in; --work-dir is free"
    return None if value is None or isinstance(value, (str, bool, int)) else "it must be a path"


def _check_removed(value: Any) -> str | None:
    """A folder through which processes pass results is removed when they have."""
    return None if value is None else "that folder would be removed with all in it; leave it out"


def _check_file_name(value: Any) -> str | None:
    good = value is None or isinstance(value, str) and re.fullmatch(r"[\w.{}-]*", value)
    return None if good else "it must be a file name alone"


def _check_backend(value: Any) -> str | None:
    """`backend_args`: mmengine imports by the name of some backends, and by a path for one."""
    if not value:
        return None
    if not isinstance(value, dict) or not value.keys() <= {"backend", "seconds", "inner"}:
        return f"allowed is dict(backend=...) with one of {', '.join(BACKENDS)}"
    return _one_of(*BACKENDS)(value.get("backend")) or _check_backend(value.get("inner"))


def _check_imports(value: Any) -> str | None:
    if not value:
        return None
    modules = value.get("imports") or [] if isinstance(value, dict) else [value]
    if not isinstance(modules, str | list | tuple):
        return f"{modules!r} is no list of modules"
    for module in [modules] if isinstance(modules, str) else modules:
        if not isinstance(module, str) or module not in _IMPORTS:
            return f"{module!r} is not of {', '.join(PACKAGES)}, or not one of their rooms"
    extra = value.keys() - {"imports", "allow_failed_imports"} if isinstance(value, dict) else ()
    return f"unknown are {', '.join(map(str, extra))}" if extra else None


def _check_compile(value: Any) -> str | None:
    """`compile`: the options of torch.compile hold the path of a compiler."""
    if isinstance(value, bool) or value is None:
        return None
    words = {"mode": ("default", "reduce-overhead", "max-autotune"), "backend": ("inductor",)}
    good = isinstance(value, dict) and all(
        item in words.get(key, ()) or key in ("dynamic", "fullgraph", "disable") and item in (0, 1)
        for key, item in value.items()
    )
    return None if good else "allowed are True, False, and dict(mode=, dynamic=, fullgraph=)"


def _check_timm(value: Any) -> str | None:
    """`model_kwargs` of hordet.TimmBackbone: timm's create_model reads files by some of them."""
    if isinstance(value, dict) and (bad := [key for key in value if _TIMM.search(str(key))]):
        return f"{', '.join(map(str, bad))} would load other weights; use init_cfg"
    return None


def _check_no_text(value: Any) -> str | None:
    return "it must be a dict" if isinstance(value, str) else None


def _check_processes(value: Any) -> str | None:
    """`dist_cfg`: the processes of one job send each other pickles, so nobody else may join."""
    if value is None:
        return None
    good = isinstance(value, dict) and value.keys() <= {"backend", "port", "timeout"}
    backends = _one_of("gloo", "hccl", "mpi", "nccl")
    return None if good and not backends(value.get("backend")) else (
        "allowed are backend (gloo, hccl, mpi or nccl), port and timeout"
    )  # fmt: skip


def _check_tracker(value: Any) -> str | None:
    """`tracker`: a name of hordet's, or a component of mmdet."""
    return None if isinstance(value, dict) else _one_of("tensorboard", ["tensorboard"])(value)


def _check_warp(value: Any) -> str | None:
    return None if re.fullmatch(r"cv2\.MOTION_[A-Z]+", str(value)) else "it is cv2.MOTION_NAME"


def _check_optimizer(value: Any) -> str | None:
    good = isinstance(value, str) and resolve(f"torch.optim.{value}")
    return None if good else "it is no optimizer of torch.optim"


_SCOPE = _one_of(*PACKAGES)
_START = _one_of("fork", "forkserver", "spawn")
_RULES: dict[str, Callable[[Any], str | None]] = {
    # Looked up as a component.
    **dict.fromkeys(("type", "constructor", "ema_type"), _check_type),
    "_scope_": _SCOPE,
    "default_scope": _SCOPE,
    "runner_type": _one_of("FlexibleRunner", "Runner"),
    "optimizer_type": _check_optimizer,
    # Imported, evaluated, or handed to another program.
    "custom_imports": _check_imports,
    "warp_mode": _check_warp,
    "compile": _check_compile,
    "tracker": _check_tracker,
    "launcher": _one_of("none", "pytorch", "slurm", "mpi"),
    "dist_cfg": _check_processes,
    "mp_start_method": _START,
    "multiprocessing_context": _START,
    "teacher_config": _check_no_text,  # a path is executed as a config
    # Functions and samplers of a DataLoader and of FSDP.
    **dict.fromkeys(
        ("batch_sampler", "collate_fn", "param_init_fn", "sampler", "worker_init_fn"),
        _check_no_text,
    ),
    # Unpickled.
    **dict.fromkeys(("backend_args", "file_client_args"), _check_backend),
    "decode_backend": _one_of("cv2", "nifti", "numpy"),
    "model_kwargs": _check_timm,
    # Removed after use, with all that is in it.
    **dict.fromkeys(("collect_dir", "tmpdir"), _check_removed),
    # Written.
    **dict.fromkeys(
        (
            *("dir_name", "img_save_dir", "json_trace_path", "out_dir"),
            *("out_file_path", "outfile_path", "outfile_prefix", "output_dir", "proposals_file"),
            *("result_path", "save_dir", "test_out_dir", "work_dir"),
        ),
        _check_path,
    ),
    **dict.fromkeys(
        ("config_save_file", "filename_tmpl", "out_suffix", "scalar_save_file"), _check_file_name
    ),
}


class _DataHandler:
    """Reads a file for mmengine as data; writes as mmengine's own handler does."""

    def __init__(self, own: Any) -> None:
        self.own = own
        self.str_like = own.str_like

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        if "pickle" in type(self.own).__name__.lower():
            raise ConfigError(
                f"{getattr(file, 'name', 'a file')} is a pickle, which --safe-config does not "
                "read; convert it to JSON"
            )
        return yaml.safe_load(file)

    def load_from_path(self, filepath: str, mode: str = "r", **kwargs: Any) -> Any:
        with open(filepath, mode) as file:
            return self.load_from_fileobj(file)


# What `close_doors` replaced: the import behind types, file handlers, loaders of weights.
_OPEN: dict[str, Any] = {}


def close_doors() -> None:
    """Let mmengine find types in registries and by `resolve` alone, and unpickle no file.

    Until `open_doors`, for the whole process: a safe config and an ordinary one that names classes
    by import do not go together. Three private parts of mmengine 0.10 are replaced, for it has no
    switch: the import behind `Registry.get`, the file handlers of pickles and YAML, and the loaders
    of weights from elsewhere than files and the web.
    """
    if _OPEN:
        return
    _OPEN["find"] = mmengine_registry.get_object_from_string
    _OPEN["handlers"] = {suffix: file_handlers[suffix] for suffix in CODE_SUFFIXES}
    _OPEN["loaders"] = dict(CheckpointLoader._schemes)
    mmengine_registry.get_object_from_string = resolve
    for suffix, handler in _OPEN["handlers"].items():
        file_handlers[suffix] = _DataHandler(handler)
    allowed = {"", *(f"{scheme}://" for scheme in SCHEMES)}
    closed = [prefix for prefix in CheckpointLoader._schemes if prefix not in allowed]
    CheckpointLoader.register_scheme(closed, _refuse_weights, force=True)


def open_doors() -> None:
    """Undo `close_doors`, for a program that goes on with configs that it trusts."""
    if not _OPEN:
        return
    mmengine_registry.get_object_from_string = _OPEN["find"]
    file_handlers.update(_OPEN["handlers"])
    for prefix, loader in _OPEN["loaders"].items():
        if CheckpointLoader._schemes.get(prefix) is _refuse_weights:
            CheckpointLoader.register_scheme(prefix, loader, force=True)
    _OPEN.clear()


def _refuse_weights(filename: str, map_location: Any = None) -> Any:
    raise ConfigError(
        f"weights from {filename!r} are not read under --safe-config; fetch the file and name it"
    )
