"""``TrickleSubscriber``: a channel's segments, asked for one by one."""

from __future__ import annotations

from functools import partial
from typing import Final

from trickle_core import wire
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.driver import channel_url
from trickle_trio.faces.housing import Housed
from trickle_trio.subscription import IncomingSegment, Subscription, open_subscription

CHUNK: Final = 32 * 1024
"""Bytes that a read gives at most, unless it says otherwise."""


class SegmentReader:
    """One segment, while it is read."""

    def __init__(self, segment: IncomingSegment) -> None:
        self._segment = segment
        self._rest = b""
        self._closed = False

    def seq(self) -> int:
        """Its sequence number."""
        return self._segment.seq

    def eos(self) -> bool:
        """Whether this is the end of the channel: never, for then ``next`` gives no segment."""
        return False

    async def read(self, chunk_size: int = CHUNK) -> bytes:
        """Return what comes next, ``chunk_size`` bytes at most; ``b""`` at the end. Below 0: all the rest.

        Blocks until something arrives. A cancelled read gives the rest of the segment up.
        """
        if chunk_size < 0:
            return b"".join([piece async for piece in self])
        piece = self._rest or await self._next_piece()
        self._rest = piece[chunk_size:]
        return piece[:chunk_size]

    def __aiter__(self) -> SegmentReader:
        return self

    async def __anext__(self) -> bytes:
        piece, self._rest = self._rest or await self._next_piece(), b""
        if not piece:
            raise StopAsyncIteration
        return piece

    async def close(self) -> None:
        """Read no more of it."""
        self._closed, self._rest = True, b""

    async def _next_piece(self) -> bytes:
        return b"" if self._closed else await anext(self._segment, b"")


class TrickleSubscriber(Housed[Subscription]):
    """Reads a channel: ``async with TrickleSubscriber(url) as subscriber``, or without, and then ``close()``.

    ``start_seq``: -2 the live edge, -1 the next segment, or a sequence number. Raises ValueError where ``url`` is no
    channel's address. Make it inside ``trio.run``.
    """

    def __init__(self, url: str, start_seq: int = wire.LIVE_EDGE) -> None:
        self.url = channel_url(url)
        settings = SubscriberSettings(start=start_seq)
        super().__init__(partial(open_subscription, self.url, settings=settings))

    async def next(self) -> SegmentReader | None:
        """Wait for the next segment, and leave the one before; None once the channel has ended, or after ``close``.

        Blocks for as long as the publisher is silent; cancelling is safe. Raises ChannelEnded where the server refuses,
        or is out of reach for too long.
        """
        if self._closing.is_set():
            return None
        segment = await anext(await self._inside(), None)
        return None if segment is None else SegmentReader(segment)

    async def _leave(self, opened: Subscription) -> None:
        opened.close()
