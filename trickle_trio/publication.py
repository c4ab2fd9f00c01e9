"""Writing a channel: ``open_publication``, then segments, then their bytes as they are made."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import httpx
import trio
from attrs import frozen

from trickle_core import wire
from trickle_core.commands import Command, Ending, Finish, Grant, Lose
from trickle_core.publisher import Publisher, PublisherSettings, Writer
from trickle_trio.driver import Access, ChannelEnded, Driver, Room, open_room

FAREWELL: Final = 2.0
"""Seconds that leaving may take: for the answers to the last segments, and for the DELETE of the
channel."""


class SegmentLost(Exception):
    """The connection broke inside this segment. It is closed on the server; go on with a new
    one.
    """


@frozen
class PublicationStatistics:
    """What a publication has done so far."""

    segments: int = 0
    lost: int = 0
    bytes_sent: int = 0


class OutgoingSegment:
    """One segment, to be written inside ``async with``: ended as whole when the block ends, given
    up when it raises or is cancelled.

    Entering blocks until there is a connection to write to. ``ChannelEnded``: there will be none.
    Leaving does not block. ``SegmentLost``: it broke before its end.
    """

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    async def __aenter__(self) -> OutgoingSegment:
        await self._publication._begin_segment()  # noqa: SLF001 - two halves of one thing
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._publication._end_segment(whole=kind is None)  # noqa: SLF001 - likewise

    @property
    def seq(self) -> int:
        """Its sequence number."""
        return self._publication.seq

    async def send(self, data: bytes) -> None:
        """Hand bytes over to the connection.

        Blocks until the connection takes them. ``SegmentLost``: they cannot be part of this segment
        any more. ``ChannelEnded``: nor of any other. A cancelled call has sent nothing.
        """
        await self._publication._send(data)  # noqa: SLF001 - two halves of one thing


class Publication:
    """An open publication. One segment is written at a time: ``async with publication.segment() as
    segment``.
    """

    def __init__(self, room: Room, settings: PublisherSettings) -> None:
        self.url = room.requests.url
        self.ending: Ending | None = None
        self.status: int | None = None
        self.seq = -1
        """Sequence number of the segment last begun."""
        self._machine = Publisher(settings, jitter=random.random)
        self._driver = Driver(self._machine, room, self._obey)
        self._request = -1
        self._news = trio.lowlevel.ParkingLot()
        self._segments = 0
        self._bytes_sent = 0
        room.nursery.start_soon(self._driver.keep_time)
        self._driver.input(self._machine.start)

    def statistics(self) -> PublicationStatistics:
        """Counters since the beginning."""
        return PublicationStatistics(self._segments, self._machine.lost, self._bytes_sent)

    def segment(self) -> OutgoingSegment:
        """The next segment, to be entered."""
        return OutgoingSegment(self)

    async def _begin_segment(self) -> None:
        self._check()
        self._driver.input(self._machine.begin_segment)
        try:
            await self._granted()
        except BaseException:
            self._leave_segment(whole=False)
            raise

    def _end_segment(self, *, whole: bool) -> None:
        lost = whole and self._machine.writer is Writer.BEREFT
        self._leave_segment(whole=whole and not lost)
        if lost:
            raise self._loss()

    async def settled(self) -> int:
        """Wait until no segment that has ended waits for the server's answer any more; returns how
        many were lost so far.

        For those who must know that a segment has arrived. Blocks for ``PublisherSettings.settle``
        seconds at most for each; cancelling is safe.
        """
        while self._machine.settling and self.ending is None:
            await self._news.park()
        return self._machine.lost

    async def wait_ended(self) -> Ending:
        """Wait until nothing can be written any more, also while nothing is being written; returns
        why (``status`` is the server's answer). Blocks for as long as all is well; cancelling is
        safe.
        """
        while self.ending is None:
            await self._news.park()
        return self.ending

    def _leave_segment(self, *, whole: bool) -> None:
        machine, request = self._machine, self._request
        self._request = -1
        if machine.writer is Writer.AWAY:
            return  # the publication was closed meanwhile
        if not whole or machine.writer is Writer.WAITING:
            written = machine.writer is Writer.WRITING and self._driver.body(request).taken
            self._driver.input(partial(machine.drop_segment, untouched=not written))
        else:
            self._driver.input(machine.end_segment)
            self._segments += 1

    async def _send(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            await trio.lowlevel.checkpoint()
            return
        while True:
            request = await self._granted()
            try:
                await self._driver.body(request).send(data)
            except trio.BrokenResourceError:
                await self._verdict(request)
            else:
                self._bytes_sent += len(data)
                return

    async def _granted(self) -> int:
        """The request that takes the segment's bytes; waits for one."""
        while self._machine.writer is Writer.WAITING and self.ending is None:
            await self._news.park()
        self._check()
        if self._machine.writer is not Writer.WRITING:
            raise self._loss()
        return self._request

    def _loss(self) -> SegmentLost:
        return SegmentLost(f"{self.url}: segment {self.seq} is lost")

    async def _verdict(self, request: int) -> None:
        """Wait until the machine has decided about a request that broke."""
        while self._request == request and self._machine.writer is Writer.WRITING:
            await self._news.park()

    def _check(self) -> None:
        if self.ending is not None:
            raise ChannelEnded(self.url, self.ending, self.status)

    def _obey(self, order: Command) -> None:
        match order:
            case Grant(request, seq):
                self._request, self.seq = request, seq
            case Lose():
                self._request = -1
            case Finish(ending, status):
                self.ending, self.status = ending, status
        self._news.unpark_all()

    async def close(self, farewell: float = FAREWELL) -> None:
        """Leave: a segment still open is given up, the last whole ones are waited for, ``farewell``
        seconds at most.

        Safe to call more than once. A cancelled call leaves the rest to the end of
        ``open_publication``.
        """
        self._driver.input(self._machine.close)
        with trio.move_on_after(farewell):
            while self.ending is None:
                await self._news.park()


@asynccontextmanager
async def open_publication(
    url: str,
    *,
    mime_type: str = wire.MPEG_TS,
    client: httpx.AsyncClient | None = None,
    token: str | None = None,
    settings: PublisherSettings | None = None,
) -> AsyncIterator[Publication]:
    """Publish to the channel at ``url`` for the length of an ``async with`` block.

    ``mime_type``: what the segments carry. ``client``: send through this client (its headers, auth,
    TLS); without one the publication has connections of its own over ``TrickleTransport``.
    ``token``: the bearer token that the server asks for. ``settings``: where to begin, whether to
    make the channel (done without them), whether to delete it, how long to retry. ``ValueError``:
    ``url`` is no channel address, or no header can carry the token. Entering does not wait for the
    server. Leaving waits up to ``FAREWELL`` seconds for the last segments to arrive, also under
    cancellation.
    """
    async with open_room(url, mime_type, Access(client, token)) as room:
        publication = Publication(room, settings or PublisherSettings(create=True))
        try:
            yield publication
        finally:
            with trio.CancelScope(shield=True):
                await publication.close()
