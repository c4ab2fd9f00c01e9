"""In which order pictures and sound are written.

Sound is ready before the picture of the same moment, because nobody processes it. It waits for that
picture, so that a segment has the sound that belongs to it: as long as pictures come, also when they
come late, because the handler takes its time or the stream began inside a long segment and gets
seconds of sound at once. When they stop, sound goes on without them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.times import loop_clock
from trickle_trio.stream.tracks import Tracks

LONGEST: Final = 10.0
"""Seconds that sound waits at most, whatever comes. So long it also waits for the first picture of
all, which a model may keep for long: nothing is being written yet that could be held up, and without
its sound that picture would begin mute.
"""

HELD: Final = 2048
"""Sounds that are held at most, whatever the clock says: some forty seconds."""

OVERLAP: Final = CLOCK_RATE // 10
"""Sound that began so shortly before a picture goes behind it: it is heard with that picture, and
would be missing where a segment begins with it. No codec of ours has longer frames."""


class CodedUnits(Queue[AccessUnit]):
    """The output's units, which come from several stations and are taken in the order of writing.

    Sound that waits for its picture wakes nobody; it takes no room either.
    """

    def __init__(self, room: int, wait: float, tracks: Tracks) -> None:
        super().__init__(room)
        self._order = Interleaver(wait)
        self._time = loop_clock()
        self._tracks = tracks

    def _put(self, item: AccessUnit) -> None:
        self._order.has_picture = self._tracks.video is not None
        self._items.extend(self._order.put(item, self._time()))

    def _end(self) -> None:
        self._items.extend(self._order.flush())


@define(eq=False)
class Interleaver:
    """Coded units in, as they become ready; out, in the order to write them.

    Sound waits until its picture is there, or no picture has come for ``wait`` seconds.
    """

    wait: float
    has_picture: bool = True
    _picture: int | None = None
    """How far pictures have come."""
    _came: float = 0.0
    """When the last one did."""
    _held: deque[tuple[float, AccessUnit]] = field(factory=deque)

    def put(self, unit: AccessUnit, now: float) -> list[AccessUnit]:
        """Take a unit; returns what can be written now."""
        if unit.stream.codec.is_video:
            self._picture = unit.dts  # pictures that are copied may be reordered
            self._came = now
            ready = self._release(now)
            before = sum(sound.pts <= unit.dts - OVERLAP for sound in ready)
            return [*ready[:before], unit, *ready[before:]]
        self._held.append((now, unit))
        return self._release(now) if self.has_picture else self.flush()

    def flush(self) -> list[AccessUnit]:
        """The end: returns whatever was still waiting."""
        held = [unit for _, unit in self._held]
        self._held.clear()
        return held

    def _release(self, now: float) -> list[AccessUnit]:
        ready = []
        while self._held and self._may_go(now, *self._held[0]):
            ready.append(self._held.popleft()[1])
        return ready

    def _may_go(self, now: float, came: float, unit: AccessUnit) -> bool:
        if self._picture is not None and unit.pts <= self._picture:
            return True
        if now - came >= LONGEST or len(self._held) > HELD:
            return True
        return self._picture is not None and now - max(came, self._came) >= self.wait
