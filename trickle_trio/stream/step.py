"""Keeping the picture in step with sound that a handler is at work on.

A picture that is only copied is ready at once, and so is any picture of an input that is read as fast
as can be. The sound of its moment belongs into the same segment.
"""

from __future__ import annotations

import math

import trio
from attrs import define, field

from trickle_trio.stream.tracks import Tracks


@define(eq=False)
class SoundProgress:
    """How far the handled sound has come. ``patience``: seconds without any news of it after which
    nobody waits for it any more, until there are some.
    """

    patience: float
    tracks: Tracks
    _reached: float = -math.inf
    """In 1/90000 s."""
    _heard: float = field(factory=trio.current_time)
    """When there was news."""
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def reach(self, time: int) -> None:
        """Sound of this time has been passed on."""
        self._reached, self._heard = time, trio.current_time()
        self._changed.unpark_all()

    def end(self) -> None:
        """There will be no more sound."""
        self._reached = math.inf
        self._changed.unpark_all()

    async def wait_for(self, time: int) -> None:
        """Wait until the sound has come to this time, in 1/90000 s, or stays away; not where there is
        none. Cancelling is safe.
        """
        while self._reached < time and self.tracks.audio is not None:
            with trio.move_on_at(self._heard + self.patience) as scope:
                await self._changed.park()
            if scope.cancelled_caught:
                break
