"""How a subcommand runs under Trio, and how its failures are worded."""

from __future__ import annotations

import errno
import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn

import click
import trio

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

PATIENCE: Final = 10.0
"""Seconds without the server after which publish and subscribe give up: somebody looks at them."""


def run(program: Callable[[], Awaitable[None]]) -> None:
    """Run a program until it ends or is told to stop; both are success.

    What a user can mend is one clear line: ``OSError``, ``SourceError`` and ``ChannelEnded`` become
    ``click.ClickException``.
    """
    try:
        trio.run(_until_stopped, program)
    except BaseException as error:  # noqa: BLE001  the boundary to the user: worded, or raised again
        _explain(error)


async def _until_stopped(program: Callable[[], Awaitable[None]]) -> None:
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_stop_on_signal, signals, scope)
            with scope:
                await program()
            nursery.cancel_scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """Take every signal: the end is bounded, and a second Ctrl-C must not tear it."""
    async for _ in signals:
        scope.cancel()


def _explain(error: BaseException) -> NoReturn:
    from trickle_trio.driver import ChannelEnded
    from trickle_trio.media.sources import SourceError

    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, click.ClickException | click.exceptions.Exit):
        raise error
    if isinstance(error, ChannelEnded | SourceError):
        raise click.ClickException(str(error)) from error
    if isinstance(error, OSError):
        raise click.ClickException(_word_os_error(error)) from error
    raise error


def _word_os_error(error: OSError) -> str:
    if error.errno == errno.EPIPE:
        raise click.exceptions.Exit(0)
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or error}"


class Seconds(click.FloatRange):
    """A time within bounds. NaN is within none: each comparison with it is false, which click takes for right."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number", param, ctx)
        return seconds


def checked_token(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Check a token given on the command line: one that no header can carry is bad usage."""
    from trickle_core import wire

    try:
        if value is not None:
            wire.bearer(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return value


channel_token = click.option(
    "--token",
    envvar="TRICKLE_RELAY_TOKEN",
    show_envvar=True,
    callback=checked_token,
    help="The relay's bearer token.",
)


def channel_argument(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check an address given on the command line: a wrong one is bad usage."""
    from trickle_trio.driver import channel_url

    try:
        return channel_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
