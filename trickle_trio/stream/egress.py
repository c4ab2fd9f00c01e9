"""The last station: coded pictures and sound become transport stream segments, and leave.

A segment begins with the tables and a key frame, so that it can be decoded alone. When the output
breaks inside a segment, that one is closed on the server, and everything up to the next key frame,
which the encoder is asked for at once, has nowhere to go.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream, Muxer
from trickle_trio.publication import OutgoingSegment, Publication, SegmentLost
from trickle_trio.stream.borders import Borders, Place, Segment
from trickle_trio.stream.encode import KeyRequest
from trickle_trio.stream.events import Events
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import StreamPolicy
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import Tracks


@define(eq=False)
class Egress:
    """Writes units to a publication until they end. See the text at the head of this module."""

    units: Queue[AccessUnit]
    tracks: Tracks
    meters: Meters
    tap: Tap
    keys: KeyRequest
    policy: StreamPolicy
    events: Events
    _borders: Borders = field(init=False)
    _ready: deque[AccessUnit] = field(factory=deque, init=False)
    _unsent: list[tuple[AccessUnit, bytes]] = field(factory=list, init=False)
    """What goes out with the next write."""
    _following: AccessUnit | None = field(default=None, init=False)
    """What begins the next segment."""
    _muxer: Muxer | None = field(default=None, init=False)
    _carried: tuple[ElementaryStream, ...] = field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        self._borders = Borders(round(self.policy.segment_seconds * CLOCK_RATE))

    async def run(self, publication: Publication) -> None:
        """Write until the units end. ``ChannelEnded``: the channel did first.

        The units' channel stays open then: whoever sends is to wait until the stream is told why, and
        not to fail because nobody listens.
        """
        first = await self._next_first()
        while first is not None:
            first = await self._segment(publication, first)

    async def _segment(self, publication: Publication, first: AccessUnit) -> AccessUnit | None:
        """Write the segment that this unit begins; returns the one that begins the next."""
        try:
            async with publication.segment() as segment:
                await self._fill(segment, first)
        except SegmentLost as error:
            self.meters.error("output", str(error))
            return self._take_following() or await self._recover()
        self.events.trace("runner_send_first_processed_segment")
        return self._take_following()

    def _take_following(self) -> AccessUnit | None:
        following, self._following = self._following, None
        return following

    async def _recover(self) -> AccessUnit | None:
        """After a loss inside a segment: the next unit that one can begin with, as soon as may be."""
        self._borders.lose()
        self.keys.wanted = True
        return await self._next_first()

    async def _fill(self, segment: OutgoingSegment, first: AccessUnit) -> None:
        muxer = self._begin(first)
        self._unsent = [(first, muxer.tables() + muxer.write(first))]
        while True:
            self._mux_ready(muxer)
            await self._send(segment)
            if self._following or not await self._fetch():
                return

    def _mux_ready(self, muxer: Muxer) -> None:
        """All that is ready, up to what begins the next segment, becomes one write: a picture and its
        sound cost one system call here, one chunk on the wire, and one waking of each reader.
        """
        carried = self.tracks.carried()
        while self._ready and not self._following:
            unit = self._ready.popleft()
            place = self._place(unit) if unit.stream in carried else Place.NOWHERE
            if place is Place.FIRST:
                self._following = unit
            elif place is Place.WITHIN:
                self._unsent.append((unit, muxer.write(unit)))
            else:
                self._drop(unit)

    def _begin(self, first: AccessUnit) -> Muxer:
        """The muxer for what the stream carries by now. Its counters run on from segment to
        segment.
        """
        carried = self.tracks.carried()
        if self._borders.segment is Segment.SOUND:  # players would look for the picture in it
            carried = tuple(stream for stream in carried if not stream.codec.is_video)
        if first.stream not in carried:  # the program has changed while the segment was opened
            carried = (first.stream,)
        if self._muxer is None:
            self._muxer = Muxer(carried)
        elif carried != self._carried:
            self._muxer.change(carried)
        self._carried = carried
        if self._borders.segment is Segment.SOUND:
            self.keys.wanted = True  # a picture that comes back is to be seen at once
        return self._muxer

    def _place(self, unit: AccessUnit) -> Place:
        """Where a unit goes while a segment is open."""
        place = self._borders.place(unit)
        if place is not Place.WITHIN or unit.stream in self._carried:
            return place
        self.keys.wanted = True  # the program has changed: other tables, as soon as may be
        return self._borders.renew(unit)

    async def _next_first(self) -> AccessUnit | None:
        """The next unit that a segment can begin with; None: there is none."""
        while (unit := await self._next()) is not None:
            if self._borders.place(unit) is Place.FIRST:
                return unit
            self._drop(unit)
        return None

    async def _next(self) -> AccessUnit | None:
        """The next unit, in the order of writing, that the program still has; None: there are no
        more.
        """
        while await self._fetch():
            unit = self._ready.popleft()
            if unit.stream in self.tracks.carried():
                return unit
            self._drop(unit)
        return None

    async def _fetch(self) -> bool:
        """Wait until something is ready to be written; False: there will be nothing more."""
        if not self._ready and await self.units.wait():
            self._borders.has_picture = self.tracks.video is not None
            self._ready.extend(self.units.take(self.units.room))
        return bool(self._ready)

    async def _send(self, segment: OutgoingSegment) -> None:
        if not self._unsent:
            return
        batch, self._unsent = self._unsent, []
        try:
            await segment.send(b"".join(data for _, data in batch))
        except SegmentLost:
            for unit, _ in batch:
                self._drop(unit)
            raise
        for unit, _ in batch:
            self._tell_left(unit)

    def _tell_left(self, unit: AccessUnit) -> None:
        if unit.stream.codec.is_video:
            self.meters.picture_left(unit.pts)
        else:
            self.meters.sound_left()
        self.tap.offer(unit)

    def _drop(self, unit: AccessUnit) -> None:
        self.meters.drop(Drop.NO_OUTPUT, unit.stream.codec.is_video)
