"""Streams that are stopped at any moment leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from trickle_trio.publication import open_publication
from trickle_trio.subscription import open_subscription


@pytest.mark.parametrize("opener", [open_subscription, open_publication])
@pytest.mark.parametrize("moment", range(12))
async def test_opening_a_channel_can_be_cancelled_at_any_moment(
    unused_port: int, opener: Callable[..., AbstractAsyncContextManager[Any]], moment: int
) -> None:
    """Also between the start of its room and the block inside."""

    async def hold() -> None:
        async with opener(f"http://127.0.0.1:{unused_port}/channel"):
            await trio.sleep_forever()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
