"""The times of frames, on the stream's clock: whole numbers of 1/90000 s."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TypeVar

import trio
from attrs import define

from trickle_core.mpegts import CLOCK_RATE
from trickle_trio.media.contexts import TIME_BASE
from trickle_trio.media.frames import AudioFrame, VideoFrame

Frame = TypeVar("Frame", VideoFrame, AudioFrame)


@define(eq=False)
class RisingTimes:
    """The order in which pictures leave: each later than the one before, whoever made it."""

    last: int = -1
    """The time of the picture that left last, in 1/90000 s."""


def loop_clock() -> Callable[[], float]:
    """The clock of the loop that runs, for whoever asks with every unit: ``trio.current_time`` looks for
    it each time.
    """
    return trio.lowlevel.current_clock().current_time


def ticks_of(frame: VideoFrame | AudioFrame) -> int | None:
    """A frame's time in 1/90000 s; None: what the user's code made of it is no time."""
    if frame.time_base is TIME_BASE and type(frame.timestamp) is int:
        return frame.timestamp
    try:
        return round(frame.timestamp * frame.time_base * CLOCK_RATE)
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return None


def stamped(frame: Frame, ticks: int) -> Frame:
    """The frame with this time: a copy where it had another, for its maker may show it twice."""
    if (frame.timestamp, frame.time_base) == (ticks, TIME_BASE):
        return frame
    other = copy(frame)
    other.timestamp, other.time_base = ticks, TIME_BASE
    return other
