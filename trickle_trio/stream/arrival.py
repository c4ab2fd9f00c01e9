"""Units of the input onto the stream's clock.

A program that gains a track is the one moment at which it does not show in a unit which clock it is
on: a publisher that came again with sound where there was none, a few seconds after it went, counts
from somewhere near by. The tracks that were there before tell, since for them the clock jumps or
goes on; so units wait until one of those has come.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from trickle_core.mpegts import AccessUnit, Timeline

LONGEST: Final = 64
"""Units that wait at most: about a second of sound."""


@define(eq=False)
class Arrivals:
    """Places units, in the order in which they come."""

    _timeline: Timeline = field(factory=Timeline)
    _carried: frozenset[int] = frozenset()
    _stayed: frozenset[int] = frozenset()
    """The tracks that were there before the program changed, until one of them has come."""
    _waiting: list[AccessUnit] = field(factory=list)

    def expect(self, pids: frozenset[int]) -> list[AccessUnit]:
        """The program has these tracks from here on; gives what has waited."""
        waited = self.flush()
        for pid in self._carried - pids:
            self._timeline.leave(pid)
        stayed = self._carried & pids
        self._stayed = stayed if pids - stayed else frozenset()
        self._carried = pids
        return waited

    def place(self, unit: AccessUnit) -> list[AccessUnit]:
        """Take the next unit; gives those whose time is known now."""
        if not self._stayed:
            return [self._timeline.place(unit)]
        self._waiting.append(unit)
        is_told = unit.stream.pid in self._stayed
        return self.flush() if is_told or len(self._waiting) >= LONGEST else []

    def flush(self) -> list[AccessUnit]:
        """Wait no longer: gives what has waited."""
        waiting, self._waiting = self._waiting, []
        first = [unit for unit in waiting if unit.stream.pid in self._stayed]
        others = [unit for unit in waiting if unit.stream.pid not in self._stayed]
        self._stayed = frozenset()
        placed = {id(unit): self._timeline.place(unit) for unit in first + others}
        return [placed[id(unit)] for unit in waiting]
