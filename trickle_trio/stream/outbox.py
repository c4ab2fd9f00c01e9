"""Messages on their way out beside the media: queued without waiting, published in order,
bounded.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from contextlib import suppress
from typing import Final

import trio
from attrs import define, field

from trickle_core import wire
from trickle_core.publisher import PublisherSettings
from trickle_core.retry import RetryPolicy
from trickle_trio.driver import ChannelEnded
from trickle_trio.publication import Publication, SegmentLost, open_publication
from trickle_trio.stream.meters import Meters

log: Final = logging.getLogger(__name__)

PATIENT: Final = PublisherSettings(create=True, retry=RetryPolicy(give_up_after=math.inf))
"""The stream is worth more than its events: they are retried for as long as it lives."""

EVENT_KEEPALIVE: Final = 10.0
"""Seconds between heartbeats. A gateway gives a stream up whose events channel is silent for 30
s."""

DATA_INTERVAL: Final = 0.333
"""Seconds over which data is gathered into one segment."""

DATA_KEEPALIVE: Final = 25.0
"""Seconds after which a silent data channel gets an empty line."""

ATTEMPTS: Final = 5
"""How often a batch is published whose segment is lost. A server that is out of reach does not count
as that, it is waited for; one that breaks every time does not want this batch."""

WAITING: Final = 4096
"""Messages that may wait; beyond that the oldest go."""

WAITING_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait, likewise: messages may be long."""


@define(eq=False)
class Waiting:
    """Messages that wait for their turn, bounded. Any thread may put them; the loop takes them."""

    _messages: deque[bytes] = field(factory=deque, init=False)
    _bytes: int = field(default=0, init=False)
    _is_open: bool = field(default=True, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    _token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token, init=False)

    def put(self, message: bytes) -> int | None:
        """Add a message. Returns how many had to go for it, the oldest first; None: it is too late."""
        with self._lock:
            if not self._is_open:
                return None
            self._messages.append(message)
            self._bytes += len(message)
            lost = self._make_room()
        self._ring()
        return lost

    def _make_room(self) -> int:
        lost = 0
        while len(self._messages) > WAITING or self._bytes > WAITING_BYTES:
            self._bytes -= len(self._messages.popleft())
            lost += 1
        return lost

    def _ring(self) -> None:
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._news.set()
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        """No more messages; those that wait may still be taken."""
        with self._lock:
            self._is_open = False
        self._news.set()

    def take(self, most: int) -> list[bytes]:
        """Take up to so many messages; does not wait."""
        with self._lock:
            taken = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
            self._bytes -= sum(map(len, taken))
        return taken

    async def wait(self) -> bool:
        """Wait until there is a message; False: there will be none. Cancelling is safe."""
        while self._is_open and not self._messages:
            await self._news.wait()
            self._news = trio.Event()
        await trio.lowlevel.checkpoint()
        return bool(self._messages)

    async def wait_for_end(self) -> None:
        """Wait until no more messages will be put. Cancelling is safe."""
        while self._is_open:
            await self._news.wait()
            self._news = trio.Event()


@define(eq=False)
class Outbox:
    """Publishes messages on one channel, a segment for every batch.

    ``put`` never waits; when as much waits as may, the oldest is dropped and counted. ``gather``:
    seconds to wait for company before a batch leaves; 0: each message is a segment of its own.
    ``keepalive``: after how many seconds of silence ``idle`` is sent. Make it inside ``trio.run``.
    """

    name: str
    url: str
    mime_type: str
    meters: Meters
    gather: float = 0.0
    keepalive: float = math.inf
    idle: bytes = b""
    token: str | None = field(default=None, repr=False)
    """What the server asks for."""
    dropped: int = 0
    """Messages that nobody will read."""
    _waiting: Waiting = field(factory=Waiting, init=False)
    _counting: threading.Lock = field(factory=threading.Lock, init=False)
    _shelter: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True), init=False)

    def put(self, message: str) -> bool:
        """Queue a message; False: it is too late for that. Never blocks; any thread may call it."""
        lost = self._waiting.put(message.encode())
        if lost is None:
            self._lose("a message came too late: the channel has ended")
        elif lost:
            self._lose("a message was dropped: the channel does not take them", lost)
        return lost is not None

    def close(self, within: float) -> None:
        """No more messages; ``run`` ends when what is queued has left, in so many seconds at
        most.
        """
        self._waiting.close()
        self._shelter.deadline = trio.current_time() + within

    async def run(self) -> None:
        """Publish until ``close``, which must follow: a cancellation does not reach in here, for
        whoever it ends still has something to say. Never raises for what a peer does.
        """
        with self._shelter:
            try:
                async with open_publication(
                    self.url, mime_type=self.mime_type, token=self.token, settings=PATIENT
                ) as publication:
                    while (batch := await self._batch()) is not None:
                        await self._publish(publication, batch)
            except ChannelEnded as error:
                self.meters.error(self.name, str(error))
                log.warning("%s channel: %s", self.name, error)
        self._waiting.close()
        if left := len(self._waiting.take(WAITING)):
            self._lose("messages were dropped: the channel has ended", left)

    async def _batch(self) -> bytes | None:
        """Wait for what to send: messages, or the sign of life. None: there will be no more."""
        with trio.move_on_after(self.keepalive) as silence:
            if not await self._waiting.wait():
                return None
        if silence.cancelled_caught:
            return self.idle
        if not self.gather:
            return b"".join(self._waiting.take(1))
        with trio.move_on_after(self.gather):
            await self._waiting.wait_for_end()
        return b"".join(message + b"\n" for message in self._waiting.take(WAITING))

    async def _publish(self, publication: Publication, batch: bytes) -> None:
        """Publish a batch, again when its segment is lost: readers of a broken one were told."""
        for _ in range(ATTEMPTS):
            if await self._attempt(publication, batch):
                return
            self.meters.error(self.name, f"segment {publication.seq} was lost")
        self._lose(f"{len(batch)} bytes were dropped: their segment was lost {ATTEMPTS} times")

    async def _attempt(self, publication: Publication, batch: bytes) -> bool:
        """Whether the server has the batch: it may also be lost behind the end of its segment."""
        lost = publication.statistics().lost
        try:
            async with publication.segment() as segment:
                await segment.send(batch)
        except SegmentLost:
            return False
        return await publication.settled() == lost

    def _lose(self, reason: str, count: int = 1) -> None:
        with self._counting:
            self.dropped += count
            self.meters.error(self.name, reason, count)


def events_outbox(url: str, meters: Meters, token: str | None = None) -> Outbox:
    """The events channel: a segment an event."""
    return Outbox("events", url, wire.JSON, meters, token=token)


def data_outbox(url: str, meters: Meters, token: str | None = None) -> Outbox:
    """The data channel: JSON lines, gathered."""
    return Outbox(
        "data",
        url,
        wire.JSON_LINES,
        meters,
        DATA_INTERVAL,
        DATA_KEEPALIVE,
        json.dumps({"keep": "alive"}).encode() + b"\n",
        token,
    )
