"""What time a sample has: the arithmetic that keeps sound with the picture.

Sound arrives as runs of samples, each with a time stamp, and leaves in units of another length. Within a run time is
counted in samples. Between runs the stamps are believed: their clock is the picture's, and the sample rate is only
nominally what it says.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

from attrs import Factory, define

from trickle_core.mpegts.units import CLOCK_RATE

STEADY: Final = CLOCK_RATE // 1000
"""Ticks by which a stamp may be off without meaning anything: what rounding to milliseconds makes (FLV, RTMP)."""

HEARABLE: Final = CLOCK_RATE // 50
"""Ticks from which a hole is filled with silence, and an overlap is cut out. Below, the times of the units follow:
players take that up unheard."""

LONGEST_SILENCE: Final = CLOCK_RATE
"""Ticks beyond which a hole stays one: the encoder starts anew behind it."""


class Join(Enum):
    """How a run of samples goes on from the one before."""

    SEAMLESS = auto()
    SILENCE = auto()
    """A hole is to be filled."""
    OVERLAP = auto()
    """Its beginning has been heard."""
    RESTART = auto()
    """It has nothing to do with what was before."""


@define
class SampleClock:
    """Counts samples in, tells the time of each. ``rate`` is in samples a second, times in 1/90000 s."""

    rate: int
    _written: int = 0
    _anchors: deque[tuple[int, int]] = Factory(deque)

    def join(self, pts: int) -> tuple[Join, int]:
        """Say how a run that starts at ``pts`` goes on, and how many samples are missing or too many."""
        if not self._anchors:
            return Join.SEAMLESS, 0
        off = pts - self.time_of_next()
        if off > LONGEST_SILENCE:
            return Join.RESTART, 0
        if abs(off) < HEARABLE:
            return Join.SEAMLESS, 0
        return Join.SILENCE if off > 0 else Join.OVERLAP, self._samples(abs(off))

    def write(self, pts: int, samples: int) -> None:
        """Take in so many samples, the first of them at ``pts``."""
        if not self._anchors or abs(pts - self.time_of_next()) > STEADY:
            self._anchors.append((self._written, pts))
        self._written += samples

    def time_of_next(self) -> int:
        """When the next sample is due, if nothing is off."""
        index, pts = self._anchors[-1]
        return pts + self._ticks(self._written - index)

    def time_of(self, index: int) -> int:
        """When a sample is to be heard. Asked for in rising order. Below 0: what an encoder puts before the first."""
        while len(self._anchors) > 1 and self._anchors[1][0] <= index:
            self._anchors.popleft()
        anchor, pts = self._anchors[0]
        return pts + self._ticks(index - anchor)

    def _ticks(self, samples: int) -> int:
        return round(samples * CLOCK_RATE / self.rate)

    def _samples(self, ticks: int) -> int:
        return round(ticks * self.rate / CLOCK_RATE)
