"""Telling of the faults of the user's code, but not of each when there are many."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import trio
from attrs import define, field

from trickle_trio.processor import WrongReturnError
from trickle_trio.stream.events import Events
from trickle_trio.stream.meters import Meters

log: Final = logging.getLogger(__name__)

WINDOW: Final = 10.0
"""Seconds over which the reports are bounded."""


@define(eq=False)
class FaultReports:
    """Counts every fault; logs, and sends as events, at most ``limit`` of them in ``WINDOW``
    seconds. What a handler returns wrongly is told once, until it is something else.
    """

    events: Events
    meters: Meters
    limit: int
    last: str | None = None
    """The fault told of last, or counted."""
    _times: deque[float] = field(factory=deque)
    _wrong: dict[str, str] = field(factory=dict)
    """What was told last of each handler's returns."""

    def tell(self, source: str, error: BaseException) -> None:
        """Take in a fault of what ``source`` names. Does not block."""
        text = str(error)
        self.last = text
        self.meters.error(source, text)
        if self._is_news(error) and self._may_tell():
            log.error("stream %s: %s", self.events.request_id, text, exc_info=_own(error.__cause__))
            self.events.life("error", source=source, message=text)
            if isinstance(error, WrongReturnError):
                self._wrong[error.handler] = error.message

    def _is_news(self, error: BaseException) -> bool:
        if not isinstance(error, WrongReturnError):
            return True
        return self._wrong.get(error.handler) != error.message

    def _may_tell(self) -> bool:
        now = trio.current_time()
        while self._times and now - self._times[0] > WINDOW:
            self._times.popleft()
        if len(self._times) >= self.limit:
            return False
        self._times.append(now)
        return True


def _own(fault: BaseException | None) -> BaseException | None:
    """What the user's code raised, without what was going on in ours: a handler that is told of a stop
    runs in the midst of a cancellation, which is no part of its fault.
    """
    if fault is not None and isinstance(fault.__context__, trio.Cancelled | BaseExceptionGroup):
        fault.__context__ = None
    return fault
