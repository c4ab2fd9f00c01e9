"""Access units in, live fragmented MP4 out: what a browser's player takes.

Odd, and why:

* Which tracks there are is seen, not told: the head is written when a picture and a sound are known, or when some
  media time has shown only one of them.
* A picture is held until the next one comes, because only then is it known how long it stands. A guess that is too
  short leaves a gap, and players drop everything behind a gap of two pictures up to the next key picture (Media
  Source Extensions, "Coded frame processing", 3.5.8). Sound is never held.
* Another coding of the picture (a new SPS: another size) or of the sound, and a track that turns up late, end the file:
  the player starts a new one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from trickle_core.mpegts.nal import nal_units, parameter_sets
from trickle_core.mpegts.units import CLOCK_RATE, AccessUnit, Codec
from trickle_trio.media.boxes import Track, fragment, initialization
from trickle_trio.media.parameters import (
    DELIMITER,
    AudioParameters,
    UnreadableParametersError,
    VideoParameters,
    audio_duration,
    audio_parameters,
    bare_audio,
    video_parameters,
)

SOUND_PATIENCE: Final = CLOCK_RATE // 2
"""Pictures without sound: half a second, further than a muxer lets the two drift apart."""

PICTURE_PATIENCE: Final = 2 * CLOCK_RATE
"""Sound without a picture: longer, because most streams have one, and the first may wait for a model to warm up."""

GATHERED_UNITS: Final = 256
"""The bound of what is gathered, whatever the clocks say: 2.5 s of 60 pictures and 43 sounds a second."""

SOUND_AHEAD: Final = 32
"""Units of sound that are kept while the first key picture is awaited: 0.7 s of AAC."""

FIRST_DURATION: Final = CLOCK_RATE // 30
"""How long the last picture stands when it is also the only one."""

PICTURE, SOUND = 1, 2


class State(Enum):
    """GATHERING until the head can be written, WRITING, and ENDED when the coding has changed."""

    GATHERING = auto()
    WRITING = auto()
    ENDED = auto()


class UnplayableError(ValueError):
    """The stream's picture is of a coding that this container does not carry to players."""


class FragmentedMp4:
    """One viewer's file. Never blocks; memory bounded by ``GATHERED_UNITS`` units.

    Takes units of one Timeline: unbounded times that rise. Times in the file begin near 0.
    """

    def __init__(self) -> None:
        self._state = State.GATHERING
        self._gathered: list[AccessUnit] = []
        self._picture_pid: int | None = None
        self._sound_pid: int | None = None
        self._picture: VideoParameters | None = None
        self._sound: AudioParameters | None = None
        self._base = 0
        self._sequence = 0
        self._held: AccessUnit | None = None
        self._stood = FIRST_DURATION

    @property
    def state(self) -> State:
        """Where this file stands."""
        return self._state

    @property
    def mime_type(self) -> str | None:
        """As ``MediaSource.isTypeSupported`` takes it; None until the head is written."""
        if self._state is State.GATHERING:
            return None
        names = ", ".join(p.codec_string for p in (self._picture, self._sound) if p is not None)
        return f'video/mp4; codecs="{names}"'

    def write(self, unit: AccessUnit) -> bytes:
        """Take one unit; return what is ready to be sent, often nothing.

        Raises ``UnplayableError`` for a picture that is not H.264 from the beginning on; where one comes later, the
        file ends. Sound that players do not know is left out.
        """
        if not self._wanted(unit):
            return b""
        if self._state is State.GATHERING:
            return self._gather(unit)
        return self._append(unit)

    def finish(self) -> bytes:
        """Return what is still held: the head where only little came, and the last picture."""
        if self._state is State.GATHERING and self._gathered:
            return self._begin() + self._release(self._stood)
        return self._release(self._stood)

    def _wanted(self, unit: AccessUnit) -> bool:
        """Whether the unit belongs to the first picture or the first playable sound of the stream."""
        if self._state is State.ENDED:
            return False
        pid, codec = unit.stream.pid, unit.stream.codec
        if codec is Codec.H265 and self._state is State.GATHERING:
            raise UnplayableError("the picture is H.265, and the live view carries only H.264")
        if codec.is_video:
            self._picture_pid = pid if self._picture_pid is None else self._picture_pid
            return pid == self._picture_pid
        if codec is Codec.MP2:
            return False
        self._sound_pid = pid if self._sound_pid is None else self._sound_pid
        return pid == self._sound_pid

    def _gather(self, unit: AccessUnit) -> bytes:
        if not self._understood(unit):
            return b""
        self._gathered.append(unit)
        if self._picture_pid is not None and self._picture is None:
            # A picture will come, but its key has not yet. Sound may run ahead of it, but not far.
            del self._gathered[:-SOUND_AHEAD]
            return b""
        patience = PICTURE_PATIENCE if self._picture is None else SOUND_PATIENCE
        waited = unit.dts - self._gathered[0].dts >= patience
        complete = self._picture is not None and self._sound is not None
        if complete or waited or len(self._gathered) >= GATHERED_UNITS:
            return self._begin()
        return b""

    def _understood(self, unit: AccessUnit) -> bool:
        """Whether the unit can be shown, as far as is known; learns the parameters from the first that tells them."""
        try:
            if not unit.stream.codec.is_video:
                self._sound = self._sound or audio_parameters(unit)
            elif self._picture is None and unit.key:
                self._picture = video_parameters(unit.data)
        except UnreadableParametersError:
            return False
        return not unit.stream.codec.is_video or self._picture is not None

    def _begin(self) -> bytes:
        """Write the head and everything that was gathered from the first picture on."""
        pictures = (unit.dts for unit in self._gathered if unit.stream.codec.is_video)
        self._base = next(pictures, self._gathered[0].dts)
        self._state = State.WRITING
        gathered, self._gathered = self._gathered, []
        return initialization(self._tracks()) + b"".join(map(self._append, gathered))

    def _tracks(self) -> list[Track]:
        both = ((PICTURE, self._picture), (SOUND, self._sound))
        return [Track(number, parameters) for number, parameters in both if parameters is not None]

    def _append(self, unit: AccessUnit) -> bytes:
        if self._state is State.ENDED or unit.dts < self._base:
            return b""
        if unit.stream.codec.is_video:
            return self._append_picture(unit)
        return self._append_sound(unit)

    def _append_picture(self, unit: AccessUnit) -> bytes:
        if self._picture is None or unit.stream.codec is not Codec.H264:
            return self._end(unit.dts)
        if unit.key and self._is_recoded(unit, self._picture):
            return self._end(unit.dts)
        before = self._until(unit.dts)
        self._held = unit
        return before

    def _is_recoded(self, unit: AccessUnit, known: VideoParameters) -> bool:
        return any(sps not in known.sps for sps in parameter_sets(unit.data, Codec.H264).sps)

    def _append_sound(self, unit: AccessUnit) -> bytes:
        known = self._sound
        if known is None:
            return self._end(unit.dts)
        try:
            if audio_parameters(unit) != known:
                return self._end(unit.dts)
        except UnreadableParametersError:
            return b""
        duration = audio_duration(unit, known)
        return self._sample(SOUND, unit, duration=duration, data=bare_audio(unit), sync=True)

    def _end(self, time: int) -> bytes:
        last = self._until(time)
        self._state = State.ENDED
        return last

    def _until(self, time: int) -> bytes:
        """Release the held picture, which stands until ``time``."""
        if self._held is not None:
            self._stood = max(1, time - self._held.dts)
        return self._release(self._stood)

    def _release(self, duration: int) -> bytes:
        unit, self._held = self._held, None
        known = self._picture
        if unit is None or known is None:
            return b""
        data = _sample_of(unit.data, known)
        return self._sample(PICTURE, unit, duration=duration, data=data, sync=unit.key)

    def _sample(
        self, track: int, unit: AccessUnit, *, duration: int, data: bytes, sync: bool
    ) -> bytes:
        self._sequence += 1
        return fragment(
            self._sequence,
            track,
            time=unit.dts - self._base,
            duration=duration,
            shift=unit.pts - unit.dts,
            sync=sync,
            data=data,
        )


def _sample_of(data: bytes, known: VideoParameters) -> bytes:
    """Put lengths in the place of start codes (14496-15, 5.3.4.2); leave out what the head or the container says."""
    told = (*known.sps, *known.pps)
    units = (nal for nal in nal_units(data) if nal[0] & 31 != DELIMITER and nal not in told)
    return b"".join(len(nal).to_bytes(4) + nal for nal in units)
