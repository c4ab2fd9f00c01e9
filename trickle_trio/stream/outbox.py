"""Messages on their way out beside the media: queued without waiting, published in order,
bounded.
"""

from __future__ import annotations

import json
import logging
import math
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


@define(eq=False)
class Outbox:
    """Publishes messages on one channel, a segment for every batch.

    ``put`` never waits; when ``WAITING`` messages wait already, the oldest is dropped and counted.
    ``gather``: seconds to wait for company before a batch leaves; 0: each message is a segment of
    its own. ``keepalive``: after how many seconds of silence ``idle`` is sent.
    """

    name: str
    url: str
    mime_type: str
    meters: Meters
    gather: float = 0.0
    keepalive: float = math.inf
    idle: bytes = b""
    dropped: int = 0
    _put: trio.MemorySendChannel[str] = field(init=False)
    _get: trio.MemoryReceiveChannel[str] = field(init=False)
    _shelter: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True), init=False)

    def __attrs_post_init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[str](WAITING)

    def put(self, message: str) -> bool:
        """Queue a message; False: it is too late for that."""
        try:
            self._put.send_nowait(message)
        except trio.WouldBlock:
            self._get.receive_nowait()
            self._put.send_nowait(message)
            self._lose("a message was dropped: the channel does not take them")
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return False
        return True

    def close(self, within: float) -> None:
        """No more messages; ``run`` ends when what is queued has left, in so many seconds at
        most.
        """
        self._put.close()
        self._shelter.deadline = trio.current_time() + within

    async def run(self) -> None:
        """Publish until ``close``, which must follow: a cancellation does not reach in here, for
        whoever it ends still has something to say. Never raises for what a peer does.
        """
        with self._shelter, self._get:
            try:
                async with open_publication(
                    self.url, mime_type=self.mime_type, settings=PATIENT
                ) as publication:
                    while (batch := await self._batch()) is not None:
                        await self._publish(publication, batch)
            except ChannelEnded as error:
                self.meters.error(self.name, str(error))
                log.warning("%s channel: %s", self.name, error)

    async def _batch(self) -> bytes | None:
        """Wait for what to send: messages, or the sign of life. None: there will be no more."""
        messages: list[str] = []
        try:
            with trio.move_on_after(self.keepalive):
                messages.append(await self._get.receive())
        except trio.EndOfChannel:
            return None
        if not messages:
            return self.idle
        if not self.gather:
            return messages[0].encode()
        with trio.move_on_after(self.gather):
            async for message in self._get:
                messages.append(message)  # noqa: PERF401  a comprehension would lose all when time is up
        return "".join(f"{message}\n" for message in messages).encode()

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

    def _lose(self, reason: str) -> None:
        self.dropped += 1
        self.meters.error(self.name, reason)


def events_outbox(url: str, meters: Meters) -> Outbox:
    """The events channel: a segment an event."""
    return Outbox("events", url, wire.JSON, meters)


def data_outbox(url: str, meters: Meters) -> Outbox:
    """The data channel: JSON lines, gathered."""
    return Outbox(
        "data",
        url,
        wire.JSON_LINES,
        meters,
        DATA_INTERVAL,
        DATA_KEEPALIVE,
        json.dumps({"keep": "alive"}).encode() + b"\n",
    )
