"""The command `hordet`: a file for each subcommand, light until it runs."""

from hordet.cli.main import main

__all__ = ["main"]
