"""Telling of the faults of the user's code, but not of each when there are many."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import trio
from attrs import define, field

from trickle_trio.stream.events import Events
from trickle_trio.stream.meters import Meters

log: Final = logging.getLogger(__name__)

WINDOW: Final = 10.0
"""Seconds over which the reports are bounded."""


@define(eq=False)
class FaultReports:
    """Counts every fault; logs, and sends as events, at most ``limit`` of them in ``WINDOW``
    seconds.
    """

    events: Events
    meters: Meters
    limit: int
    last: str | None = None
    """The fault told of last, or counted."""
    _times: deque[float] = field(factory=deque)

    def tell(self, source: str, error: BaseException) -> None:
        """Take in a fault of what ``source`` names. Does not block."""
        text = str(error)
        self.last = text
        self.meters.error(source, text)
        if self._may_tell():
            log.error("stream %s: %s", self.events.request_id, text, exc_info=error.__cause__)
            self.events.life("error", source=source, message=text)

    def _may_tell(self) -> bool:
        now = trio.current_time()
        while self._times and now - self._times[0] > WINDOW:
            self._times.popleft()
        if len(self._times) >= self.limit:
            return False
        self._times.append(now)
        return True
