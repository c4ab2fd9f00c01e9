"""What waits between two stations, and what goes when there is too much of it.

Live, the newest wins: pictures by their number, sound by how long it has waited. Where every frame
counts, nothing goes, and whoever brings more has to wait.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final, Self

import trio
from attrs import define, field

from trickle_core.mpegts import AccessUnit
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.handing import Queue, Sender
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.settings import Pace

SOUNDS: Final = 1024
"""Coded sounds that may wait: some twenty seconds, and less than a megabyte. A stream that begins
inside a long segment gets all of that segment's sound at once.
"""


@define(eq=False)
class WaitingFrames:
    """Decoded frames before the handler, at most ``room`` of them.

    When there is no room, the oldest goes (live), or the decoder waits (every frame). Where more
    media came than time has passed since, that is the input's doing: a stream that begins inside a
    long segment gets all of that segment's frames at once, and so does one whose input had stalled.
    ``overlay`` sees each frame, and may keep it.
    """

    room: int
    pace: Pace
    meters: Meters
    overlay: Overlay | None = None
    _queue: Queue[VideoFrame] = field(init=False)
    _put: Sender[VideoFrame] = field(init=False)
    _came: deque[float] = field(init=False)
    """When the frames that can be waiting, and the newest one, were put."""

    def __attrs_post_init__(self) -> None:
        self._queue = Queue(self.room)
        self._put = self._queue.sender()
        self._came = deque(maxlen=self.room + 1)

    async def put(self, frame: VideoFrame) -> bool:
        """Add a frame; False: it is too late for that. Blocks only where every frame counts."""
        try:
            if self.overlay and self.overlay.is_on and await self.overlay.take(frame):
                self._clear()
            elif self.pace is Pace.EVERY_FRAME:
                await self._put.send(frame)
            else:
                self._push(frame)
        except trio.ClosedResourceError:
            return False
        return True

    def _push(self, frame: VideoFrame) -> None:
        self._came.append(trio.current_time())
        oldest = self._put.push(frame)
        if oldest is not None:
            seconds = self._came[-1] - self._came[0]
            is_burst = seconds < (frame.seconds - oldest.seconds) / 2
            self.meters.drop(Drop.BURST if is_burst else Drop.SLOW_HANDLER)

    def _clear(self) -> None:
        """Nothing waits for a handler that is not to be called."""
        self.meters.drop(Drop.OVERLAID, len(self._queue.take(self.room)))

    def __aiter__(self) -> Queue[VideoFrame]:
        return self._queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No more frames will be put: the handler's station ends when those that wait are done."""
        self._put.close()
        if self.overlay:
            self.overlay.close()


@define(eq=False)
class WaitingSound:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No more sound will be put: its station ends when what waits is done."""
        self._put.close()
