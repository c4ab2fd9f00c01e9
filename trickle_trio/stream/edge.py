"""Where a live stream begins to be shown.

A start falls into the middle of a segment, and the server gives all of that segment from its first
byte: up to a GOP of pictures that are old already. They must be decoded, for the newest refers to
them; to have them processed, encoded and shown as well would keep the first seconds behind the
clock, and the handler busy with what nobody waits for. The relay says how many bytes the segment
held when it was asked for (``Lp-Trickle-Size``); where a server does not, nothing is old. Nor is
anything of a container: libav reads what it likes, so which bytes became which picture is unknown.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit

MARGIN: Final = CLOCK_RATE // 20
"""What is so much older than the newest picture that was there is shown too: it may have been sent
while the start was on its way."""

PICTURES: Final = 32
"""Old pictures that are kept until it is known which are shown: more than that are not reordered,
nor within the margin."""

SOUNDS: Final = 256
"""Old sounds that are kept until it is known with which picture the stream begins; some five
seconds."""


@define(eq=False)
class LiveEdge:
    """Shared by who reads and who decodes. ``since``: a picture of before is decoded, not shown.

    ``is_live``: whether anything is left out at all.
    """

    is_live: bool = True
    since: float = -math.inf
    _newest: float = -math.inf
    """The time of the newest picture that was there, since the last release."""
    _pictures: deque[AccessUnit] = field(factory=deque)
    """Those that may be shown: not to be decoded before it is known which are."""
    _sounds: deque[AccessUnit] = field(factory=lambda: deque(maxlen=SOUNDS))

    def pass_picture(self, unit: AccessUnit) -> Iterator[AccessUnit]:
        """A picture was there before the stream was; gives those that can be decoded now, in order,
        none of which is shown.
        """
        self.since = math.inf
        self._newest = max(self._newest, unit.pts)
        self._pictures.append(unit)
        while self._pictures and self._is_settled(self._pictures[0]):
            yield self._pictures.popleft()

    def _is_settled(self, unit: AccessUnit) -> bool:
        """Whether it will not be shown, or waits for too long to be told."""
        return unit.pts < self._newest - MARGIN or len(self._pictures) > PICTURES

    def pass_sound(self, unit: AccessUnit) -> None:
        """So was a sound: it may belong to a picture that will be shown."""
        self._sounds.append(unit)

    def release(self) -> tuple[list[AccessUnit], list[AccessUnit]]:
        """The stream has caught up: the pictures that are to be shown, and the sounds to be heard, of
        those that were there.
        """
        if self.since == math.inf:
            self.since, self._newest = self._newest - MARGIN, -math.inf
        pictures = list(self._pictures)
        sounds = [unit for unit in self._sounds if unit.pts >= self.since]
        self._pictures.clear()
        self._sounds.clear()
        return pictures, sounds
