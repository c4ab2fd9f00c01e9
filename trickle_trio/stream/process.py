"""The third station of the picture: the user's handler, and what keeps it from harming the
stream.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import trio
from attrs import define

from trickle_core.mpegts import CLOCK_RATE
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import HandlerError, Handlers, VideoProcessingResult
from trickle_trio.stream.decode import WaitingFrames
from trickle_trio.stream.ending import End, StreamEnds
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import StreamPolicy

T = TypeVar("T")

Report = Callable[[str, BaseException], None]
"""Tells the world of a handler's fault, at a bounded rate."""

EARLY: Final = 0.25
"""The share of a frame's time by which a frame may come before its turn: clocks of cameras
jitter."""


@define
class Throttle:
    """Lets through at most ``rate`` frames a second, by their own time."""

    rate: float
    _due: float = -math.inf

    def passes(self, seconds: float) -> bool:
        """Whether the frame of this time goes through. Times rise."""
        step = 1 / self.rate
        if seconds < self._due - step * EARLY:
            return False
        # Counting on from when it was due, not from when it came, keeps the mean at the rate.
        self._due = max(self._due + step, seconds + step * (1 - EARLY))
        return True


@define(eq=False)
class Watchdog:
    """Gives every call of a handler a deadline, and loses patience after so many missed ones in a
    row.
    """

    policy: StreamPolicy
    report: Report
    strikes: int = 0

    async def call(self, kind: str, handler: Callable[[], Awaitable[T]], instead: T) -> T:
        """Call a handler; ``instead`` is what comes of it when it fails or takes too long."""
        with trio.move_on_after(self.policy.handler_timeout) as scope:
            try:
                result = await handler()
            except HandlerError as error:
                self.report(kind, error)
                result = instead
        if not scope.cancelled_caught:
            self.strikes = 0
            return result
        self.strikes += 1
        late = TimeoutError(f"no answer within {self.policy.handler_timeout:g} s")
        self.report(kind, late)
        if self.strikes >= self.policy.handler_strikes:
            raise StreamEnds(End.HANDLER_HUNG, f"{kind}: {late}, {self.strikes} times in a row")
        return instead


@define(eq=False)
class Wishes:
    """What was asked of the picture; may change while the stream runs."""

    size: tuple[int, int] | None
    throttle: Throttle
    keep_size: bool
    """The output keeps the size that the handler was given, whatever it returns."""


@define(eq=False)
class PictureHandling:
    """Has each frame processed, in order."""

    handlers: Handlers
    wishes: Wishes
    meters: Meters
    watchdog: Watchdog
    _last: int = -1

    async def run(self, frames: WaitingFrames, out: trio.MemorySendChannel[VideoFrame]) -> None:
        """Process until the frames end. Blocks while ``out`` is full: then frames wait, or are
        dropped, before here.
        """
        with out:
            async for frame in frames:
                if not self.wishes.throttle.passes(frame.seconds):
                    self.meters.drop(Drop.FRAMERATE)
                    continue
                processed = await self._process(frame)
                if processed is not None:
                    await out.send(processed)

    async def _process(self, frame: VideoFrame) -> VideoFrame | None:
        given = frame.fitted(*self.wishes.size) if self.wishes.size else frame
        instead: VideoFrame | VideoProcessingResult = given
        with self.meters.stage("handler"):
            result = await self.watchdog.call("video", partial(self.handlers.video, given), instead)
        if isinstance(result, VideoProcessingResult):
            self.meters.drop(Drop.WITHHELD)
            return None
        return self._in_time(self._in_size(result, given), given)

    def _in_size(self, result: VideoFrame, given: VideoFrame) -> VideoFrame:
        same = (result.width, result.height) == (given.width, given.height)
        if not self.wishes.keep_size or same:
            return result
        return result.fitted(given.width, given.height)

    def _in_time(self, result: VideoFrame, given: VideoFrame) -> VideoFrame | None:
        """Output time rises, in our clock's ticks. A frame made without a time takes that of the
        frame it was made of.
        """
        ticks = round(result.timestamp * result.time_base * CLOCK_RATE)
        if ticks <= self._last and result.timestamp == 0:
            ticks = given.timestamp
        if ticks <= self._last:
            self.meters.drop(Drop.OUT_OF_ORDER)
            return None
        self._last = result.timestamp = ticks
        result.time_base = given.time_base
        return result
