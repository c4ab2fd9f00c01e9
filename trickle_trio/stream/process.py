"""The third station of the picture: the user's handler.

As many frames are with the handler at once as it says it can take; they leave in the order in which
they came. Each is carried by a worker, who takes a frame, has it processed, and waits until the
frame before has left.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio
from attrs import define, field, frozen

from trickle_core.mpegts import CLOCK_RATE
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import Handlers, VideoProcessingResult
from trickle_trio.stream.handing import Sender
from trickle_trio.stream.meters import Drop, Meters, Stage
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.skipping import HandlerSpeed
from trickle_trio.stream.times import RisingTimes, stamped, ticks_of
from trickle_trio.stream.waiting import WaitingFrames
from trickle_trio.stream.watchdog import Watchdog
from trickle_trio.stream.wishes import Wishes

LONG_FIRST: Final = 0.02
"""Seconds. A first call that takes longer, for it sets things up, leaves frames waiting that no viewer
misses: the stream has only begun. It begins at the live edge, and not so much behind it."""


@frozen(eq=False)
class _Turn:
    """A frame's place in the order of leaving."""

    frame: VideoFrame
    ticks: int
    """Its time. Kept apart, for the handler may change the frame."""
    before: trio.Event
    """The frame before has left."""
    left: trio.Event = field(factory=trio.Event)


@define(eq=False)
class PictureHandling:
    """Has each frame processed, and passes them on in order."""

    handlers: Handlers
    wishes: Wishes
    meters: Meters
    watchdog: Watchdog
    overlay: Overlay
    times: RisingTimes
    speed: HandlerSpeed | None = None
    """Where frames are to be left out evenly."""
    _taking: trio.Lock = field(factory=trio.Lock)
    _newest: trio.Event = field(factory=trio.Event)
    """The frame that was taken last has left."""
    _stage: Stage = field(init=False)
    _waits: bool = field(init=False)
    _is_alone: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._newest.set()
        self._stage = self.meters.stage("handler")
        self._waits = self.handlers.video_waits
        self._is_alone = self.handlers.concurrency == 1

    async def run(self, frames: WaitingFrames, out: Sender[VideoFrame]) -> None:
        """Process until the frames end. Blocks while ``out`` is full: then frames wait, or are
        dropped, before here.
        """
        with out:
            async with trio.open_nursery() as nursery:
                for _ in range(self.handlers.concurrency):
                    nursery.start_soon(self._work, frames, out)

    async def _work(self, frames: WaitingFrames, out: Sender[VideoFrame]) -> None:
        # A call of its own for each frame: between two, nothing here holds one. As a tensor it has
        # eleven megabytes.
        while await self._carry_next(frames, out):
            pass

    async def _carry_next(self, frames: WaitingFrames, out: Sender[VideoFrame]) -> bool:
        """Have the next frame processed, and pass it on in its turn; False: there is none."""
        turn = await self._take(frames)
        if turn is None:
            return False
        given = self.wishes.fitted(turn.frame)
        result = await self._process(given)
        if self._stage.count == 1 and self._stage.seconds > LONG_FIRST:
            frames.skip_to_newest()
        if not turn.before.is_set():
            await turn.before.wait()
        processed = self._finished(result, given, turn.ticks)
        del given, result  # what it was made of is not kept while it waits for the encoder
        if processed is not None:
            await out.send(processed)
        turn.left.set()
        return True

    async def _take(self, frames: WaitingFrames) -> _Turn | None:
        """The next frame that is wanted. One worker at a time: the turns are given in the frames'
        order.
        """
        if self._is_alone:
            return await self._turn(frames)
        async with self._taking:
            return await self._turn(frames)

    async def _turn(self, frames: WaitingFrames) -> _Turn | None:
        async for frame in frames:
            if self.overlay.is_on and self.overlay.has_passed(frame):
                self.meters.drop(Drop.OVERLAID)
            elif self.wishes.throttle.passes(frame.timestamp / CLOCK_RATE):
                turn = _Turn(frame, frame.timestamp, self._newest)
                self._newest = turn.left
                return turn
            else:
                is_limited = self.wishes.throttle.is_limited
                self.meters.drop(Drop.SKIPPED if is_limited else Drop.FRAMERATE)
        return None

    async def _process(self, given: VideoFrame) -> VideoFrame | VideoProcessingResult:
        instead: VideoFrame | VideoProcessingResult = given
        began = trio.current_time()
        call = partial(self.handlers.video, given)
        result = await self.watchdog.call("video", call, instead, waits=self._waits)
        now = trio.current_time()
        self._stage.took(now - began)
        if self.speed is not None:
            self.wishes.throttle.limit = self.speed.took(now - began, now)
        # Behind an overlay, nobody is shown the frame of a call that was given up.
        is_answer = not (self.watchdog.strikes and self.overlay.is_shown)
        return result if is_answer else VideoProcessingResult.WITHHELD

    def _finished(
        self, result: VideoFrame | VideoProcessingResult, given: VideoFrame, now: int
    ) -> VideoFrame | None:
        if isinstance(result, VideoProcessingResult):
            self.meters.drop(Drop.WITHHELD)
            self.overlay.withheld()
            return None
        processed = self._in_size(result, given)
        if self.overlay.is_on and not self.overlay.answered(processed, given):
            self.meters.drop(Drop.OVERLAID)
            return None
        return self._in_time(processed, now)

    def _in_size(self, result: VideoFrame, given: VideoFrame) -> VideoFrame:
        same = (result.width, result.height) == (given.width, given.height)
        if not self.wishes.keep_size or same:
            return result
        return result.fitted(given.width, given.height, self.wishes.fit)

    def _in_time(self, result: VideoFrame, now: int) -> VideoFrame | None:
        """Output time rises. A frame whose own time cannot be, because something as late has left,
        or because nothing so late has come in, is shown in place of the frame it was made of; or,
        where that is the overlay's, right behind.
        """
        last, ticks = self.times.last, ticks_of(result)
        if ticks is None or not last < ticks <= now:
            ticks = now
        if ticks <= last:
            ticks = self.overlay.place_behind(last)
        if ticks is None:
            self.meters.drop(Drop.OUT_OF_ORDER)
            return None
        self.times.last = ticks
        return stamped(result, ticks)
