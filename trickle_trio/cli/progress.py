"""One line that says how it goes: rewritten in place on a terminal, now and then a new one
elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import click
import trio

TERMINAL_INTERVAL: Final = 0.5
PLAIN_INTERVAL: Final = 10.0


async def show_progress(line: Callable[[], str]) -> None:
    """Show ``line()`` on stderr until cancelled."""
    on_terminal = sys.stderr.isatty()
    try:
        while True:
            await trio.sleep(TERMINAL_INTERVAL if on_terminal else PLAIN_INTERVAL)
            text = line()
            click.echo(f"\r\x1b[K{text}" if on_terminal else text, nl=not on_terminal, err=True)
    finally:
        if on_terminal:
            with suppress(OSError):
                click.echo(err=True)
