"""Keeping a stream below a number of frames a second, by the frames' own time."""

from __future__ import annotations

import math
from typing import Final

from attrs import define

EARLY: Final = 0.25
"""The share of a frame's time by which a frame may come before its turn: clocks of cameras
jitter."""


@define
class Throttle:
    """Lets through at most ``rate`` frames a second, or ``limit`` if that is lower, by their own time; both may change.

    Turns come one frame's time after another, however late each is taken: so 25 frames a second
    become 24, and not the 23 that come of counting on from the last one taken. A frame that comes
    most of a frame's time late moves the turns behind it a little; where no turn was taken for all of a frame's time,
    they are counted from then on: a pause is not made up for.
    """

    rate: float
    limit: float = math.inf
    _turn: float = -math.inf
    """When the next frame is due."""

    @property
    def is_limited(self) -> bool:
        """Whether the limit is what holds frames back."""
        return self.limit < self.rate

    def passes(self, seconds: float) -> bool:
        """Whether the frame of this time goes through. Times rise."""
        step = 1 / min(self.rate, self.limit)
        if seconds < self._turn - step * EARLY:
            return False
        if seconds >= self._turn + step:
            self._turn = seconds + step * (1 - EARLY)
        else:
            self._turn = max(self._turn + step, seconds + step * EARLY)
        return True
