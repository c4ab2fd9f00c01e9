"""``trickle subscribe``: a channel's bytes, to a file or into a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

from trickle_trio.cli.running import PATIENCE, channel_argument, channel_token, run

if TYPE_CHECKING:
    from trickle_trio.subscription import Start, Subscription


class Position(click.ParamType[object]):
    """``live``, ``next`` or a sequence number."""

    name = "live|next|SEQ"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read a position."""
        if value in ("live", "next"):
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value)
        return self.fail(f"{value!r} is neither live, next nor a sequence number", param, ctx)


@click.command()
@click.argument("url", metavar="CHANNEL_URL", callback=channel_argument)
@click.option(
    "-o",
    "--output",
    type=click.File("wb", lazy=True),
    default="-",
    help="A file; the standard output without it.",
)
@click.option(
    "--from", "start", type=Position(), default="live", show_default=True, help="Where to begin."
)
@channel_token
def command(url: str, output: BinaryIO, start: Start, token: str | None) -> None:
    """Read a channel until it ends.

    trickle subscribe http://127.0.0.1:3389/out | ffplay -
    """
    import trio

    from trickle_core.retry import RetryPolicy
    from trickle_core.subscriber import SubscriberSettings
    from trickle_trio.cli.progress import show_progress
    from trickle_trio.subscription import open_subscription

    settings = SubscriberSettings(retry=RetryPolicy(give_up_after=PATIENCE))

    async def program() -> None:
        async with (
            open_subscription(url, start=start, token=token, settings=settings) as subscription,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(show_progress, lambda: _describe(subscription))
            await _copy(subscription, output)
            nursery.cancel_scope.cancel()
        _check(subscription)

    run(program)


async def _copy(subscription: Subscription, output: BinaryIO) -> None:
    import trio

    async for segment in subscription:
        # Not before there is something for it: a file that is there is emptied by this.
        sink = trio.wrap_file(output)
        async for piece in segment:
            await sink.write(piece)
            await sink.flush()


def _describe(subscription: Subscription) -> str:
    seen = subscription.statistics()
    return (
        f"{seen.segments} segments, {seen.bytes_received / 1e6:.1f} MB, "
        f"{seen.skipped} skipped, {seen.truncated} truncated"
    )


def _check(subscription: Subscription) -> None:
    from trickle_core.commands import Ending

    if subscription.ending is Ending.GONE and not subscription.statistics().bytes_received:
        raise click.ClickException(f"{subscription.url}: {Ending.GONE.value}")
