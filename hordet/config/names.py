"""The configs that come with hordet, by name; light, for the command lists them at once."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from hordet.errors import ConfigError, did_you_mean

# In a checkout a link to its folder `configs`; a wheel holds the files themselves.
CONFIGS = (Path(__file__).parents[1] / ".mim" / "configs").resolve()
PREFIX = "hordet::"


def find_configs() -> dict[str, Path]:
    """Return the files of the configs of hordet by name (`folder/stem`); none of them is read."""
    files = sorted(CONFIGS.glob("[!_]*/*.py"))
    return {path.relative_to(CONFIGS).with_suffix("").as_posix(): path for path in files}


def list_configs(pattern: str = "*") -> Iterator[tuple[str, str]]:
    """Yield name (`folder/stem`) and first line of the lab note of the configs of hordet.

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
            `hordet::FOLDER/NAME.py`; `configs/` before it may stand.

    Raises:
        ConfigError: There is none, or there are several of that name.
    """
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
    hint = did_you_mean(path.name, beside) or did_you_mean(name, names, names)
    raise ConfigError(
        f"no config file at {word}, and no config of hordet has that name"
        f"{hint or '; `hordet configs` lists them'}"
    )
