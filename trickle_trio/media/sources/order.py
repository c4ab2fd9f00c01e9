"""The units of several tracks in the order to write them, though one track is ready before another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream

LONGEST_WAIT: Final = 2 * CLOCK_RATE
"""How far one track may be ahead of another before it stops waiting: muxers interleave within a second."""


@define
class _Lane:
    """A track's units that wait; ``latest``: the dts up to which it has come."""

    waiting: deque[AccessUnit] = field(factory=deque)
    latest: int | None = None


class DecodingOrder:
    """Units in, each track in its own order; out, by dts over all tracks, the picture before its sound.

    ``wait``, in 1/90000 s: a unit waits no longer for a track that lags or is silent; with 0 none waits.
    """

    def __init__(self, streams: Iterable[ElementaryStream], wait: int = LONGEST_WAIT) -> None:
        ranked = sorted(streams, key=lambda stream: not stream.codec.is_video)
        self._lanes = {stream.pid: _Lane() for stream in ranked}
        self._wait = wait

    def put(self, units: Iterable[AccessUnit]) -> list[AccessUnit]:
        """Take units; gives those whose turn it is."""
        for unit in units:
            lane = self._lanes[unit.stream.pid]
            lane.waiting.append(unit)
            lane.latest = unit.dts
        return list(self._due())

    def flush(self) -> list[AccessUnit]:
        """The end: gives all that waited."""
        rest = []
        while (lane := self._first()) is not None:
            rest.append(lane.waiting.popleft())
        return rest

    def _due(self) -> Iterator[AccessUnit]:
        while (lane := self._first()) is not None and self._is_due(lane.waiting[0]):
            yield lane.waiting.popleft()

    def _first(self) -> _Lane | None:
        """Whose unit is next, of those that have one; the earlier lane where two are equal."""
        lanes = [lane for lane in self._lanes.values() if lane.waiting]
        return min(lanes, key=lambda lane: lane.waiting[0].dts, default=None)

    def _is_due(self, unit: AccessUnit) -> bool:
        reached = [lane.latest for lane in self._lanes.values()]
        if all(dts is not None and dts >= unit.dts for dts in reached):
            return True
        return max(dts for dts in reached if dts is not None) - unit.dts >= self._wait
