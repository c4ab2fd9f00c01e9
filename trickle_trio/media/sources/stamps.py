"""Whole and rising times for packets of a container.

Containers leave things out. Matroska has no dts: libav works them out, but not for the first pictures
of a stream that reorders. AVI and bare H.264 have no pts. Files that were cut or joined have times
that jump. And a loop goes on where its last pass ended. What comes out here has all times, on one
clock, picture and sound as far apart as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

import av
from attrs import define, field, frozen

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream, Timeline

Packet: TypeAlias = "av.Packet[av.stream.Stream]"

WITHOUT_PTS: Final = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo"})
"""Containers that say in which order pictures are decoded, not when they are shown."""

ORIGIN: Final = CLOCK_RATE
"""Where times begin: above zero, so that what belongs a little before is not below it."""

_LONGEST_START: Final = 32
"""Packets that are held until a dts is known: twice the most pictures that H.264 reorders."""


Lasts: TypeAlias = Callable[[Packet], int]


def ticks(time: int, time_base: Fraction) -> int:
    """A container's time in 1/90000 s."""
    return round(time * time_base * CLOCK_RATE)


def told_duration(packet: Packet) -> int:
    """How long the container says that a packet lasts."""
    return ticks(packet.duration or 0, packet.time_base)


@frozen
class Stamped:
    """A packet with both times and its duration, on the container's clock in 1/90000 s."""

    packet: Packet
    pts: int
    dts: int
    duration: int


@define(eq=False)
class Stamper:
    """Fills in the times of one track's packets. ``lasts`` says how long one does, in 1/90000 s."""

    lasts: Lasts
    reorders: bool = True
    has_pts: bool = True
    _due: int | None = None
    """The dts of the next packet, should it have none."""
    _held: list[Packet] = field(factory=list)

    def take(self, packet: Packet) -> list[Stamped]:
        """Take the next packet; gives those whose times are known."""
        dts = self._dts(packet)
        if dts is None and self.has_pts and len(self._held) < _LONGEST_START:
            self._held.append(packet)
            return []
        held, self._held = [*self._held, packet], []
        return self._stamp(held, 0 if dts is None else dts)

    def finish(self) -> list[Stamped]:
        """The packets have ended: gives those that were held."""
        held, self._held = self._held, []
        if not held:
            return []
        last = max(ticks(packet.pts or 0, packet.time_base) for packet in held)
        return self._stamp(held, last)

    def _dts(self, packet: Packet) -> int | None:
        time = packet.pts if packet.dts is None and not self.reorders else packet.dts
        return self._due if time is None else ticks(time, packet.time_base)

    def _stamp(self, packets: list[Packet], last: int) -> list[Stamped]:
        """Give times to packets of which the last has this dts; they are a period apart."""
        stamped = []
        for index, packet in enumerate(packets, 1 - len(packets)):
            duration = self.lasts(packet)
            dts = last + index * duration
            pts = dts if packet.pts is None else ticks(packet.pts, packet.time_base)
            stamped.append(Stamped(packet, pts if self.has_pts else dts, dts, duration))
            self._due = dts + duration
        return stamped


@frozen
class Placed:
    """A packet with its times on the output's clock; ``shift`` is what was added to the container's."""

    packet: Packet
    pts: int
    dts: int
    shift: int


@define
class _Span:
    """From the beginning of the first packet of a pass to the end of the last, on the container's clock."""

    start: int
    end: int

    def cover(self, stamped: Stamped) -> None:
        self.start = min(self.start, stamped.pts)
        self.end = max(self.end, stamped.pts + stamped.duration)


@define(eq=False)
class PassClock:
    """Places packets on one clock, over all passes of a loop, and over jumps within them."""

    _offset: int | None = None
    _span: _Span | None = None
    _timeline: Timeline = field(factory=Timeline)

    def place(self, stream: ElementaryStream, stamped: Stamped) -> Placed:
        """Give a packet its time. Packets of all tracks, in the order in which they were read."""
        if self._offset is None:
            self._offset = ORIGIN - stamped.dts
        # Sound in front that only starts the decoder is not part of the pass: it would make a hole in the picture.
        if stream.codec.is_video or not stamped.packet.is_discard:
            self._span = self._span or _Span(stamped.pts, stamped.pts)
            self._span.cover(stamped)
        pts, dts = stamped.pts + self._offset, stamped.dts + self._offset
        unit = self._timeline.place(AccessUnit(stream, b"", pts, dts))
        return Placed(stamped.packet, unit.pts, unit.dts, unit.pts - stamped.pts)

    def next_pass(self) -> bool:
        """The next pass begins where the longest track of this one ended; False: this one was empty."""
        span, self._span = self._span, None
        if span is None or self._offset is None:
            return False
        self._offset += span.end - span.start
        return True
