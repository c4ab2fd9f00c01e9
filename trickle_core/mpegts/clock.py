"""The program clock (PCR) of a stream that is written: which values, and where.

Source: ISO/IEC 13818-1, 2.4.2.2, 2.4.3.5 and 2.7.2 (at least every 100 ms). A PCR says at what time
its byte reaches the receiver; a unit must be there before its DTS, so the clock runs ``lead`` ahead
of what is written. Players on the internet hardly look at it, hardware decoders and analysers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import Factory, define, frozen

from trickle_core.mpegts.units import CLOCK_RATE, AccessUnit

LEAD: Final = CLOCK_RATE // 5
"""200 ms: more than sound and picture are apart in a stream that is written as it comes."""

_INTERVAL: Final = CLOCK_RATE // 10
_OFTEN: Final = CLOCK_RATE // 25
"""40 ms, DVB's stricter limit (ETSI TR 101 290): for a clock that goes with sound, of which not every
frame needs one; and for one that goes on with the sound when the picture stops. Two audio frames
later at most it is there, which is below the 100 ms."""
_CATCH_UP: Final = CLOCK_RATE
"""After a longer gap the clock jumps: a steady one would be sent all at once anyway."""


@frozen
class Ticks:
    """The clock values due with a unit, in 1/90000 s: packets of their own in front, and its own."""

    before: Sequence[int] = ()
    own: int | None = None


_NOTHING: Final = Ticks()


@define
class ProgramClock:
    """Decides when the clock is due. It goes with the units of ``pid``; always rises."""

    pid: int
    lead: int = LEAD
    _last: int | None = None
    _marks: dict[int, int] = Factory(dict)
    """Since the last value: the dts of the first unit of each stream, or the one that it came with."""

    def tick(self, unit: AccessUnit) -> Ticks:
        """What is due with this unit. No value is after the unit's dts."""
        last, target = self._last, unit.dts - self.lead
        if last is None:
            return self._first(unit, target)
        if unit.stream.pid != self.pid:
            return self._beside(unit, last)
        ahead = target - last
        wanted = unit.stream.codec.is_video or ahead >= _OFTEN
        own = target if ahead > 0 else last + 1
        if not wanted or own > unit.dts:
            return _NOTHING
        self._set(unit, own)
        if ahead <= _INTERVAL:
            return Ticks((), own)
        start = max(last + _INTERVAL, target - _CATCH_UP)
        return Ticks(tuple(range(start, target, _INTERVAL)), own)

    def _first(self, unit: AccessUnit, target: int) -> Ticks:
        self._set(unit, target)
        return Ticks((), target) if unit.stream.pid == self.pid else Ticks((target,))

    def _beside(self, unit: AccessUnit, last: int) -> Ticks:
        """A unit of another stream: the clock goes on by the time that passed in that stream.

        By that, and not to that stream's own time: sound may be written ahead of the picture, and a
        clock that followed it would overtake the picture's DTS.
        """
        elapsed = unit.dts - self._marks.setdefault(unit.stream.pid, unit.dts)
        if elapsed < _OFTEN:
            return _NOTHING
        value = min(last + elapsed, unit.dts)
        if value <= last:
            return _NOTHING
        self._set(unit, value)
        return Ticks((value,))

    def _set(self, unit: AccessUnit, value: int) -> None:
        self._last = value
        self._marks = {unit.stream.pid: unit.dts}
