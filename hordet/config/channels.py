"""The `in_channels` of necks and heads, where a config leaves them out.

A part that declares its channels has a class method `declare_channels(**options)`, which returns
the channels of each map that a model of these options would give. hordet's backbones and necks do;
behind a part of another package a config states its channels, as ever.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from hordet.config.faults import find_meanings, walk_dicts
from hordet.config.signature import get_keywords
from hordet.errors import ConfigError

HEADS = ("decode_head", "auxiliary_head")  # mmseg's, which choose their maps by `in_index`


def fill_in_channels(cfg: Config) -> None:
    """Fill each `in_channels` that is left out or None from what the part before it declares.

    That is the neck behind a backbone, and mmseg's decode and auxiliary heads behind either.

    Args:
        cfg: A config without faults; changed in place.

    Raises:
        ConfigError: A stated value is not the declared one, a head asks for a map that is not
            there, or the options of the declaring part are wrong.
    """
    scope = cfg.get("default_scope") or "mmengine"
    for model in list(walk_dicts(cfg.get("model"))):
        scope = model.get("_scope_") or scope
        backbone = model.get("backbone")
        if not isinstance(backbone, dict):
            continue
        source, channels = "backbone", _declare(backbone, "backbone", scope)
        necks = model.get("neck") or []
        for index, neck in enumerate(necks if isinstance(necks, Sequence) else [necks]):
            name = f"neck.{index}" if isinstance(necks, Sequence) else "neck"
            if channels is not None and _takes_in_channels(neck, scope):
                _settle(neck, name, list(channels), source, channels)
            source, channels = name, _declare(neck, name, scope)
        if channels is None:
            continue
        for key in HEADS:
            heads = model.get(key) or []
            for index, head in enumerate(heads if isinstance(heads, Sequence) else [heads]):
                name = f"{key}.{index}" if isinstance(heads, Sequence) else key
                if _takes_in_channels(head, scope):
                    wanted = _choose(head, name, scope, source, channels)
                    _settle(head, name, wanted, source, channels)


def _declare(part: dict, name: str, scope: str) -> tuple[int, ...] | None:
    """Return the channels that a part declares; None if it declares none."""
    declare = getattr(_find_class(part, scope), "declare_channels", None)
    if declare is None:
        return None
    options = {key: part[key] for key in part if key not in ("type", "_scope_")}
    try:
        return tuple(declare(**options))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.{name}: {error}") from error


def _find_class(part: dict, scope: str) -> type | None:
    kind = part.get("type")
    if isinstance(kind, str):
        kind = next(find_meanings(kind, "model", part.get("_scope_") or scope), None)
    return kind if inspect.isclass(kind) else None


def _takes_in_channels(part: dict, scope: str) -> bool:
    """Whether a part takes `in_channels`; where that cannot be decided, whether it is given one."""
    kind = _find_class(part, scope)
    known = get_keywords(kind) if kind else None
    return "in_channels" in part or bool(known and "in_channels" in known)


def _choose(
    head: dict, name: str, scope: str, source: str, channels: Sequence[int]
) -> int | list[int]:
    """Return the channels of the map, or the maps, that a head of mmseg chooses."""
    index = head["in_index"] if "in_index" in head else _get_default_index(head, scope)
    if index is None:
        return list(channels)
    indices: list[Any] = [*index] if isinstance(index, list | tuple) else [index]
    for i in indices:
        if not isinstance(i, int) or not -len(channels) <= i < len(channels):
            raise ConfigError(
                f"model.{name}: got in_index={index}, and the {source} gives {len(channels)} maps, "
                f"of {list(channels)} channels: allowed are 0 to {len(channels) - 1}"
            )
    chosen = [channels[i] for i in indices]
    return chosen[0] if isinstance(index, int) else chosen


def _get_default_index(head: dict, scope: str) -> int | Sequence[int] | None:
    """Return the default of a head's `in_index`; None, all maps, if it has no such option."""
    for base in inspect.getmro(_find_class(head, scope) or object):
        initializer = vars(base).get("__init__")
        if initializer is not None and base is not object:
            option = inspect.signature(initializer).parameters.get("in_index")
            if option is not None:
                return option.default
    return None


def _settle(
    part: dict,
    name: str,
    wanted: int | list[int],
    source: str,
    channels: Sequence[int],
) -> None:
    """Fill `in_channels`, or compare it."""
    stated: Any = part.get("in_channels")
    if stated is None:
        part["in_channels"] = wanted
        return
    if isinstance(stated, int) and not isinstance(wanted, int):
        fits = stated in wanted  # a neck of one map
    else:
        fits = (list(stated) if isinstance(stated, list | tuple) else stated) == wanted
    if not fits:
        raise ConfigError(
            f"model.{name}: got in_channels={stated}, and the {source} gives maps of "
            f"{list(channels)} channels, of which this part takes {wanted}: leave in_channels out "
            "(or None), or change the other"
        )
