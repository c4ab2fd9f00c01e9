"""The last station: coded pictures and sound become transport stream segments, and leave.

A segment begins with the tables and a key frame, so that it can be decoded alone. The encoder
decides where the key frames are; each one begins a segment. When the output breaks inside a
segment, that one is closed on the server, and everything up to the next key frame, which the
encoder is asked for at once, has nowhere to go.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream, Muxer
from trickle_trio.publication import OutgoingSegment, Publication, SegmentLost
from trickle_trio.stream.encode import KeyRequest
from trickle_trio.stream.events import Events
from trickle_trio.stream.interleave import Interleaver
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import StreamPolicy
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import Tracks


@define(eq=False)
class Egress:
    """Writes units to a publication until they end. See the text at the head of this module."""

    units: trio.MemoryReceiveChannel[AccessUnit]
    tracks: Tracks
    meters: Meters
    tap: Tap
    keys: KeyRequest
    policy: StreamPolicy
    events: Events
    _order: Interleaver = field(init=False)
    _ready: deque[AccessUnit] = field(factory=deque, init=False)
    _muxer: Muxer | None = field(default=None, init=False)
    _carried: tuple[ElementaryStream, ...] = field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        self._order = Interleaver(round(self.policy.sound_wait * CLOCK_RATE))

    async def run(self, publication: Publication) -> None:
        """Write until the units end. ``ChannelEnded``: the channel did first."""
        with self.units:
            await self._run(publication)

    async def _run(self, publication: Publication) -> None:
        first = await self._next_start()
        while first is not None:
            try:
                async with publication.segment() as segment:
                    first = await self._fill(segment, first)
                self.events.trace("runner_send_first_processed_segment")
            except SegmentLost as error:
                self.meters.error("output", str(error))
                self.keys.wanted = True
                first = await self._next_start()

    async def _next(self) -> AccessUnit | None:
        """The next unit in the order of writing; None: there are no more."""
        while not self._ready:
            self._order.has_picture = self.tracks.video is not None
            try:
                self._ready.extend(self._order.put(await self.units.receive()))
            except trio.EndOfChannel:
                self._ready.extend(self._order.flush())
                if not self._ready:
                    return None
        return self._ready.popleft()

    async def _next_start(self) -> AccessUnit | None:
        """The next unit that a segment can begin with."""
        origin: int | None = None
        while (unit := await self._next()) is not None:
            origin = unit.pts if origin is None else origin
            if self._begins(unit, origin):
                return unit
            self.meters.drop(Drop.NO_OUTPUT, unit.stream.codec.is_video)
        return None

    def _begins(self, unit: AccessUnit, origin: int) -> bool:
        """Whether a first segment can begin here: at a picture to start from, or where none is to
        come.
        """
        if unit.stream.codec.is_video:
            return unit.key
        return self.tracks.video is None or self._is_due(unit, origin)

    def _is_due(self, unit: AccessUnit, origin: int) -> bool:
        """Whether a segment without key frames has lasted long enough: a picture that stays away is
        given twice the time.
        """
        lengths = 2 if self.tracks.video else 1
        return unit.pts - origin >= lengths * self.policy.segment_seconds * CLOCK_RATE

    async def _fill(self, segment: OutgoingSegment, first: AccessUnit) -> AccessUnit | None:
        """Write one segment; returns the unit that begins the next one."""
        muxer = self._tables()
        await segment.send(muxer.tables())
        await self._write(segment, muxer, first)
        while (unit := await self._next()) is not None:
            if unit.key if unit.stream.codec.is_video else self._is_due(unit, first.pts):
                break
            await self._write(segment, muxer, unit)
        return unit

    def _tables(self) -> Muxer:
        """The muxer for what the stream carries by now. Its counters run on from segment to
        segment.
        """
        carried = self.tracks.carried()
        if self._muxer is None or carried != self._carried:
            self._carried = carried
            self._muxer = Muxer(carried)
        return self._muxer

    async def _write(self, segment: OutgoingSegment, muxer: Muxer, unit: AccessUnit) -> None:
        if unit.stream not in self._carried:  # sound of a program that has just changed
            self.meters.drop(Drop.NO_OUTPUT, unit.stream.codec.is_video)
            return
        await segment.send(muxer.write(unit))
        if unit.stream.codec.is_video:
            self.meters.picture_left(unit.pts)
        else:
            self.meters.sound_left()
        self.tap.offer(unit)
