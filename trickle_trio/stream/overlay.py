"""The loading overlay: what goes out in place of pictures that the handler does not give.

It lives on the input's frames, as they come, and not on a clock of its own: its pictures have the times of the frames
whose places they take, so they come at the input's pace (below ``max_framerate``), and where there is no input there is
nothing to wait for. Shown by itself, it stands in front of a handler that goes on: frames go to both, because only an
answer tells that the handler is back. Shown by hand, frames are its alone: who asks for it is not ready for them.

Pictures leave in the order of their times, whoever made them. An answer that comes when the overlay has passed its
time is not lost, for a handler that needs longer than the overlay's patience for every frame would never be seen: it
leaves right behind the overlay's last picture.

Where every frame counts, it does not come by itself: the frames would take each other's places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from enum import Enum, auto
from functools import partial
from typing import Final

import trio
from attrs import define, evolve, field

from trickle_core.mpegts import CLOCK_RATE
from trickle_trio.media.frames import VideoFrame
from trickle_trio.media.overlay import Canvas, Caption, OverlayPainter
from trickle_trio.media.pixels import UnreadablePixelsError
from trickle_trio.processor import OverlayConfig, OverlayMode
from trickle_trio.stream.handing import Queue, Sender
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import Pace
from trickle_trio.stream.threads import CodecThread
from trickle_trio.stream.throttle import Throttle
from trickle_trio.stream.times import RisingTimes, stamped
from trickle_trio.stream.wishes import Wishes

LONGEST_STEP: Final = 0.5
"""Seconds that count as waiting between one frame and the next, at most: a pause of the input is not the handler's."""

SLOWEST: Final = CLOCK_RATE // 10
"""1/90000 s from one frame to the next, at most, that an input may be thought to have."""


class OverlayState(Enum):
    """Whether the overlay is shown, and if not, what would bring it."""

    QUIET = auto()
    """The handler has answered, or nothing has come yet."""
    WAITING = auto()
    """Frames have come since, and no answer."""
    SHOWN_AUTO = auto()
    """The handler has not answered for too long."""
    SHOWN_MANUAL = auto()
    """Somebody wants it shown."""

    @property
    def is_shown(self) -> bool:
        """Whether its pictures go out."""
        return self in (OverlayState.SHOWN_AUTO, OverlayState.SHOWN_MANUAL)


class _Fact(Enum):
    FRAME = auto()
    LATE = auto()
    """A frame, and too much time since the first that was not answered."""
    ANSWER = auto()
    RECOVERED = auto()
    """As many answers in a row as it takes to believe them."""
    ASKED = auto()
    RELEASED = auto()


_NEXT: Final[Mapping[tuple[OverlayState, _Fact], OverlayState]] = {
    (OverlayState.QUIET, _Fact.FRAME): OverlayState.WAITING,
    (OverlayState.WAITING, _Fact.ANSWER): OverlayState.QUIET,
    (OverlayState.WAITING, _Fact.RECOVERED): OverlayState.QUIET,
    (OverlayState.WAITING, _Fact.LATE): OverlayState.SHOWN_AUTO,
    (OverlayState.SHOWN_AUTO, _Fact.RECOVERED): OverlayState.QUIET,
    (OverlayState.QUIET, _Fact.ASKED): OverlayState.SHOWN_MANUAL,
    (OverlayState.WAITING, _Fact.ASKED): OverlayState.SHOWN_MANUAL,
    (OverlayState.SHOWN_AUTO, _Fact.ASKED): OverlayState.SHOWN_MANUAL,
    (OverlayState.SHOWN_MANUAL, _Fact.RELEASED): OverlayState.QUIET,
}
"""What is not here changes nothing."""


@define
class OverlayMachine:
    """When the overlay is shown. ``patience``: seconds without an answer; ``enough``: answers in a row that end it."""

    patience: float
    enough: int = 1
    state: OverlayState = OverlayState.QUIET
    _waited: float = 0.0
    _last: float = -math.inf
    """When the last frame came."""
    _answers: int = 0

    def frame_came(self, now: float, *, asked: bool = False, held: bool = False) -> OverlayState:
        """Take in a frame of the input; returns whether the overlay is shown for it.

        ``asked``: somebody wants it shown. ``held``: it is the output that holds everything up, and not the handler.
        """
        self._go(_Fact.ASKED if asked else _Fact.RELEASED)
        if self.state is OverlayState.WAITING:
            step = min(now - self._last, LONGEST_STEP)
            self._waited = 0.0 if held else self._waited + step
            self._go(_Fact.LATE if self._waited >= self.patience else _Fact.FRAME)
        elif self.state is OverlayState.QUIET:
            self._waited = 0.0
            self._go(_Fact.FRAME)
        self._last = now
        return self.state

    def answered(self) -> bool:
        """Take in an answer of the handler's; returns whether it is to be seen."""
        self._answers += 1
        self._go(_Fact.RECOVERED if self._answers >= self.enough else _Fact.ANSWER)
        return not self.state.is_shown

    def withheld(self) -> None:
        """The handler has taken a frame and given nothing for it."""
        self._answers = 0

    def _go(self, fact: _Fact) -> None:
        before, self.state = self.state, _NEXT.get((self.state, fact), self.state)
        if self.state is not before and self.state.is_shown:
            self._answers = 0


@define(eq=False)
class Overlay:
    """The overlay of one stream; see the text at the head of this module.

    ``config``: None, and it comes only when it is asked for. ``times``: the order in which pictures leave.
    """

    config: OverlayConfig | None
    pace: Pace
    wishes: Wishes
    times: RisingTimes
    meters: Meters
    is_on: bool = field(init=False)
    """Whether it may ever be shown. Where not, nothing else here is called for any frame."""
    _asked: bool = False
    _look: OverlayConfig = field(init=False)
    _caption: Caption = field(init=False)
    _machine: OverlayMachine = field(init=False)
    _throttle: Throttle = field(init=False)
    _frames: Queue[VideoFrame] = field(init=False)
    _put: Sender[VideoFrame] = field(init=False)
    _out: Sender[VideoFrame] | None = None
    _newest: int | None = None
    """The time of the frame that came last, and how long after the one before."""
    _step: int = 0
    _shown_at: int | None = None
    """The time of its last picture."""
    _like: tuple[tuple[int, int], Canvas] | None = None
    """What the handler makes of frames of a size."""

    def __attrs_post_init__(self) -> None:
        look = self._restore()
        waits = self.config is not None and look.enabled and self.pace is Pace.LIVE
        patience = look.auto_timeout_seconds if waits else None
        self.is_on = patience is not None
        self._machine = OverlayMachine(
            math.inf if patience is None else patience, look.frame_count_to_disable
        )
        self._throttle = Throttle(self.wishes.throttle.rate)
        self._frames = Queue(1)
        self._put = self._frames.sender()

    # -- from outside; each is one assignment, for any thread may call it

    def ask(self, shown: bool) -> bool:  # noqa: FBT001  handed on as the users give it
        """Show it from the next frame on, or leave it to its rules; False: this stream has none. From any thread."""
        if self._look.enabled:
            self._asked = shown
            self.is_on = (
                self.is_on or shown
            )  # and never off again, so that nobody has to look twice
        return self._look.enabled

    def say(self, progress: float | None, message: str | None) -> bool:
        """Say something else from the next picture on; a message of None stays. From any thread.

        ``TypeError``, ``ValueError``: it cannot be said.
        """
        message = self._caption.message if message is None else message
        self._look = look = evolve(self._look, progress=progress, message=message)
        self._caption = Caption(look.message, look.progress)
        return look.enabled

    @property
    def caption(self) -> Caption:
        """What its next picture says."""
        return self._caption

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody wants it shown."""
        return self._asked

    # -- the input's frames

    async def take(self, frame: VideoFrame) -> bool:
        """Take in a frame that has come; True: the handler is not to get it.

        Waits for room only where every frame counts. ``trio.ClosedResourceError``: the input has ended.
        """
        before, self._newest = self._newest, frame.timestamp
        self._step = 0 if before is None else frame.timestamp - before
        now, held = trio.current_time(), self._is_held_up()
        state = self._machine.frame_came(now, asked=self._asked, held=held)
        if not state.is_shown:
            return False
        self._throttle.rate = self.wishes.throttle.rate
        if self._throttle.passes(frame.seconds):
            await self._hand(copy(frame))  # not the handler's own: it may change that meanwhile
        if state is not OverlayState.SHOWN_MANUAL:
            return False
        self.meters.drop(Drop.OVERLAID)
        return True

    async def _hand(self, frame: VideoFrame) -> None:
        if self.pace is Pace.EVERY_FRAME:
            await self._put.send(frame)
        else:
            self._put.push(frame)

    def _is_held_up(self) -> bool:
        return self._out is not None and self._out.is_waited_for

    def close(self) -> None:
        """No more frames will come."""
        self._put.close()

    # -- the handler's answers

    @property
    def is_shown(self) -> bool:
        """Whether its pictures go out now."""
        return self._machine.state.is_shown

    def has_passed(self, frame: VideoFrame) -> bool:
        """Whether the time of a frame that waits for the handler is over, and nothing is learned from it either."""
        return frame.timestamp <= self.times.last and not self.is_shown

    def answered(self, result: VideoFrame, given: VideoFrame) -> bool:
        """Take in what the handler made of a frame; returns whether it is to be seen."""
        canvas = Canvas(result.width, result.height, result.colour, result.pixel_aspect)
        self._like = (given.width, given.height), canvas
        was_shown = self.is_shown
        is_seen = self._machine.answered()
        if was_shown and is_seen:
            self._restore()  # what was said of this wait says nothing of the next
        return is_seen

    def _restore(self) -> OverlayConfig:
        """Say again what the configuration says."""
        self._look = look = self.config or OverlayConfig()
        self._caption = Caption(look.message, look.progress)
        return look

    def withheld(self) -> None:
        """The handler gave nothing for a frame."""
        self._machine.withheld()

    def place_behind(self, last: int) -> int | None:
        """The time for a picture right behind the overlay's; None: it was not the overlay that left last.

        Half a frame's time, so that the next frame of the input has its own place still.
        """
        step = min(self._step, SLOWEST)  # the input's time may have leapt
        return last + max(step // 2, 1) if last == self._shown_at else None

    # -- its pictures

    async def run(self, out: Sender[VideoFrame]) -> None:
        """Paint what is taken in, until the input ends. Blocks while ``out`` is full; cancelling is safe."""
        self._out = out
        with out, self._frames:
            if not await self._frames.wait():
                return
            with CodecThread("trickle overlay") as thread:
                painter = OverlayPainter(self._look.font)
                async for frame in self._frames:
                    await self._show(frame, painter, thread, out)

    async def _show(
        self,
        frame: VideoFrame,
        painter: OverlayPainter,
        thread: CodecThread,
        out: Sender[VideoFrame],
    ) -> None:
        picture = self.wishes.fitted(frame)
        if self._look.mode is OverlayMode.PROGRESSBAR:
            paint = partial(painter.paint, frame, self._canvas(picture), self._caption)
            try:
                picture = await thread.run(paint, self.meters.stage("overlay"))
            except UnreadablePixelsError as error:
                self.meters.error("overlay", str(error))
                return
        # Meanwhile the handler may have come back, and what it made has left: then it has the word.
        is_next = self.is_shown or self.times.last == self._shown_at
        if is_next and frame.timestamp > self.times.last:
            self.times.last = self._shown_at = frame.timestamp
            self.meters.overlay_left(frame.timestamp)
            await out.send(stamped(picture, frame.timestamp))

    def _canvas(self, given: VideoFrame) -> Canvas:
        """A picture as the handler makes of such a frame, or as it is: then its encoder goes on."""
        if self._like is not None and self._like[0] == (given.width, given.height):
            return self._like[1]
        return Canvas(given.width, given.height, given.colour, given.pixel_aspect)
