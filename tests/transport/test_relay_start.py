"""A relay that is stopped before it has quite started."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from trickle_trio.relay import serve_relay


@pytest.mark.parametrize("moment", range(10))
async def test_starting_can_be_cancelled_at_any_moment(unused_port: int, moment: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_relay, port=unused_port))
        for _ in range(moment):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # The port is free again: nothing listens any more.
    [listener] = await trio.open_tcp_listeners(unused_port, host="127.0.0.1")
    await listener.aclose()
