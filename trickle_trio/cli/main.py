"""The command's root: which subcommands there are, and what all of them share."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Final

import click

COMMANDS: Final = (
    *("demo", "relay", "publish", "subscribe", "serve", "stream"),
    *("init", "templates", "doctor", "bench"),
)


class Commands(click.Group):
    """Subcommands in the order in which one meets them, each from the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"trickle_trio.cli.{cmd_name}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trickle-trio", prog_name="trickle")
@click.option(
    "-v", "--verbose", count=True, help="Log more (twice: everything). Logs go to stderr."
)
def root(verbose: int) -> None:
    """Put your own code into live video.

    A first look: trickle demo
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """Run the command line."""
    root(prog_name="trickle")
