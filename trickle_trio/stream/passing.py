"""The picture's way past its codecs, where no handler looks at it.

Coded pictures go out as they came in. The input decides where its key frames are, so here it is only
chosen which of them begin a segment. When somebody wants frames after all (at another size, or put
in by the processor), the picture goes through the codecs from its next key frame on, for good.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from attrs import define, evolve

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec
from trickle_trio.media.parameters import UnreadableParametersError, video_parameters
from trickle_trio.media.sources.copying import KeptSets
from trickle_trio.stream.encode import TOLERANCE, KeyRequest
from trickle_trio.stream.handing import Queue, Sender
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.step import SoundProgress
from trickle_trio.stream.tracks import Tracks


class State(Enum):
    """What is done with pictures that are no key frames."""

    SEEKING = auto()
    """Left out: what they follow is not there."""
    FOLLOWING = auto()


@define(eq=False)
class PicturePassing:
    """Copies pictures as long as nobody wants frames."""

    tracks: Tracks
    segment_seconds: float
    keys: KeyRequest
    meters: Meters
    sound: SoundProgress
    frames_wanted: Callable[[], bool]
    _state: State = State.SEEKING
    _began: int = 0
    """The dts of the key frame that began the segment."""
    _kept: KeptSets | None = None

    async def run(
        self,
        units: Queue[AccessUnit],
        past: Sender[AccessUnit],
        through: Sender[AccessUnit],
    ) -> None:
        """Copy to ``past``, until frames are wanted: then give everything to ``through``. Blocks
        while that is full.
        """
        with units, through:
            with past:
                rest = await self._copy(units, past)
            if rest is not None:
                self.tracks.copies_video = False
                await through.send(rest)
            async for unit in units:
                await through.send(unit)

    async def _copy(
        self,
        units: Queue[AccessUnit],
        past: Sender[AccessUnit],
    ) -> AccessUnit | None:
        """Copy until the units end; or give the key frame from which on frames are wanted."""
        async for unit in units:
            if unit.key and not unit.damaged and self.frames_wanted():
                return unit
            if self._follows(unit):
                await self.sound.wait_for(unit.dts)
                await past.send(self._placed(unit))
            else:
                self.meters.drop(Drop.DAMAGED)
        return None

    def _follows(self, unit: AccessUnit) -> bool:
        """Whether it can be decoded from what has been passed on."""
        if unit.damaged or (unit.lost_before and not unit.key):
            self._state = State.SEEKING
        elif unit.key:
            self._state = State.FOLLOWING if self._state is State.FOLLOWING else self._restart()
        return self._state is State.FOLLOWING

    def _restart(self) -> State:
        self.keys.wanted = True  # the next key frame begins a segment, whenever the last one was
        return State.FOLLOWING

    def _placed(self, unit: AccessUnit) -> AccessUnit:
        """The picture as it goes out; a key frame that begins no segment is not called one."""
        if not unit.key:
            return unit
        data, is_other = self._completed(unit)
        age = unit.dts - self._began
        is_full = age >= self.segment_seconds * CLOCK_RATE - TOLERANCE
        begins = is_other or is_full or self.keys.wanted
        if begins:
            self._began, self.keys.wanted = unit.dts, False
        return evolve(unit, data=data, key=begins)

    def _completed(self, unit: AccessUnit) -> tuple[bytes, bool]:
        """A key frame with its parameter sets, and whether they are others than before."""
        if self._kept is None or self._kept.codec is not unit.stream.codec:
            self._kept = KeptSets(unit.stream.codec)
        before = self._kept.sets
        data = self._kept.complete(unit.data)
        is_other = self._kept.sets != before
        if is_other:
            self._note_size(unit.stream.codec, data)
        return data, is_other

    def _note_size(self, codec: Codec, key: bytes) -> None:
        if codec is not Codec.H264:
            return
        try:
            told = video_parameters(key)
        except UnreadableParametersError as error:
            self.meters.error("damage", str(error))
        else:
            self.meters.size_in = self.meters.size_out = (told.width, told.height)
