"""Units become segments: where one ends and the next begins, and what happens when one is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from attrs import evolve, frozen

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream, Muxer
from trickle_trio.publication import OutgoingSegment, Publication, SegmentLost

TOLERANCE: Final = CLOCK_RATE // 1000
"""A key picture so little before the end of a segment begins the next one: times are rounded."""

PATIENCE: Final = 2
"""How many segments' length a picture may stay away before the sound goes on without it."""


@frozen
class Due:
    """A unit that may be sent now, and by how many seconds that is late."""

    unit: AccessUnit
    late: float = 0.0


@frozen
class FeedProgress:
    """What has been sent so far.

    ``seconds``: of media. ``late``: by how many seconds the last unit was. ``dropped``: pictures and sounds that had no
    segment to go into, before the first key picture, and after a lost segment up to the next one.
    """

    pictures: int = 0
    sounds: int = 0
    segments: int = 0
    lost: int = 0
    dropped: int = 0
    seconds: float = 0.0
    late: float = 0.0


class Cutter:
    """Writes units to a publication. ``length`` of a segment is in 1/90000 s, at least."""

    def __init__(
        self,
        publication: Publication,
        streams: tuple[ElementaryStream, ...],
        length: int,
        report: Callable[[FeedProgress], None] | None = None,
    ) -> None:
        self.progress = FeedProgress()
        self.farewell = trio.CancelScope()
        """What ``run`` runs in. It is a shield while a segment is open, and has no deadline but the caller's."""
        self._publication = publication
        self._muxer = Muxer(streams)
        self._has_picture = any(stream.codec.is_video for stream in streams)
        self._length = length
        self._report = report
        self._first: int | None = None
        self._picture: int | None = None
        """The dts of the last picture, or of the unit that began the segment."""

    async def run(self, units: trio.MemoryReceiveChannel[Due]) -> None:
        """Write until the units end. ``ChannelEnded``: the channel did first.

        A cancellation takes effect between segments: it must end the units too, and so the open segment.
        """
        with units, self.farewell:
            start = await self._next_start(units)
            while start is not None:
                try:
                    start = await self._write_segment(start, units)
                    self._count(segments=1)
                except SegmentLost:
                    self._count(lost=1)
                    start = await self._next_start(units)

    async def _write_segment(self, start: Due, units: trio.MemoryReceiveChannel[Due]) -> Due | None:
        """Write one segment, to its end also when cancelled; gives the unit that begins the next one."""
        async with self._publication.segment() as segment:
            self.farewell.shield = True
            try:
                return await self._fill(segment, start, units)
            finally:
                self.farewell.shield = False

    async def _next_start(self, units: trio.MemoryReceiveChannel[Due]) -> Due | None:
        """The next unit that a segment can begin with; None: there is none."""
        self._picture = None
        async for due in units:
            self._picture = due.unit.dts if self._picture is None else self._picture
            if self._may_begin(due.unit):
                return due
            self._count(dropped=1)
        return None

    def _may_begin(self, unit: AccessUnit) -> bool:
        if unit.stream.codec.is_video:
            return unit.key
        return not self._has_picture or self._is_alone(unit)

    def _is_alone(self, unit: AccessUnit) -> bool:
        """Whether the picture stays away."""
        return self._picture is not None and unit.dts - self._picture >= PATIENCE * self._length

    async def _fill(
        self, segment: OutgoingSegment, start: Due, units: trio.MemoryReceiveChannel[Due]
    ) -> Due | None:
        self._picture = start.unit.dts
        await self._write(segment, start, self._muxer.tables())
        async for due in units:
            if self._ends(due.unit, start.unit):
                return due
            if due.unit.stream.codec.is_video:
                self._picture = due.unit.dts
            if due.unit.stream.codec.is_video and not start.unit.stream.codec.is_video:
                self._count(dropped=1)  # the picture is back, but nobody can decode it yet
            else:
                await self._write(segment, due)
        return None

    def _ends(self, unit: AccessUnit, start: AccessUnit) -> bool:
        """Whether the segment that began with ``start`` ends before this unit."""
        is_long = unit.dts - start.dts >= self._length - TOLERANCE
        if unit.stream.codec.is_video:
            return unit.key and (is_long or not start.stream.codec.is_video)
        return self._is_alone(unit) if self._has_picture else is_long

    async def _write(self, segment: OutgoingSegment, due: Due, tables: bytes = b"") -> None:
        unit = due.unit
        await segment.send(tables + self._muxer.write(unit))
        self._first = unit.dts if self._first is None else self._first
        is_video = unit.stream.codec.is_video
        seconds = max(self.progress.seconds, (unit.dts - self._first) / CLOCK_RATE)
        self.progress = evolve(self.progress, seconds=seconds, late=due.late)
        self._count(pictures=int(is_video), sounds=int(not is_video))

    def _count(self, **more: int) -> None:
        counted = {name: getattr(self.progress, name) + count for name, count in more.items()}
        self.progress = evolve(self.progress, **counted)
        if self._report:
            self._report(self.progress)
