"""In which order pictures and sound are written.

Sound is ready before the picture of the same moment, because nobody processes it. It waits for that
picture, so that a segment has the sound that belongs to it; but never for longer than a bound, so
that sound goes on when the picture stops.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit

FIRST_PICTURE: Final = 10 * CLOCK_RATE
"""How long sound waits for the first picture of all, which a model may keep for seconds. Nothing is
being written yet that could be held up, and without its sound that picture would begin mute.
"""


@define(eq=False)
class Interleaver:
    """Coded units in, as they become ready; out, in the order to write them. ``wait`` is in 1/90000
    s.
    """

    wait: int
    has_picture: bool = True
    _picture: int | None = None
    _held: deque[AccessUnit] = field(factory=deque)

    def put(self, unit: AccessUnit) -> list[AccessUnit]:
        """Take a unit; returns what can be written now."""
        if unit.stream.codec.is_video:
            self._picture = unit.pts
            return [*self._release(unit.pts), unit]
        self._held.append(unit)
        if not self.has_picture:
            return self.flush()
        if self._picture is None:
            return self._release(unit.pts - FIRST_PICTURE)
        return self._release(max(unit.pts - self.wait, self._picture))

    def flush(self) -> list[AccessUnit]:
        """The end: returns whatever was still waiting."""
        held = list(self._held)
        self._held.clear()
        return held

    def _release(self, until: int) -> list[AccessUnit]:
        ready = []
        while self._held and self._held[0].pts <= until:
            ready.append(self._held.popleft())
        return ready
