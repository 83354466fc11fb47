"""Reading a config: merge, check everything at once, and shrink it to a dry run when asked."""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.utils import import_modules_from_strings

from hordet.config.allowed import close_doors, find_dangers
from hordet.config.channels import fill_in_channels
from hordet.config.faults import MAX_FAULTS, find_faults, walk_dicts
from hordet.config.names import find_config
from hordet.config.safe import read_data
from hordet.errors import ConfigError, DatasetError
from hordet.ops.upstream import find_configs_of_packages

# Types by the names that configs in older work folders give them, and by those of today.
_RENAMED = {"hordet.amp.CpuAmpOptimWrapper": "hordet.Bfloat16OptimWrapper"}


def load_config(
    path: str | Path,
    options: dict[str, Any] | None = None,
    tiny: bool = False,
    safe: bool = False,
) -> Config:
    """Read a config file, merge options into it and check the whole.

    Args:
        path: A Python, JSON or YAML config of mmengine's form, or the name of one of hordet's (see
            `find_config`); a base may be one that comes with
            mmdet or mmseg, such as `_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'`, or
            one of the configs here, from any folder, such as `_base_ = 'hordet::coco/NAME.py'`.
        options: Dotted keys and their values, such as `{'model.neck.num_outs': 5}`.
        tiny: Turn the config into a dry run of seconds; see `hordet.config.tiny.make_tiny`.
        safe: Evaluate the config as data, never run it, and refuse names that might run anything,
            in the file and in `options`; for the rest of the process mmengine imports no types.

    Returns:
        The merged config. Keys of the file that nothing reads are its own variables. `in_channels`
        that the file leaves out are those that the backbone or the neck declares.

    Raises:
        ConfigError: The file is missing or cannot be read, an option cannot be applied, the
            config has unknown keys, types or parameters (every fault is listed, with its nearest
            names), or stated channels are not the declared ones.
    """
    path = find_config(path)
    if safe:
        close_doors()
    try:
        with find_configs_of_packages():
            cfg = read_data(path) if safe else Config.fromfile(path)
    except ConfigError:
        raise
    except Exception as error:  # whatever a Python file can raise
        message = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path} cannot be read as a config: {message}") from error
    rename_types(cfg)
    own_keys = set(cfg)
    options = options or {}
    for key, value in options.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"option {key}={value!r} cannot be applied to {path}: {error}"
            ) from error
    if safe:
        _refuse_dangers(path, dict(cfg.items()))
        try:
            import_modules_from_strings(**(cfg.get("custom_imports") or {"imports": None}))
        except (ImportError, TypeError) as error:
            raise ConfigError(f"{path}: custom_imports: {error}") from error
    asked = {key.split(".")[0] for key in options} - own_keys
    faults = find_faults(cfg, asked)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        count += " or more" if len(faults) == MAX_FAULTS else ""
        raise ConfigError("\n  ".join([f"{path} has {count}:", *faults]))
    try:
        fill_in_channels(cfg)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if tiny:
        from hordet.config.tiny import make_tiny  # it draws images, which others need not

        try:
            cfg = make_tiny(cfg)
        except DatasetError:  # a full disk, which is not the config's fault
            raise
        except ValueError as error:
            raise ConfigError(f"{path} has no dry run: {error}") from error
    return cfg


def rename_types(cfg: Config) -> None:
    """Give the types of a config that were renamed since it was written their names of today.

    Args:
        cfg: Changed in place.
    """
    for part in walk_dicts(list(cfg.values())):
        if isinstance(part.get("type"), str):
            part["type"] = _RENAMED.get(part["type"], part["type"])


def _refuse_dangers(path: Path, cfg: dict) -> None:
    if found := list(islice(find_dangers(cfg), 20)):
        raise ConfigError(
            "\n  ".join([f"{path} holds more than data, which --safe-config refuses:", *found])
            + "\nCorrect them; if you trust whoever wrote the file, leave out --safe-config"
        )


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """Turn `key=value` words of a command line into options, values read as mmengine does.

    Raises:
        ConfigError: A word has no `=`, or a value that mmengine cannot read, such as a dict.
    """
    for item in items:
        if "=" not in item:
            raise ConfigError(f"option {item!r} is not of the form key=value")
    parser = argparse.ArgumentParser()
    parser.add_argument("options", nargs="*", action=DictAction, default={})
    try:
        return parser.parse_args(["--", *items]).options
    except (RecursionError, AssertionError) as error:  # how mmengine fails at brackets and dicts
        raise ConfigError(
            f"an option of {' '.join(items)!r} cannot be read; allowed are numbers, words and "
            "lists of them, such as a=[1,2,(3,4)]: for a list of dicts write a config with _base_"
        ) from error
