"""Fetch, check and list the weights that have a name, hordet://NAME.

hordet weights list
hordet weights get hornet-small-7x7 resnet-50
hordet weights verify                             # all that are on this machine
hordet weights path hornet-small-7x7
hordet weights rm hornet-small-7x7

A name stands for a file in configs (init_cfg, load_from) and in place of CHECKPOINT. It is looked
for in the folder `pretrained`, then in the cache (HORDET_CACHE, or ~/.cache/hordet), and fetched if
it is in neither. HORDET_MIRROR names a folder or a URL to fetch from in place of the sources; the
proxies of the environment are used. One that fails does not keep the others from being done; the
exit code is then 1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hordet.cli.arguments import add_offline
from hordet.errors import CheckpointError, UserError

if TYPE_CHECKING:
    from hordet.checkpoints.weights import Weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="what has a name: MB, license, where it is, what it is")
    get = actions.add_parser("get", help="fetch what is not here yet; check all")
    get.add_argument("names", nargs="+", metavar="NAME")
    add_offline(get)
    verify = actions.add_parser("verify", help="check what is here; exit code 1 if one is bad")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")
    path = actions.add_parser("path", help="print where a file is")
    path.add_argument("name", metavar="NAME")
    remove = actions.add_parser("rm", help="remove files from the cache")
    remove.add_argument("names", nargs="+", metavar="NAME")
    remove.add_argument(
        "--forget",
        action="store_true",
        help="also forget the SHA-256 of what came first, so that a source may give another file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for; return 1 if some of it failed."""
    from hordet.checkpoints.weights import find_weights, read_weights

    if arguments.action == "list":
        return _list([*read_weights().values()])
    if arguments.action == "path":
        return _print_path(find_weights(arguments.name))
    if arguments.action == "get":
        return _do_each(arguments.names, _get)
    if arguments.action == "rm":
        return _do_each(arguments.names, lambda row: _remove(row, arguments.forget))
    return _verify(arguments.names)


def _list(rows: list[Weights]) -> int:
    """Print a table; on a narrow terminal, what each is has a line of its own."""
    from hordet.checkpoints.places import find_here, locate

    lines = [("NAME", "MB", "LICENSE", "WHERE", "WHAT")]
    for row in rows:
        here = find_here(row)
        size = f"{here.stat().st_size / 1e6:.0f}" if here else f"~{row.megabytes:.0f}"
        lines.append((row.name, size, row.license, _describe_place(row, here), row.what))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_wide = sum(widths) + 2 * len(widths) <= shutil.get_terminal_size().columns
    for name, size, license_, place, what in lines:
        line = f"{name:{widths[0]}}  {size:>{widths[1]}}  {license_:{widths[2]}}  "
        if is_wide:
            print(f"{line}{place:{widths[3]}}  {what}")
        else:
            print(f"{line}{place}" + (f"\n    {what}" if name != "NAME" else ""))
    print(f"\ncache: {_shorten(locate(rows[0]).parent)}; `hordet weights path NAME` has a path")
    return 0


def _describe_place(row: Weights, here: Path | None) -> str:
    """Say in a word where a file is."""
    from hordet.checkpoints.places import BY_HAND

    if here is None:
        return "not here"
    if row.is_shipped:
        return "hordet"
    return str(BY_HAND) if here.parent == BY_HAND else "cache"


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


def _do_each(names: list[str], action: Callable[[Weights], str]) -> int:
    """Do the same with each; one that fails does not keep the others from it.

    Returns:
        0; 1 if some failed; 2 if a name is unknown.
    """
    from hordet.checkpoints.weights import find_weights

    code = 0
    for name in names:
        known = False
        try:
            row = find_weights(name)
            known = True
            print(action(row), flush=True)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            code = max(code, 1 if known else 2)
    return code


def _get(row: Weights) -> str:
    from hordet.checkpoints.named import check_kept, ensure_file
    from hordet.checkpoints.places import BY_HAND, find_here

    here = find_here(row)
    if here is None:  # what is fetched is checked
        return f"{row.name}  {ensure_file(f'hordet://{row.name}')}"
    found = check_kept(row)
    return f"{row.name}  {found if here.parent == BY_HAND else here}"


def _remove(row: Weights, forget: bool) -> str:
    from hordet.checkpoints.named import remove_kept
    from hordet.checkpoints.places import find_here

    if row.is_shipped:
        return f"{row.name}  removed nothing: it ships with hordet and stays ({find_here(row)})"
    removed = [str(path) for path in remove_kept(row, forget)]
    words = f"removed {', '.join(removed) or 'nothing: it is not in the cache'}"
    left = find_here(row)
    stays = f"; {left}, which was put there by hand, stays" if left else ""
    return f"{row.name}  {words}{stays}"


def _verify(names: list[str]) -> int:
    from hordet.checkpoints.named import check_kept
    from hordet.checkpoints.places import find_here
    from hordet.checkpoints.weights import read_weights

    names = names or [row.name for row in read_weights().values() if find_here(row)]
    return _do_each(names, lambda row: f"{row.name}  {check_kept(row)}")
