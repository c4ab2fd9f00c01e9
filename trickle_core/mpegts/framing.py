"""From a PES to access units: one picture each for video, single coded frames for audio.

Both keep the clock for units that the wire gives no time. Times here have 33 bits and wrap.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, Protocol

from attrs import Factory, define

from trickle_core.mpegts.audio import (
    Extent,
    Unreadable,
    find_adts,
    find_mpeg_audio,
    find_opus,
)
from trickle_core.mpegts.findings import Damage, DamageReason, TsEvent
from trickle_core.mpegts.nal import is_key
from trickle_core.mpegts.pes import Pes
from trickle_core.mpegts.units import (
    CLOCK_RATE,
    CLOCK_WRAP,
    AccessUnit,
    Codec,
    ElementaryStream,
)

Finder = Callable[[bytes, int], Extent | Unreadable]


class Framer(Protocol):
    """Cuts the PES of one stream into access units."""

    stream: ElementaryStream

    def units(self, pes: Pes, *, damaged: bool, lost_before: bool) -> list[TsEvent]:
        """The units of a PES, and what was wrong with it.

        ``damaged``: packets were lost, or its end is not there. ``lost_before``: something between
        the PES before and this one was.
        """
        ...


@define
class VideoFramer:
    """One PES is one access unit: libavformat, GStreamer and hardware encoders send it so.

    A known gap: broadcast multiplexes may put several pictures into one PES; they come out as one
    unit. Finding the borders would mean to search every byte.
    """

    stream: ElementaryStream
    _dts: int | None = None
    _period: int = CLOCK_RATE // 30
    """The distance of the last two pictures; a guess that half of the world uses before."""

    def units(self, pes: Pes, *, damaged: bool, lost_before: bool) -> list[TsEvent]:
        """See ``Framer``."""
        data, pts, dts = pes
        if not data:
            return []
        if pts is None:
            pts = self._next()
        if pts is None:
            return [Damage(self.stream.pid, DamageReason.NO_TIMESTAMP)]
        if dts is None:
            dts = pts
        if self._dts is not None:
            step = (dts - self._dts) % CLOCK_WRAP
            # Above a second it is a gap or a jump, not the frame rate.
            if 0 < step <= CLOCK_RATE:
                self._period = step
        self._dts = dts
        key = is_key(data, self.stream.codec)
        return [AccessUnit(self.stream, data, pts, dts, key, damaged, lost_before)]

    def _next(self) -> int | None:
        """The time of a picture that the wire gives none; None before the first that it gives.

        One period after the picture before: the time after it is not known yet, and waiting for it,
        to interpolate, would cost a frame of delay. How the decoder will reorder it is not known
        either, so pts = dts.
        """
        return None if self._dts is None else (self._dts + self._period) % CLOCK_WRAP


_SYNC: Final[dict[Codec, re.Pattern[bytes]]] = {
    # Two bytes with which a frame can begin: where to look after garbage.
    Codec.AAC: re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"),
    Codec.MP2: re.compile(rb"\xff[\xe2-\xff]"),
    Codec.OPUS: re.compile(rb"\x7f[\xe0-\xff]"),
}
_FINDERS: Final[dict[Codec, Finder]] = {
    Codec.AAC: find_adts,
    Codec.MP2: find_mpeg_audio,
    Codec.OPUS: find_opus,
}


_UNTIMED: Final = -1


@define
class AudioFramer:
    """Cuts a PES into coded frames by their headers, each with a time of its own.

    The time of a PES is that of the first frame that begins in it (2.4.3.7); the others follow by
    the lengths of those before. A frame may go on in the next PES: its beginning is kept, 64 KiB at
    most.
    """

    stream: ElementaryStream
    _rest: bytes = b""
    """The beginning of a frame that goes on. Where it is not empty there is an anchor."""
    _anchor: int = _UNTIMED
    """The last time that the wire gave."""
    _elapsed: int = 0
    """Samples since then."""
    _find: Finder = Factory(lambda self: _FINDERS[self.stream.codec], takes_self=True)

    def units(self, pes: Pes, *, damaged: bool, lost_before: bool) -> list[TsEvent]:
        """See ``Framer``. A frame that is not whole because of a loss is left out."""
        data, pts, _ = pes
        if self._anchor == _UNTIMED and pts is None:
            return [Damage(self.stream.pid, DamageReason.NO_TIMESTAMP)]
        rest = b"" if lost_before else self._rest
        events = self._cut(rest + data, len(rest), pts, lost=lost_before)
        if damaged:
            self._rest = b""
        return events

    def _cut(self, data: bytes, border: int, pts: int | None, *, lost: bool) -> list[TsEvent]:
        """Frame by frame; ``border``: where the PES before ends and the one with ``pts`` begins."""
        events: list[TsEvent] = []
        pos, end = 0, len(data)
        while pos < end:
            found = self._find(data, pos)
            if found is Unreadable.WRONG or (pos < border and self._misleads(found, data)):
                events.append(Damage(self.stream.pid, DamageReason.BAD_FRAME))
                pos = self._resync(data, max(pos + 1, border))
                lost = True
                continue
            if pts is not None and pos >= border:
                self._anchor, self._elapsed, pts = pts, 0, None
            if found is Unreadable.SHORT:
                break
            start, stop, samples, rate, _ = found
            if stop > end:
                break
            # After garbage the time may be early by what it hid; the next PES sets it right.
            time = (self._anchor + self._elapsed * CLOCK_RATE // rate) % CLOCK_WRAP
            unit = AccessUnit(self.stream, data[start:stop], time, time, key=True, lost_before=lost)
            events.append(unit)
            self._elapsed += samples
            pos, lost = stop, False
        self._rest = data[pos:]
        return events

    def _misleads(self, found: Extent | Literal[Unreadable.SHORT], data: bytes) -> bool:
        """Whether a frame begun in the PES before does not go on in this one.

        So it is when the consumer skipped a segment, or a publisher started anew.
        """
        return found is not Unreadable.SHORT and self._find(data, found[1]) is Unreadable.WRONG

    def _resync(self, data: bytes, start: int) -> int:
        """Where the next frame begins that another one follows, as far as the bytes tell."""
        candidates = (match.start() for match in _SYNC[self.stream.codec].finditer(data, start))
        return next((at for at in candidates if self._is_confirmed(data, at)), len(data))

    def _is_confirmed(self, data: bytes, at: int) -> bool:
        found = self._find(data, at)
        if isinstance(found, Unreadable):
            return found is Unreadable.SHORT
        return self._find(data, found[1]) is not Unreadable.WRONG


def framer(stream: ElementaryStream) -> Framer:
    """The framer for a stream's codec."""
    return VideoFramer(stream) if stream.codec.is_video else AudioFramer(stream)
