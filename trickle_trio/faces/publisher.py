"""``TricklePublisher``: a channel's segments, begun one by one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Self

from trickle_core import wire
from trickle_trio.driver import channel_url
from trickle_trio.faces.housing import Housed
from trickle_trio.publication import OutgoingSegment, Publication, open_publication


class SegmentWriter:
    """One segment, while it is written: ``async with await publisher.next() as segment``, or ``close()`` it.

    A block that raises or is cancelled gives the segment up: half of it must not be taken for the whole.
    """

    def __init__(
        self, segment: OutgoingSegment, block: AbstractAsyncContextManager[OutgoingSegment]
    ) -> None:
        self._segment = segment
        self._block: AbstractAsyncContextManager[OutgoingSegment] | None = block

    def seq(self) -> int:
        """Its sequence number."""
        return self._segment.seq

    async def write(self, data: bytes) -> None:
        """Hand bytes over to the connection; blocks until it takes them, and a cancelled call has sent nothing.

        Raises SegmentLost where they cannot be part of this segment any more, ChannelEnded where of no other.
        """
        await self._segment.send(data)

    async def close(self) -> None:
        """End the segment as whole; nothing the second time. Raises SegmentLost where it is lost."""
        await self.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        block, self._block = self._block, None
        if block is not None:
            await block.__aexit__(kind, error, traceback)


class TricklePublisher(Housed[Publication]):
    """Writes a channel: ``async with TricklePublisher(url) as publisher``, or without, and then ``close()``.

    The channel is made where the server allows that. One segment is written at a time. ``mime_type``: what the segments
    carry. Raises ValueError where ``url`` is no channel's address. Make it inside ``trio.run``.
    """

    def __init__(self, url: str, mime_type: str = wire.MPEG_TS) -> None:
        self.url = channel_url(url)
        self.mime_type = mime_type
        super().__init__(partial(open_publication, self.url, mime_type=mime_type))

    async def next(self) -> SegmentWriter:
        """Begin the next segment, when the one before is closed.

        Blocks until there is a connection to write to; cancelling is safe. Raises ChannelEnded where there will be
        none, RuntimeError after ``close``.
        """
        publication = await self._inside()
        block = publication.segment()
        return SegmentWriter(await block.__aenter__(), block)

    async def _leave(self, opened: Publication) -> None:
        await opened.close()
