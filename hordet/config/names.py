"""The configs that come with hordet, by name; light, for the command lists them at once."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from hordet.checkpoints.weights import (
    SHIPPED,
    Weights,
    find_published,
    find_weights,
    is_named,
    suggest_name,
)
from hordet.errors import ConfigError, did_you_mean

# In a checkout a link to its folder `configs`; a wheel holds the files themselves.
CONFIGS = (Path(__file__).parents[1] / ".mim" / "configs").resolve()
PREFIX = "hordet::"


def find_configs() -> dict[str, Path]:
    """Return the files of the configs of hordet by name (`folder/stem`); none of them is read."""
    files = sorted(CONFIGS.glob("[!_]*/*.py"))
    return {path.relative_to(CONFIGS).with_suffix("").as_posix(): path for path in files}


def list_configs(pattern: str = "*") -> Iterator[tuple[str, str]]:
    """Yield name (`folder/stem`) and first line of the docstring of the configs of hordet.

    Args:
        pattern: What a name, with its folder or without, is like, as of a shell.
    """
    for name, path in find_configs().items():
        if fnmatchcase(name, pattern) or fnmatchcase(path.stem, pattern):
            note = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            yield name, note.partition("\n")[0]


def find_config(word: str | Path) -> Path:
    """Return the file that a word on the command line means.

    Args:
        word: A file; or a config that comes with hordet, as `NAME`, `FOLDER/NAME` or
            `hordet::FOLDER/NAME.py`; `configs/` before it may stand; or `hordet://NAME` of a whole
            model that has a name: its config.

    Raises:
        ConfigError: There is none, or there are several of that name.
        CheckpointError: No weights have the name.
    """
    if is_named(word):
        return _find_config_of(find_weights(str(word)))
    path = Path(word)
    if path.is_file():
        return path
    name = str(word).removeprefix(PREFIX).removeprefix("configs/").removesuffix(".py")
    known = find_configs()
    found = [key for key, file in known.items() if name in (key, file.stem)]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise ConfigError(f"{len(found)} configs are named {name!r}: say {' or '.join(found)}")
    beside = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
    names = {key: key for key in known} | {file.stem: key for key, file in known.items()}
    hint = (
        suggest_name(str(word))
        or did_you_mean(path.name, beside)
        or did_you_mean(name, names, names)
    )
    raise ConfigError(
        f"no config file at {word}, and no config of hordet has that name"
        f"{hint or '; `hordet configs` lists them'}"
    )


def find_weights_of(word: str | Path) -> Weights | None:
    """Return the weights that come with a config: its shipped or its published model, or None.

    Args:
        word: As of `find_config`.

    Raises:
        ConfigError: As `find_config`.
        CheckpointError: As `find_config`.
    """
    if is_named(word):
        weights = find_weights(str(word))
        _find_config_of(weights)
        return weights
    path = find_config(word).resolve()
    if not path.is_relative_to(CONFIGS):
        return None
    return find_published(path.relative_to(CONFIGS).with_suffix("").as_posix())


def _find_config_of(weights: Weights) -> Path:
    """Return the config of a whole model."""
    if weights.config is None:
        raise ConfigError(
            f"hordet://{weights.name} has the weights of a backbone, {weights.what}, and no config "
            "of a whole model. Give a config that starts from it"
        )
    if weights.is_shipped:
        return SHIPPED / f"{weights.config}.py"
    return find_configs()[weights.config]
