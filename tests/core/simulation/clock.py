"""Virtual time: a heap of what is to happen when. Nothing sleeps."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

from attrs import define, field

Call = Callable[[], None]

CROWD: Final = 20_000
"""So many events within a virtual second are no life any more but somebody running in a circle."""


class Livelock(AssertionError):
    """Time stands still while things go on happening."""


@define(eq=False, repr=False)
class Clock:
    """Seconds since the simulation began."""

    now: float = 0.0
    events: int = 0
    _heap: list[tuple[float, int, Call]] = field(factory=list, init=False)
    _order: int = field(default=0, init=False)
    _counted_at: float = field(default=-math.inf, init=False)

    def at(self, when: float, call: Call) -> None:
        """Call at that time, or now; after all that was planned earlier for the same time."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, call))

    def after(self, seconds: float, call: Call) -> None:
        """Call so many seconds from now."""
        self.at(self.now + seconds, call)

    def run(self, until: float) -> None:
        """Let everything happen up to then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call = heapq.heappop(heap)
            self.events += 1
            if self.events % CROWD == 0:
                self._check_pace()
            call()
        self.now = until

    def _check_pace(self) -> None:
        if self.now - self._counted_at < 1.0:
            raise Livelock(f"{CROWD} events between {self._counted_at} and {self.now}")
        self._counted_at = self.now


@define(eq=False, repr=False)
class Alarm:
    """One timer that can be set anew: later, earlier, or to never."""

    clock: Clock
    call: Call
    due: float = field(default=math.inf, init=False)
    _armed: float = field(default=math.inf, init=False)

    def set(self, when: float) -> None:
        """Ring then, and at no other time."""
        self.due = when
        if when < self._armed:
            self._arm()

    def _arm(self) -> None:
        when = self._armed = max(self.due, self.clock.now)
        self.clock.at(when, lambda: self._ring(when))

    def _ring(self, when: float) -> None:
        if when != self._armed:
            return
        self._armed = math.inf
        if self.due <= self.clock.now:
            self.due = math.inf
            self.call()
        elif self.due < math.inf:
            self._arm()
