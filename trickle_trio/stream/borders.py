"""Where one output segment ends and the next begins.

The encoder decides where the key frames are, and each of them begins a segment. Sound goes along
with the picture; only where there is none, or where it has stayed away for long, sound begins
segments of its own, cut by time.

How long the picture has been away is counted in sound: a handler that delays the picture by seconds
must not look like a picture that has gone.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from attrs import define

from trickle_core.mpegts import AccessUnit

PATIENCE: Final = 2
"""How many segments' length of sound a picture may stay away."""


class Place(Enum):
    """Where a unit goes."""

    FIRST = auto()
    """A new segment begins with it."""
    WITHIN = auto()
    """Into the segment that is open."""
    NOWHERE = auto()
    """It cannot be decoded from what is there: it follows a key frame that is not."""


class Segment(Enum):
    """What is open."""

    NONE = auto()
    PICTURE = auto()
    """A segment that began with a key frame."""
    SOUND = auto()
    """A segment that began with sound."""


@define(eq=False)
class Borders:
    """Places units in the order of their writing. ``length`` of a segment of sound is in 1/90000 s.

    ``has_picture``: whether a picture is to be expected.
    """

    length: int
    has_picture: bool = True
    segment: Segment = Segment.NONE
    _began: int = 0
    """The time of the segment's first unit."""
    _alone_since: int | None = None
    """The time of the first sound since the last picture."""

    def place(self, unit: AccessUnit) -> Place:
        """Say where the next unit goes; where that is FIRST, its segment is open from now on."""
        if unit.stream.codec.is_video:
            self._alone_since = None
            return self._place_picture(unit)
        self._alone_since = unit.pts if self._alone_since is None else self._alone_since
        return self._place_sound(unit)

    def renew(self, unit: AccessUnit) -> Place:
        """Say where a unit goes that the open segment's tables do not know: where the segment is
        one of sound, that can be followed by another at any unit.
        """
        is_sound = self.segment is Segment.SOUND
        return self._open(Segment.SOUND, unit) if is_sound else Place.NOWHERE

    def lose(self) -> None:
        """The segment that was open is lost: nothing goes into it any more."""
        self.segment = Segment.NONE

    def _place_picture(self, unit: AccessUnit) -> Place:
        if unit.key:
            return self._open(Segment.PICTURE, unit)
        return Place.WITHIN if self.segment is Segment.PICTURE else Place.NOWHERE

    def _place_sound(self, unit: AccessUnit) -> Place:
        if self.segment is Segment.SOUND:
            is_full = unit.pts - self._began >= self.length
            return self._open(Segment.SOUND, unit) if is_full else Place.WITHIN
        if self._is_alone(unit):
            return self._open(Segment.SOUND, unit)
        return Place.NOWHERE if self.segment is Segment.NONE else Place.WITHIN

    def _is_alone(self, unit: AccessUnit) -> bool:
        since = unit.pts if self._alone_since is None else self._alone_since
        return not self.has_picture or unit.pts - since >= PATIENCE * self.length

    def _open(self, segment: Segment, unit: AccessUnit) -> Place:
        self.segment, self._began = segment, unit.pts
        return Place.FIRST
