"""The ``trickle`` command. Each subcommand is a module of its own and imports what it needs when it
runs.
"""

from trickle_trio.cli.main import main

__all__ = ["main"]
