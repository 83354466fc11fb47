"""Fetch, check and list the weights that have a name, hordet://NAME.

hordet weights list
hordet weights get hornet-small-7x7 resnet-50
hordet weights verify                             # all that are on this machine
hordet weights path hornet-small-7x7
hordet weights rm hornet-small-7x7

A name stands for a file in configs (init_cfg, load_from) and in place of CHECKPOINT. It is looked
for in the folder `pretrained`, then in the cache (HORDET_CACHE, or ~/.cache/hordet), and fetched if
it is in neither. HORDET_MIRROR names a folder or a URL to fetch from in place of the sources; the
proxies of the environment are used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hordet.cli.arguments import add_offline
from hordet.errors import CheckpointError

if TYPE_CHECKING:
    from hordet.checkpoints.weights import Weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="name, MB, license, where it is, what it is")
    get = actions.add_parser("get", help="fetch what is not here yet, and check it")
    get.add_argument("names", nargs="+", metavar="NAME")
    add_offline(get)
    verify = actions.add_parser("verify", help="check what is here; exit code 1 if one is bad")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")
    path = actions.add_parser("path", help="print where the file is")
    path.add_argument("name", metavar="NAME")
    remove = actions.add_parser("rm", help="remove files from the cache")
    remove.add_argument("names", nargs="+", metavar="NAME")
    remove.add_argument(
        "--forget",
        action="store_true",
        help="also forget the SHA-256 of the first fetch, so that the source may give another file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for; return 1 if some of it failed."""
    from hordet.checkpoints.weights import find_weights, read_weights

    if arguments.action == "list":
        return _list([*read_weights().values()])
    if arguments.action == "path":
        return _print_path(find_weights(arguments.name))
    rows = [find_weights(name) for name in arguments.names]  # a wrong name stops before any work
    if arguments.action == "get":
        return _do_each(rows, _get)
    if arguments.action == "rm":
        return _do_each(rows, lambda row: _remove(row, arguments.forget))
    return _verify(rows)


def _list(rows: list[Weights]) -> int:
    from hordet.checkpoints.places import find_here

    width = max(len(row.name) for row in rows)
    for row in rows:
        here = find_here(row)
        size = f"{here.stat().st_size / 1e6:.0f}" if here else f"~{row.megabytes:.0f}"
        place = _shorten(here) if here else "not here"
        print(f"{row.name:{width}}  {size:>5} MB  {row.license:12}  {place}  ({row.what})")
    return 0


def _shorten(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _print_path(row: Weights) -> int:
    from hordet.checkpoints.places import find_here

    path = find_here(row)
    if path is None:
        raise CheckpointError(
            f"{row.name} is not on this machine; hordet weights get {row.name} fetches it"
        )
    print(path.absolute())
    return 0


def _do_each(rows: list[Weights], action: Callable[[Weights], str]) -> int:
    """Do the same with each; one that fails does not keep the others from it."""
    failed = 0
    for row in rows:
        try:
            print(action(row), flush=True)
        except CheckpointError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    return int(bool(failed))


def _get(row: Weights) -> str:
    from hordet.checkpoints.named import ensure_file

    return f"{row.name}  {ensure_file(f'hordet://{row.name}')}"


def _remove(row: Weights, forget: bool) -> str:
    from hordet.checkpoints.named import remove_kept

    removed = remove_kept(row, forget)
    return (
        f"{row.name}  removed {', '.join(map(str, removed)) or 'nothing: it is not in the cache'}"
    )


def _verify(rows: list[Weights]) -> int:
    from hordet.checkpoints.named import check_kept
    from hordet.checkpoints.places import find_here
    from hordet.checkpoints.weights import read_weights

    rows = rows or [row for row in read_weights().values() if find_here(row)]
    return _do_each(rows, lambda row: f"{row.name}  {check_kept(row)}")
