"""The first station: a channel's bytes, taken apart into coded pictures and sound."""

from __future__ import annotations

import trio
from attrs import define, evolve, field

from trickle_core.mpegts import AccessUnit, Damage, Demuxer, ProgramMap, Timeline, TsEvent
from trickle_trio.stream.events import Events
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.settings import Pace
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import Tracks
from trickle_trio.subscription import Subscription


@define(eq=False)
class Ingest:
    """Reads a subscription to its end.

    Pictures wait for a place in ``pictures``, which holds the server back. Sound does so only where
    every frame counts: live, the picture must not wait behind sound that nobody takes.
    """

    tracks: Tracks
    meters: Meters
    tap: Tap
    pace: Pace
    events: Events
    pictures: trio.MemorySendChannel[AccessUnit]
    sound: trio.MemorySendChannel[AccessUnit]
    _demuxer: Demuxer = field(factory=Demuxer)
    _timeline: Timeline = field(factory=Timeline)

    async def run(
        self, subscription: Subscription, silence: trio.CancelScope, patience: float
    ) -> None:
        """Read until the channel ends. ``silence`` is a scope around this call whose deadline is
        kept ``patience`` seconds ahead of the last byte that came.
        """
        async for segment in subscription:
            async for piece in segment:
                silence.deadline = trio.current_time() + patience
                await self._pass_on(self._demuxer.feed(piece))
            await self._pass_on(self._demuxer.flush())
            self.events.trace("runner_receive_first_ingest_segment")

    async def _pass_on(self, events: list[TsEvent]) -> None:
        for event in events:
            if isinstance(event, AccessUnit):
                await self._pass_unit(event)
            elif isinstance(event, ProgramMap):
                self.tracks.choose(event)
            elif isinstance(event, Damage):
                self.meters.error("damage", event.reason.name)

    async def _pass_unit(self, unit: AccessUnit) -> None:
        track = self.tracks.track_of(unit)
        if track is None:
            return
        placed = self._timeline.place(evolve(unit, stream=track))
        self.tap.offer(placed)
        if track.codec.is_video:
            self.meters.picture_arrived(placed.pts)
            await self.pictures.send(placed)
        else:
            self.meters.sound_arrived()
            await self._pass_sound(placed)

    async def _pass_sound(self, unit: AccessUnit) -> None:
        if self.pace is Pace.EVERY_FRAME:
            await self.sound.send(unit)
            return
        try:
            self.sound.send_nowait(unit)
        except trio.WouldBlock:
            self.meters.error("sound dropped", "the output does not take the sound")
