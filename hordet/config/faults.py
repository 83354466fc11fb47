"""Finding what is wrong in a config before anything is built: unknown keys, types and parameters.

A fault is reported only where it is sure. A type that no registry knows may still be a name that
its owner reads itself (`nms`, `bilinear`), and a class may take any keyword; both are accepted.
"""

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice
from typing import Any

import mmengine.registry
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from hordet.config.recipe import find_recipe_faults
from hordet.config.safe import NAMES_ARE, is_name
from hordet.config.signature import get_keywords
from hordet.config.values import find_bad_values, find_odd_forms, look_up
from hordet.errors import did_you_mean
from hordet.registry import RoomRegistry

# Top-level keys beyond the Runner's own that mmengine, mmdet, mmseg or hordet read.
_FURTHER_KEYS = {
    "activation_checkpointing",
    "auto_scale_lr",
    "backend_args",
    "channels_last",
    "compile",
    "compile_regions",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "float32_modules",
    "model_wrapper_cfg",
    "recipe",
    "recompute",
    "runner_type",
    "sliced_model",
    "strategy",
    "sync_bn",
    "tf32",
    "tracker",
    "triton_gates",
    "tta_model",
    "tta_pipeline",
    "vis_backends",
}
MAX_FAULTS = 100  # that are told at once
_DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_ALWAYS = {"type", "_scope_", "_delete_"}
# By a part of the path: keys that the code which builds the object takes out of its dict before.
_TAKEN_BEFORE = {
    "cfg": {"requires_grad", "fallback_on_stride"},
    "dcn": {"fallback_on_stride"},
    "hooks": {"priority"},
    "loss": {"bg_cls_weight"},
    "upsample_cfg": {"scale_factor"},
    "init_cfg": {"layer", "override", "prefix", "map_location"},
    "optim_wrapper": {"constructor", "paramwise_cfg"},
    "param_scheduler": {"convert_to_iter_based"},
}
# These hold names of another library.
_FOREIGN = {"Albu"}
# By a part of a top-level key: the registries where what stands below it is looked up.
_LOOKED_UP: dict[str, tuple[Registry, ...]] = {
    "dataloader": (mmengine.registry.DATASETS, mmengine.registry.TRANSFORMS),
    "evaluator": (mmengine.registry.METRICS,),
    "hooks": (mmengine.registry.HOOKS,),
    "log_processor": (mmengine.registry.LOG_PROCESSORS,),
    "model": (mmengine.registry.MODELS, mmengine.registry.TASK_UTILS),
    "optim_wrapper": (mmengine.registry.OPTIM_WRAPPERS, mmengine.registry.OPTIMIZERS),
    "param_scheduler": (mmengine.registry.PARAM_SCHEDULERS,),
    "pipeline": (mmengine.registry.TRANSFORMS,),
    "vis": (mmengine.registry.VISUALIZERS, mmengine.registry.VISBACKENDS),
    "_cfg": (mmengine.registry.LOOPS,),
}
# By a dotted key that mmengine builds: the registries that hold what may stand there.
_BUILT: dict[str, tuple[Registry, ...]] = {
    "model": (mmengine.registry.MODELS,),
    **{
        f"model.{part}": (mmengine.registry.MODELS,)
        for part in ("auxiliary_head", "backbone", "bbox_head", "data_preprocessor", "decode_head",
                     "mask_head", "neck", "roi_head", "rpn_head")
    },
    **dict.fromkeys(("train_cfg", "val_cfg", "test_cfg"), (mmengine.registry.LOOPS,)),
    **{f"{loader}.dataset": (mmengine.registry.DATASETS,) for loader in _DATALOADERS},
    **dict.fromkeys(
        ("val_evaluator", "test_evaluator"),
        (mmengine.registry.METRICS, mmengine.registry.EVALUATOR),
    ),
    "optim_wrapper": (mmengine.registry.OPTIM_WRAPPERS,),
    "optim_wrapper.optimizer": (mmengine.registry.OPTIMIZERS,),
    "param_scheduler": (mmengine.registry.PARAM_SCHEDULERS,),
    "custom_hooks": (mmengine.registry.HOOKS,),
    "visualizer": (mmengine.registry.VISUALIZERS,),
}  # fmt: skip
_ROOTS = [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]


def list_known_keys() -> set[str]:
    """Return the top-level keys that something reads."""
    runner = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
    return runner | _FURTHER_KEYS


def find_faults(cfg: dict, asked: Iterable[str] = ()) -> list[str]:
    """Return the faults of a config as one line each, with its dotted path.

    Args:
        cfg: The merged config; its scope's modules and `custom_imports` can be imported.
        asked: Top-level keys that were given by hand, beside the file; these must be known.

    Returns:
        The faults, the first `MAX_FAULTS` of many; empty if there is none.
    """
    known = list_known_keys()
    read = {key: value for key, value in cfg.items() if key in known or not isinstance(key, str)}
    faults = list(islice(chain(_find_odd_names(cfg), find_odd_forms(read)), MAX_FAULTS))
    if faults:
        return faults
    scope = cfg.get("default_scope") or "mmengine"
    found = chain(
        _find_unknown_keys(cfg, set(asked)),
        _check_untyped(cfg),
        _check_kinds(read, scope),
        find_bad_values(cfg),
        find_recipe_faults(cfg.get("recipe")),
        # A file's own variables are merged into the keys that use them, and are checked there.
        *(_check_nested(value, key, scope) for key, value in read.items()),
    )
    return list(islice(found, MAX_FAULTS))


def walk_dicts(value: Any) -> Iterator[dict]:
    """Yield every dict in a nest of dicts, lists and tuples, outermost first."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from walk_dicts(item)


def _find_odd_names(cfg: dict) -> Iterator[str]:
    """Yield a line for each setting that the run's own config.py could not hold."""
    for key in cfg:
        if isinstance(key, str) and not is_name(key):
            yield f"{key[:50]}: it cannot name a setting; {NAMES_ARE}. Rename it"


def _find_unknown_keys(cfg: dict, asked: set[str]) -> Iterator[str]:
    known = list_known_keys()
    for key in cfg:
        if key in known:
            continue
        if key in asked:
            yield f"{key}: no such key in this config{did_you_mean(key, known | set(cfg) - {key})}"
        elif match := _find_intended_key(key, known):
            yield f"{key}: unknown key; did you mean {match!r}?"


def _find_intended_key(key: str, known: set[str]) -> str | None:
    """Return the known key that `key` was surely meant to be; a file may have variables as well."""
    for candidate in difflib.get_close_matches(key, sorted(known), n=3, cutoff=0.8):
        ratio = difflib.SequenceMatcher(None, key, candidate).ratio()
        if ratio >= 0.9 or sorted(key) == sorted(candidate):
            return candidate
    return None


def _check_untyped(cfg: dict) -> Iterator[str]:
    """Check the dicts that need no `type`, for mmengine knows what they are."""
    loader = set(inspect.signature(DataLoader.__init__).parameters)
    loader |= {"dataset", "sampler", "batch_sampler", "num_batch_per_epoch"}
    loops, wrapper = {"by_epoch"}, {"constructor", "paramwise_cfg"}
    loops |= (get_keywords(EpochBasedTrainLoop) or set()) | (
        get_keywords(IterBasedTrainLoop) or set()
    )
    wrapper |= get_keywords(OptimWrapper) or set()
    tables = {**dict.fromkeys(_DATALOADERS, loader), "train_cfg": loops, "optim_wrapper": wrapper}
    tables["randomness"] = set(inspect.signature(Runner.set_randomness).parameters)
    tables["auto_scale_lr"] = {"enable", "base_batch_size"}
    for key, allowed in tables.items():
        value = cfg.get(key)
        if isinstance(value, dict) and "type" not in value:
            for name in value.keys() - allowed - _ALWAYS:
                yield f"{key}.{name}: unknown key{did_you_mean(str(name), allowed)}"


def _check_kinds(cfg: dict, scope: str) -> Iterator[str]:
    """Yield a line for each component of another kind than its place is for.

    mmengine builds what a full name means, whatever that is.
    """
    for key, roots in _BUILT.items():
        found = look_up(cfg, key)
        for part in found if isinstance(found, list | tuple) else [found]:
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(kind, str):
                continue
            kinds: list[str] = []
            for meaning in find_meanings(kind, key, part.get("_scope_") or scope):
                held = [root for root in _ROOTS if _holds(root, meaning)]
                kinds += [root.name for root in held]
                # A class of the user's own need not be in a registry.
                if not held or any(root in roots for root in held):
                    kinds = []
                    break
            if kinds:
                here = f"allowed here: {roots[0].name!r}"
                yield f"{key}.type: {kind} is of the kind {kinds[0]!r}; {here}"


def _holds(registry: Registry, component: Any) -> bool:
    """Tell whether a registry or one of those below it has a class."""
    return any(each is component for each in registry.module_dict.values()) or any(
        _holds(child, component) for child in registry.children.values()
    )


def _check_nested(value: Any, path: str, scope: str) -> Iterator[str]:
    """Check `value` and all in it."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _check_nested(item, f"{path}.{index}", scope)
    if not isinstance(value, dict):
        return
    scope = value.get("_scope_") or scope
    if "type" in value:
        if value["type"] in _FOREIGN:
            return
        yield from _check_typed(value, path, scope)
    for key, item in value.items():
        yield from _check_nested(item, f"{path}.{key}", scope)


def _check_typed(value: dict, path: str, scope: str) -> Iterator[str]:
    kind = value["type"]
    extra = set(_ALWAYS)
    for part, names in _TAKEN_BEFORE.items():
        if part in path:
            extra |= names
    faults: dict[str, None] = {}  # in order, each once
    # One meaning that fits is enough, and those behind it are not imported.
    for meaning in find_meanings(kind, path, scope) if isinstance(kind, str) else (kind,):
        allowed = get_keywords(meaning)
        if allowed is None or value.keys() <= allowed | extra:
            return
        for name in islice(sorted(value.keys() - allowed - extra), MAX_FAULTS):
            hint = did_you_mean(name, allowed)
            faults[f"{path}.{name}: {meaning.__name__} has no such parameter{hint}"] = None
    yield from faults
    # A word that its owner reads, such as `nms` or `bilinear`, is no class name.
    if not faults and ("." in kind or kind[:1].isupper()):
        yield f"{path}.type: {_describe_unknown_type(kind, scope)}"


@cache
def list_registered_names(scope: str) -> frozenset[str]:
    """Return the names of all that the registries of a package hold."""
    names: set[str] = set()
    for registry in list_registries(scope):
        names |= _list_names(registry) | registry.root.module_dict.keys()
    return frozenset(names)


def _list_names(registry: Registry) -> set[str]:
    """Return the names of a registry; hordet's imports no module for that."""
    if isinstance(registry, RoomRegistry):
        return registry.names()
    registry.import_from_location()
    return set(registry.module_dict)


def find_meanings(name: str, path: str, scope: str) -> Iterator[Any]:
    """Yield the classes and functions that `name` means in any registry under a default scope.

    First come those of the registries where the key at `path` is looked up: each further one may
    import another part of a package.

    Args:
        name: What a config calls them, such as 'FPN', 'hordet.HorFPN' or 'torch.optim.AdamW'.
        path: Dotted path of the dict that has the name as its type, such as 'model.neck'.
        scope: The config's default scope.
    """
    if not all(name.split(".")):  # such as '' or '.FPN'
        return
    if "." in name:
        scope, _, name = name.rpartition(".")
        if "." in scope or scope == "torch":  # a full path, such as torch.optim.AdamW
            found = _import_name(scope, name)
            if found:
                yield found
            return
        if importlib.util.find_spec(scope) is None:
            return
    key = path.partition(".")[0]
    expected = next((roots for word, roots in _LOOKED_UP.items() if word in key), ())
    registries = list_registries(scope)
    near = [registry for registry in registries if registry.root in expected]
    far = [registry for registry in registries if registry.root not in expected]
    yield from _look_up(name, near)
    found = _import_name("mmcv.ops", name)  # mmdet looks its `roi_layer` up there
    if found is not None:
        yield found
    yield from _look_up(name, far)


def _look_up(name: str, registries: Iterable[Registry]) -> Iterator[Any]:
    for registry in registries:
        found = registry.get(name)
        if found is not None:
            yield found


def list_registries(scope: str) -> list[Registry]:
    """Return every kind of registry under a scope, or mmengine's own where the scope has none."""
    try:
        importlib.import_module(f"{scope}.registry")
    except ModuleNotFoundError:  # not of OpenMMLab's kind, such as `os`
        return []
    return [root.children.get(scope, root) for root in _ROOTS]


def _import_name(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _describe_unknown_type(name: str, scope: str) -> str:
    asked, _, short = name.rpartition(".")
    if asked and importlib.util.find_spec(asked.partition(".")[0]) is None:
        return f"type {name!r} needs the package {asked!r}, which is not installed"
    names: dict[str, str] = {}
    for registry in list_registries(asked or scope):
        hordet = registry.root.children.get("hordet")
        if hordet is not None and not asked:
            names |= {key: f"hordet.{key}" for key in hordet.names()}
        names |= {key: key for key in (*_list_names(registry), *registry.root.module_dict)}
    hint = did_you_mean(short, names, names)
    return f"type {name!r} is not registered under {asked or scope!r}{hint}"
