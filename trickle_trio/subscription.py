"""Reading a channel: ``open_subscription``, then segments, then their bytes as they arrive."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

import httpx
import trio
from attrs import evolve, frozen

from trickle_core import wire
from trickle_core.commands import Command, Deliver, Ending, Finish, Truncate
from trickle_core.subscriber import Reader, Subscriber, SubscriberSettings
from trickle_trio.driver import Access, ChannelEnded, Driver, Room, open_room

Start = Literal["live", "next"] | int
"""Where to begin: at the segment being written, at the one after it, or at a number."""

_POSITIONS: Final[dict[str, int]] = {"live": wire.LIVE_EDGE, "next": wire.NEXT_WRITE}


@frozen
class SubscriptionStatistics:
    """What a subscription has seen so far."""

    segments: int = 0
    skipped: int = 0
    truncated: int = 0
    bytes_received: int = 0


class IncomingSegment:
    """One segment, while it is read: an async iterator of its bytes, in pieces as they arrive.

    ``seq``: its sequence number. ``skipped``: segments missed between the one before and this one.
    ``mime_type``: what the channel says it carries. ``held``: how many of its bytes were there
    already when it was asked for, 0 where the server does not say. ``truncated``: it broke, or was left; what was
    read is not whole. Reading blocks until bytes arrive; a cancelled read gives the rest of the
    segment up.
    """

    def __init__(self, delivery: Deliver, driver: Driver) -> None:
        self.seq = delivery.seq
        self.skipped = delivery.skipped
        self.mime_type = driver.header(delivery.request, "content-type")
        self.held = wire.parse_seq(driver.header(delivery.request, wire.SIZE)) or 0
        self.truncated = False
        self.size = 0
        """Bytes read so far."""
        self._request = delivery.request
        self._driver = driver

    def __aiter__(self) -> IncomingSegment:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._driver.read(self._request)
        if not piece:
            raise StopAsyncIteration
        self.size += len(piece)
        return piece

    async def read(self) -> bytes:
        """The whole segment (control, events, data: one message). Blocks until its end."""
        return b"".join([piece async for piece in self])


class Subscription:
    """An open subscription: an async iterator of ``IncomingSegment``, in order, one at a time.

    It ends when the channel is closed or gone; ``ending`` then says which. A server that refuses,
    or that is out of reach for longer than the retry policy allows, raises ``ChannelEnded``. Asking
    for the next segment leaves the present one. Waiting for a segment blocks for as long as the
    publisher is silent; cancelling it is safe, no segment is lost by it.
    """

    def __init__(self, room: Room, settings: SubscriberSettings) -> None:
        self.url = room.requests.url
        self.ending: Ending | None = None
        self.status: int | None = None
        self._machine = Subscriber(settings, jitter=random.random)
        self._driver = Driver(self._machine, room, self._obey)
        self._present: IncomingSegment | None = None
        self._next: IncomingSegment | None = None
        self._news = trio.lowlevel.ParkingLot()
        self._segments = 0
        self._truncated = 0
        self._bytes_received = 0
        """Of the segments left."""
        room.nursery.start_soon(self._driver.keep_time)
        self._driver.input(self._machine.start)

    def statistics(self) -> SubscriptionStatistics:
        """Counters since the beginning, and of the present segment."""
        size = self._present.size if self._present else 0
        return SubscriptionStatistics(
            self._segments, self._machine.skipped, self._truncated, self._bytes_received + size
        )

    def close(self) -> None:
        """Leave now: requests are given up, the iteration ends. Does not block."""
        self._driver.input(self._machine.close)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> IncomingSegment:
        self._leave_present()
        if self._next is None and self.ending is None:
            await self._wait()
        if self._next is None:
            raise self._end()
        self._present, self._next = self._next, None
        return self._present

    def _leave_present(self) -> None:
        present, self._present = self._present, None
        if present is None:
            return
        if self._machine.reader is Reader.READING and self._next is None:
            present.truncated = True
            self._driver.input(self._machine.drop_segment)
        self._segments += 1
        self._truncated += present.truncated
        self._bytes_received += present.size

    async def _wait(self) -> None:
        """Wait for the next segment or for the end. A segment that comes as the wait is cancelled
        is kept.
        """
        if self._machine.reader is Reader.AWAY:
            self._driver.input(self._machine.want_segment)
        while self._next is None and self.ending is None:
            await self._news.park()

    def _end(self) -> Exception:
        if self.ending in (Ending.REFUSED, Ending.GAVE_UP):
            return ChannelEnded(self.url, self.ending, self.status)
        return StopAsyncIteration()

    def _obey(self, order: Command) -> None:
        match order:
            case Deliver():
                self._next = IncomingSegment(order, self._driver)
                self._news.unpark_all()
            case Truncate() if self._present:
                self._present.truncated = True
            case Finish(ending, status):
                self.ending, self.status = ending, status
                self._news.unpark_all()


@asynccontextmanager
async def open_subscription(
    url: str,
    *,
    start: Start | None = None,
    client: httpx.AsyncClient | None = None,
    token: str | None = None,
    settings: SubscriberSettings | None = None,
) -> AsyncIterator[Subscription]:
    """Subscribe to the channel at ``url`` for the length of an ``async with`` block.

    ``start``: where to begin, the live edge by default. ``client``: send through this client (its
    headers, auth, TLS); without one the subscription has connections of its own over
    ``TrickleTransport``. ``token``: the bearer token that the server asks for. ``settings``: the
    finer choices. ``ValueError``: ``url`` is no channel address, or no header can carry the token.
    Entering does not wait for the server; leaving is quick, and safe under cancellation.
    """
    settings = settings or SubscriberSettings()
    if start is not None:
        position = _POSITIONS[start] if isinstance(start, str) else start
        settings = evolve(settings, start=position)
    async with open_room(url, wire.MPEG_TS, Access(client, token)) as room:
        subscription = Subscription(room, settings)
        try:
            yield subscription
        finally:
            subscription.close()
