"""What waits between two stations, and what goes when there is too much of it.

Live, the newest wins: pictures by their number and by how long some have been waiting, sound by how
long it has. Where every frame counts, nothing goes, and whoever brings more has to wait.
"""

from __future__ import annotations

import math
from typing import Final, Self, TypeAlias

import trio
from attrs import define, field

from trickle_core.mpegts import AccessUnit
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.handing import Closing, Queue, Sender
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.settings import Pace

SOUNDS: Final = 1024
"""Coded sounds that may wait: some twenty seconds, and less than a megabyte. A stream that begins
inside a long segment gets all of that segment's sound at once.
"""

_Came: TypeAlias = tuple[float, VideoFrame]
"""A frame, and when it came."""


PATIENCE: Final = 1.0
"""Seconds for which some frame or other may wait without a break. Behind a call that took long, frames
wait and are worked off; where they wait all the time, that is nothing but delay."""


@define(eq=False)
class WaitingFrames(Closing):
    """Decoded frames before the handler, at most ``room`` of them: an async iterator.

    When there is no room, the oldest goes (live), or the decoder waits (every frame). Live, all but
    the newest go too when there have been some for too long. Where more media came than time has passed
    since, that is the input's doing: a stream that begins inside a long segment gets all of that
    segment's frames at once, and so does one whose input had stalled.
    ``overlay`` sees each frame, and may keep it.
    """

    room: int
    pace: Pace
    meters: Meters
    overlay: Overlay | None = None
    _queue: Queue[_Came] = field(init=False)
    _put: Sender[_Came] = field(init=False)
    _since: float = math.inf
    """Since when something has been waiting, without a break. Once that is too long ago, the handler is
    behind, and gets the newest frame only, until it finds nothing that waits.
    """

    def __attrs_post_init__(self) -> None:
        self._queue = Queue(self.room)
        self._put = self._queue.sender()

    async def put(self, frame: VideoFrame) -> bool:
        """Add a frame; False: it is too late for that. Blocks only where every frame counts."""
        came = trio.current_time(), frame
        try:
            if self.overlay and self.overlay.is_on and await self.overlay.take(frame):
                self._clear()
            elif self.pace is Pace.EVERY_FRAME:
                await self._put.send(came)
            elif (oldest := self._put.push(came)) is not None:
                self._lose([oldest], came)
        except trio.ClosedResourceError:
            return False
        return True

    def _lose(self, lost: list[_Came], newest: _Came) -> None:
        for came, frame in lost:
            media = newest[1].seconds - frame.seconds
            is_burst = newest[0] - came < media / 2
            self.meters.drop(Drop.BURST if is_burst else Drop.SLOW_HANDLER)

    def _clear(self) -> None:
        """Nothing waits for a handler that is not to be called."""
        self.meters.drop(Drop.OVERLAID, len(self._queue.take(self.room)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> VideoFrame:
        """The oldest that waits, or the newest; blocks until there is one."""
        if not len(self._queue):
            self._since = math.inf
        oldest = await anext(self._queue)
        if self.pace is Pace.LIVE and len(self._queue) and self._is_behind(oldest[0]):
            *lost, newest = oldest, *self._queue.take(self.room)
            self._lose(lost, newest)
            return newest[1]
        return oldest[1]

    def _is_behind(self, came: float) -> bool:
        self._since = min(self._since, came)
        return trio.current_time() - self._since > PATIENCE

    def skip_to_newest(self) -> None:
        """The handler is behind: live, what comes next is the newest frame, until it has caught up."""
        self._since = -math.inf

    def close(self) -> None:
        """No more frames will be put: the handler's station ends when those that wait are done."""
        self._put.close()
        if self.overlay:
            self.overlay.close()


@define(eq=False)
class WaitingSound(Closing):
    """Coded sound before its handler, or before its place beside the picture.

    Live, what has waited ``wait`` seconds by the clock is too late, and is left out: otherwise a
    handler that is slower than the input would be further behind the picture with every moment.
    """

    wait: float
    pace: Pace
    meters: Meters
    _queue: Queue[tuple[float, AccessUnit]] = field(init=False)
    _put: Sender[tuple[float, AccessUnit]] = field(init=False)
    _straight: Sender[AccessUnit] | None = None
    """Where what comes may go at once, for nothing waits in front of it."""

    def __attrs_post_init__(self) -> None:
        self._queue = Queue(SOUNDS)
        self._put = self._queue.sender()

    async def put(self, unit: AccessUnit) -> None:
        """Add a unit. Blocks only where every frame counts."""
        if self._straight is not None and self._straight.offer(unit):
            return
        self._straight = None
        item = trio.current_time(), unit
        if self.pace is Pace.EVERY_FRAME:
            await self._put.send(item)
        elif self._put.push(item) is not None:
            self._lose()

    async def pass_by(self, coded: Sender[AccessUnit]) -> None:
        """Have everything put straight into ``coded``, which costs no turn of the loop. What finds no
        room there waits here for its place, and not in front of the pictures.
        """
        with coded:
            self._straight = coded
            async for unit in self:
                await coded.send(unit)
                self._straight = None if len(self._queue) else coded

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AccessUnit:
        while True:
            came, unit = await anext(self._queue)
            if self.pace is Pace.EVERY_FRAME or trio.current_time() - came <= self.wait:
                return unit
            self._lose()

    def _lose(self) -> None:
        self.meters.error("sound dropped", "nobody took the sound for too long")

    def close(self) -> None:
        """No more sound will be put: its station ends when what waits is done."""
        self._put.close()
