"""The first station: a channel's bytes, taken apart into coded pictures and sound.

Transport streams, which is what channels carry, are taken apart here and at once; what else comes is
libav's to read (``container``).
"""

from __future__ import annotations

import trio
from attrs import define, evolve, field

from trickle_core.mpegts import (
    AccessUnit,
    Damage,
    Demuxer,
    ProgramMap,
    TsEvent,
)
from trickle_trio.driver import open_hidden_nursery
from trickle_trio.media.sources import TrackSettings
from trickle_trio.stream.arrival import Arrivals
from trickle_trio.stream.container import Container
from trickle_trio.stream.edge import LiveEdge
from trickle_trio.stream.ends import Silence
from trickle_trio.stream.events import Events
from trickle_trio.stream.forms import HEAD, Form, form_of, names_container
from trickle_trio.stream.handing import Sender
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import Tracks
from trickle_trio.stream.waiting import WaitingSound
from trickle_trio.subscription import IncomingSegment, Subscription


@define(eq=False)
class Ingest:
    """Reads a subscription to its end.

    Pictures wait for a place in ``pictures``, which holds the server back. Sound does not, live: the
    picture must not wait behind sound that nobody takes.
    """

    tracks: Tracks
    meters: Meters
    tap: Tap
    events: Events
    pictures: Sender[AccessUnit]
    sound: WaitingSound
    edge: LiveEdge = field(factory=LiveEdge)
    """Where what is shown begins."""
    containers: TrackSettings = field(factory=TrackSettings)
    """What is carried of a container, and how."""
    _demuxer: Demuxer = field(factory=Demuxer)
    _arrivals: Arrivals = field(factory=Arrivals)
    _is_hole: bool = False
    """Something is missing in front of the next picture."""
    _is_old: bool = False
    """What is read was there before the stream was, or before it jumped to the live edge."""
    _container: Container | None = None
    """What is being read by libav."""
    _nursery: trio.Nursery = field(init=False)
    """Where that is done."""

    async def run(self, subscription: Subscription, silence: Silence) -> None:
        """Read until the channel ends."""
        async with open_hidden_nursery() as self._nursery:
            is_joined = True
            async for segment in subscription:
                self._is_hole = self._is_hole or segment.skipped > 0
                await self._read(segment, silence, begins_old=is_joined or segment.skipped > 0)
                is_joined = False
            with silence.broken():  # the channel has ended: what is left takes its time
                await self._end_container()
                for placed in self._arrivals.flush():
                    await self._pass_placed(placed)

    async def _read(self, segment: IncomingSegment, silence: Silence, *, begins_old: bool) -> None:
        if head := await _head(segment):
            with silence.broken():
                self.events.trace("runner_receive_first_ingest_segment")
                await self._begin(head, segment.mime_type)
                self._is_old = begins_old and self.edge.is_live and not self._container
                await self._take(head, segment)
        async for piece in segment:
            with silence.broken():
                await self._take(piece, segment)
        with silence.broken():
            if self._is_old:
                await self._catch_up()
            rest = self._demuxer.flush()
            await self._pass_on(_torn(rest) if segment.truncated else rest)
        self._is_hole = self._is_hole or segment.truncated

    async def _take(self, piece: bytes, segment: IncomingSegment) -> None:
        if self._container:
            await self._container.write(piece)
            return
        new = segment.size - segment.held
        if self._is_old and new >= 0:
            old, piece = piece[: len(piece) - new], piece[len(piece) - new :]
            await self._pass_on(self._demuxer.feed(old))
            await self._catch_up()
        await self._pass_on(self._demuxer.feed(piece))

    async def _catch_up(self) -> None:
        """What comes from here on is new."""
        self._is_old = False
        pictures, sounds = self.edge.release()
        for unit in sounds:
            await self.sound.put(unit)
        for unit in pictures:
            await self.pictures.send(unit)

    async def _begin(self, head: bytes, mime_type: str) -> None:
        """Settle who reads the segment that begins so: bytes that say nothing go where the last ones
        went.
        """
        form = form_of(head)
        if form is not Form.OPEN:
            await self._end_container()
        is_other = form is Form.OPEN and not self._container and names_container(mime_type)
        if form is Form.CONTAINER or is_other:
            self._container = Container(self.containers, self._change, self._pass_unit, self.meters)
            await self._nursery.start(self._container.run)

    async def _end_container(self) -> None:
        if self._container:
            await self._container.end()
            self._container = None

    async def _pass_on(self, events: list[TsEvent]) -> None:
        for event in events:
            if isinstance(event, AccessUnit):
                await self._pass_unit(event)
            elif isinstance(event, ProgramMap):
                await self._change(event)
            elif isinstance(event, Damage):
                self.meters.error("damage", event.reason.name)

    async def _change(self, program: ProgramMap) -> None:
        self.tracks.choose(program)
        for placed in self._arrivals.expect(self.tracks.came_in()):
            await self._pass_placed(placed)

    async def _pass_unit(self, unit: AccessUnit) -> None:
        track = self.tracks.track_of(unit)
        if track is None or (unit.damaged and not track.codec.is_video):
            return  # half a frame of sound is noise
        ours = unit if unit.stream is track else evolve(unit, stream=track)
        for placed in self._arrivals.place(ours):
            await self._pass_placed(placed)

    async def _pass_placed(self, unit: AccessUnit) -> None:
        if unit.stream.codec.is_video:
            await self._pass_picture(unit)
        else:
            await self._pass_sound(unit)

    async def _pass_picture(self, unit: AccessUnit) -> None:
        if self._is_hole:
            unit, self._is_hole = evolve(unit, lost_before=True), False
        self.tap.offer(unit)
        self.meters.picture_arrived(unit.pts)
        for ready in self.edge.pass_picture(unit) if self._is_old else (unit,):
            await self.pictures.send(ready)

    async def _pass_sound(self, unit: AccessUnit) -> None:
        self.tap.offer(unit)
        self.meters.sound_arrived()
        if self._is_old:
            self.edge.pass_sound(unit)
        else:
            await self.sound.put(unit)


async def _head(segment: IncomingSegment) -> bytes:
    """As much of a segment's beginning as tells what it is; less where there is no more."""
    head = b""
    async for piece in segment:
        head = head + piece if head else piece
        if len(head) >= HEAD:
            break
    return head


def _torn(events: list[TsEvent]) -> list[TsEvent]:
    """What was under way when a segment broke off: it is not whole, whatever it looks like."""
    return [
        evolve(event, damaged=True) if isinstance(event, AccessUnit) else event for event in events
    ]
