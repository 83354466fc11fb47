"""List the configs that come with hordet, each with the first line of its docstring.

hordet configs                     # all
hordet configs nuclei              # those with this in their folder or name
hordet configs '*horfpn*_1x'       # those whose name is like this
"""

import argparse

from hordet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        help="a part of a name, or what it is like: '*horfpn*_1x'",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a line a config."""
    from hordet.config.names import list_configs

    pattern = arguments.pattern
    rows = list(list_configs(pattern)) or list(list_configs(f"*{pattern}*"))
    if not rows:
        raise ConfigError(f"no config has a name like {pattern!r}; `hordet configs` lists them all")
    width = max(len(name) for name, _ in rows)
    for name, note in rows:
        print(f"{name:{width}}  {note}")
    return 0
