"""Values that a config may not have, such as a batch of no image, whatever component reads them.

Libraries find them late, and by errors that name no key.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config

from hordet.datasets.roots import LOADERS, walk_datasets

Rule = tuple[Callable[[Any], bool], str]


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, float) and value.is_integer() or isinstance(value, int)
    return whole and not isinstance(value, bool)


def _is_rate(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and 0 <= value <= sys.float_info.max


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    )


_POSITIVE: Rule = (lambda value: _is_whole(value) and value >= 1, "a whole number from 1")
_COUNT: Rule = (lambda value: _is_whole(value) and value >= 0, "a whole number from 0")
_INTERVAL: Rule = (
    lambda value: _is_whole(value) and (value >= 1 or value == -1),
    "a whole number from 1, or -1 for never",
)
_RATE: Rule = (_is_rate, "a number from 0")
_TEXT: Rule = (lambda value: isinstance(value, str), "text, a path")
_NAMES: Rule = (_is_names, "a list of names")
# By dotted key; None is left to whoever reads it.
_RULES: dict[str, Rule] = {
    **{f"{loader}.batch_size": _POSITIVE for loader in LOADERS},
    **{f"{loader}.num_workers": _COUNT for loader in LOADERS},
    **{f"train_cfg.{key}": _POSITIVE for key in ("max_epochs", "max_iters", "val_interval")},
    "optim_wrapper.accumulative_counts": _POSITIVE,
    "optim_wrapper.optimizer.lr": _RATE,
    "optim_wrapper.optimizer.weight_decay": _RATE,
    "default_hooks.logger.interval": _POSITIVE,
    "default_hooks.checkpoint.interval": _INTERVAL,
}
_OF_DATASETS: dict[str, Rule] = {
    "data_root": _TEXT,
    "ann_file": _TEXT,
    "metainfo.classes": _NAMES,
    "data_prefix.img": _TEXT,
    "data_prefix.img_path": _TEXT,
    "data_prefix.seg_map_path": _TEXT,
}
_COMPONENT: Rule = (
    lambda value: isinstance(value, str) or callable(value),
    "the name of a component",
)
_PACKAGE: Rule = (
    lambda value: value is None or isinstance(value, str) and value.isidentifier(),
    "the name of a package",
)
_DICT: Rule = (lambda value: value is None or isinstance(value, dict), "a dict")
_WORD: Rule = (lambda value: value is None or isinstance(value, str), "a name")
_PARTS: Rule = (
    lambda value: all(map(_DICT[0], value)) if isinstance(value, list | tuple) else _DICT[0](value),
    "a dict, or a list of dicts",
)
# By key, wherever it stands in what a library reads.
_FORMS: dict[str, Rule] = {
    "type": _COMPONENT,
    **dict.fromkeys(("_scope_", "default_scope"), _PACKAGE),
    **dict.fromkeys(("backend_args", "dist_cfg", "env_cfg", "file_client_args"), _DICT),
    "backend": _WORD,
}
_OF_MODELS = dict.fromkeys(("backbone", "neck", "decode_head", "auxiliary_head"), _PARTS)


def find_bad_values(cfg: dict) -> Iterator[str]:
    """Yield a line for each value that is wrong whatever reads it: key, value, what is allowed.

    Args:
        cfg: The merged config.
    """
    for key, rule in _RULES.items():
        yield from _check(cfg, key, key, rule)
    for loader in LOADERS:
        part = cfg.get(loader)
        dataset = part.get("dataset") if isinstance(part, dict) else None
        for each in walk_datasets(dataset) if isinstance(dataset, dict) else ():
            for key, rule in _OF_DATASETS.items():
                yield from _check(each, key, f"{loader}.dataset.{key}", rule)


def find_odd_forms(cfg: dict) -> Iterator[str]:
    """Yield a line for each part of another form than every reader of configs takes for granted.

    Args:
        cfg: The merged config, or what of it is read.
    """
    for key in [key for key in cfg if not isinstance(key, str)]:
        yield f"got the key {key!r}; it must be text"
    for key, value in cfg.items():
        yield from _walk_forms(value, str(key), _FORMS | _OF_MODELS if key == "model" else _FORMS)


def _walk_forms(value: Any, path: str, rules: dict[Any, Rule]) -> Iterator[str]:
    key = path.rpartition(".")[2]
    if key in rules and not rules[key][0](value):
        yield f"{path}: got {str(value)[:60]!r}; it must be {rules[key][1]}"
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk_forms(item, f"{path}.{index}", rules)
    elif isinstance(value, dict):
        for name, item in value.items():
            if "type" in value and not isinstance(name, str):
                yield f"{path}: got the parameter {name!r}; it must be text"
            yield from _walk_forms(item, f"{path}.{name}", rules)


def look_up(cfg: Any, key: str) -> Any:
    """Return the value of a dotted key, None where a config has no such key.

    Args:
        cfg: A config, or a part of one.
        key: Such as `train_cfg.max_epochs`.
    """
    for name in key.split("."):
        cfg = cfg.get(name) if isinstance(cfg, dict | Config) else None
    return cfg


def _check(part: Any, key: str, path: str, rule: Rule) -> Iterator[str]:
    value = look_up(part, key)
    if value is not None and not rule[0](value):
        yield f"{path}: got {str(value)[:60]!r}; it must be {rule[1]}"
