"""How a station that has something to finish ends: not in the middle, and not late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


async def finish_within(seconds: float, station: Callable[[], Awaitable[None]]) -> None:
    """Run a station that a cancellation from outside gives ``seconds`` to end by itself.

    The station must end on its own when what feeds it does: the same cancellation ends that.
    """
    async with trio.open_nursery() as nursery:
        shield = trio.CancelScope(shield=True)
        nursery.start_soon(_limit, shield, seconds)
        with shield:
            await station()
        nursery.cancel_scope.cancel()


async def _limit(shield: trio.CancelScope, seconds: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        shield.deadline = trio.current_time() + seconds
