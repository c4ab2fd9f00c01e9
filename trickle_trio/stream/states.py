"""How a stream is, in one word, as gateways and people want to know it. Pure functions of what was
counted.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

GAP: Final = 2.0
"""Seconds without input that are no jitter any more."""

STALLED: Final = 5.0
"""Seconds without output, while there is input, after which nothing seems to be coming."""

LOW_INPUT: Final = 15.0
"""Frames a second below which the input is to blame for what the output looks like."""

ENOUGH_OUTPUT: Final = 10.0
"""Frames a second that are enough, whatever comes in."""

SHARE: Final = 0.8
"""The share of the input's frames that is enough, where the input is slower than that."""


class StreamState(Enum):
    """The state in the ``status`` events. The value is the name that gateways know."""

    ONLINE = "ONLINE"
    DEGRADED_INPUT = "DEGRADED_INPUT"
    DEGRADED_INFERENCE = "DEGRADED_INFERENCE"
    ERROR = "ERROR"


class Flow(Enum):
    """What passes at one end of a stream."""

    NONE = "none"
    """It has no channel there."""
    WAITING = "waiting"
    """Nothing has passed yet."""
    FLOWING = "flowing"
    SILENT = "silent"
    """Nothing has passed for ``GAP`` seconds."""

    @classmethod
    def of(cls, ago: float | None, *, has_channel: bool) -> Flow:
        """``ago``: seconds since something passed; None: nothing has."""
        if ago is None:
            return cls.WAITING if has_channel else cls.NONE
        return cls.FLOWING if ago <= GAP else cls.SILENT


@frozen(kw_only=True)
class Pulse:
    """What a stream's state follows from. Times in seconds, rates in frames a second.

    ``age``: since the start. ``input_gap``: since the last input; None: there was none.
    ``without_output``: for how long input has come, without a longer gap, and nothing gone out.
    ``most``: the highest rate that was asked for.
    """

    age: float
    input_fps: float
    output_fps: float
    input_gap: float | None
    without_output: float
    most: float

    @property
    def state(self) -> StreamState:
        """The worst that is true. What is younger than ``GAP`` is not judged: it has no rate yet."""
        gap = self.age if self.input_gap is None else self.input_gap
        if gap <= GAP and self.without_output >= STALLED:
            return StreamState.ERROR
        if gap > GAP or (self.input_fps < LOW_INPUT and self.age > GAP):
            return StreamState.DEGRADED_INPUT
        wanted = min(ENOUGH_OUTPUT, SHARE * min(self.input_fps, self.most))
        if self.output_fps < wanted and self.age > GAP:
            return StreamState.DEGRADED_INFERENCE
        return StreamState.ONLINE
