"""List the configs that come with hordet, each with the first line of its lab note.

hordet configs                     # all
hordet configs '*horfpn*'          # those whose name is like this
"""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="what a name is like, such as '*horfpn*'"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a line a config."""
    from hordet.config.names import list_configs

    rows = list(list_configs(arguments.pattern))
    if not rows:
        print(f"error: no config has a name like {arguments.pattern!r}", file=sys.stderr)
        return 2
    width = max(len(name) for name, _ in rows)
    for name, note in rows:
        print(f"{name:{width}}  {note}")
    return 0
