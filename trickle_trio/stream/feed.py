"""From a source to a channel: what ``trickle publish`` and ``trickle demo`` send.

Three tasks in a line: one reads the source on threads and a little ahead, one waits until each unit is due, one cuts
segments and writes them. A cancellation calls a waiting read back, ends the open segment as it is, and is bounded: a
thread that is stuck in a network is left to come back by itself when its time is up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import trio
from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit
from trickle_trio.driver import open_hidden_nursery
from trickle_trio.media.sources import Source, SourceError
from trickle_trio.publication import Publication
from trickle_trio.stream.cutting import Cutter, Due, FeedProgress

S = TypeVar("S", bound=Source)

SOURCE_THREADS: Final = trio.CapacityLimiter(64)
"""Apart from the codecs' threads: one that waits for a pipe or a network may wait for ever."""

READ_AHEAD: Final = 32
"""Batches of units: a picture and its sound each, so about a second, which covers the opening of a file again."""

LONGEST_BURST: Final = 1.0
"""Seconds of media that are sent at once after a stall. What was longer late than that stays so."""

CALL_BACK: Final = 0.5
"""Seconds that a reading thread gets to come back when it is called."""

FAREWELL: Final = 1.0
"""Seconds that a cancelled feed may take to end its open segment."""


@asynccontextmanager
async def open_source(source: S) -> AsyncIterator[S]:
    """Open a source for the length of an ``async with`` block.

    Waits until it is open; ``SourceError`` says why it cannot be. A cancelled call leaves nothing open.
    """
    try:
        await _on_thread(source.open)
        yield source
    finally:
        source.close()


async def _on_thread(call: Callable[[], list[AccessUnit] | None]) -> list[AccessUnit]:
    """Run a source's blocking call. A cancellation abandons it; who cancels calls it back by closing the source."""
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=SOURCE_THREADS) or []


@define
class Pacer:
    """Holds units back until they are due, by Trio's clock.

    Due is counted from the first one, so nothing adds up. Who is late is not held back, and neither is what comes
    after, until it has caught up; but not for more than ``burst`` seconds of media: the rest of the delay stays.
    """

    burst: float = LONGEST_BURST
    _start: float | None = None
    """When time 0 is due."""

    async def wait(self, time: int) -> float:
        """Wait until this time, in 1/90000 s, is due; says by how many seconds that has passed. A checkpoint."""
        now, seconds = trio.current_time(), time / CLOCK_RATE
        self._start = now - seconds if self._start is None else self._start
        late = now - self._start - seconds
        if late > self.burst:
            self._start += late - self.burst
        await trio.sleep_until(self._start + seconds)
        return max(0.0, late)


async def feed(
    source: Source,
    publication: Publication,
    *,
    realtime: bool = True,
    segment_seconds: float = 2.0,
    progress: Callable[[FeedProgress], None] | None = None,
) -> FeedProgress:
    """Send what an open source has to a publication, until the source ends; then close the source.

    ``realtime``: units are sent when they are due, not as fast as they can be read; a live source that pushes is its
    own clock. A segment begins with the tables and a key picture, and lasts ``segment_seconds`` or a little longer;
    where there is no picture, it is cut by time alone. A segment that is lost is followed by one that begins at the
    next key picture. ``progress`` is called after each unit.

    ``SourceError``: the source broke off; what came before has been sent. ``ChannelEnded``: the channel did. Cancelling
    is safe: the open segment is ended, within ``FAREWELL`` seconds, and the source is closed.
    """
    if segment_seconds <= 0:
        raise ValueError(f"segment_seconds is {segment_seconds}; a segment has a length")
    cutter = Cutter(publication, source.streams, round(segment_seconds * CLOCK_RATE), progress)
    pacer = Pacer() if realtime and not source.keeps_time else None
    return await _Feed(source, cutter, pacer).run()


@define(eq=False)
class _Feed:
    """The three tasks, and what ends them."""

    source: Source
    cutter: Cutter
    pacer: Pacer | None
    _reading: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True))
    _fault: SourceError | None = None

    async def run(self) -> FeedProgress:
        batches_in, batches_out = trio.open_memory_channel[list[AccessUnit]](READ_AHEAD)
        due_in, due_out = trio.open_memory_channel[Due](0)
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._call_back)
            nursery.start_soon(self._read, batches_in)
            nursery.start_soon(self._pace, batches_out, due_in)
            await self.cutter.run(due_out)
            nursery.cancel_scope.cancel()
        if self._fault:
            raise self._fault
        return self.cutter.progress

    async def _call_back(self) -> None:
        """At the end, whatever it is: the reader and an open segment are shielded, and get a last moment each."""
        try:
            await trio.sleep_forever()
        finally:
            self.source.close()
            self._reading.deadline = trio.current_time() + CALL_BACK
            self.cutter.farewell.deadline = trio.current_time() + FAREWELL

    async def _read(self, out: trio.MemorySendChannel[list[AccessUnit]]) -> None:
        with out, self._reading, suppress(trio.BrokenResourceError):  # nobody takes any more
            try:
                while batch := await _on_thread(self.source.read):
                    await out.send(batch)
            except SourceError as error:
                self._fault = error  # raised when all that came before has been sent

    async def _pace(
        self,
        batches: trio.MemoryReceiveChannel[list[AccessUnit]],
        out: trio.MemorySendChannel[Due],
    ) -> None:
        with batches, out, suppress(trio.BrokenResourceError):  # the writer says why
            async for batch in batches:
                for unit in batch:
                    late = await self.pacer.wait(unit.dts) if self.pacer else 0.0
                    await out.send(Due(unit, late))
