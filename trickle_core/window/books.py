"""Two small books that a relay keeps: how much memory is in use, and what falls due when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

from attrs import define, field


@define(eq=False)
class Account:
    """Bytes in use under a limit, and under the limit of the account above."""

    limit: int
    above: Account | None = None
    used: int = field(default=0, init=False)

    def fits(self, size: int) -> bool:
        """Whether ``size`` more bytes stay within every limit."""
        within = self.used + size <= self.limit
        return within and (self.above is None or self.above.fits(size))

    def take(self, size: int) -> None:
        """Book ``size`` bytes, also beyond the limit: who asks first is the caller's affair."""
        self.used += size
        if self.above is not None:
            self.above.take(size)

    def give(self, size: int) -> None:
        """Book ``size`` bytes back."""
        self.take(-size)


Errand = Callable[[float], None]
"""Called with the time. It looks for itself whether it is still wanted: entries are never
withdrawn, which keeps the agenda a plain heap."""


@define(eq=False)
class Agenda:
    """What is to be done at which time."""

    _entries: list[tuple[float, int, Errand]] = field(factory=list, init=False)
    _order: count[int] = field(factory=count, init=False)

    def add(self, when: float, errand: Errand) -> None:
        """Have ``errand`` called at ``when``; never, if that is infinite."""
        if math.isfinite(when):
            heapq.heappush(self._entries, (when, next(self._order), errand))

    def deadline(self) -> float:
        """When the next entry falls due; ``math.inf`` if there is none."""
        return self._entries[0][0] if self._entries else math.inf

    def run(self, now: float) -> None:
        """Do all that is due. What an errand adds waits for the next call, even if due."""
        due = []
        while self._entries and self._entries[0][0] <= now:
            due.append(heapq.heappop(self._entries)[2])
        for errand in due:
            errand(now)
