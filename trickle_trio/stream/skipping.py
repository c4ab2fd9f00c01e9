"""How many frames a second a handler keeps up with.

Told to the throttle in front of it, this leaves frames out evenly, before they wait: a queue that is always full makes
everything as late as it is long.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from attrs import define, field

CALLS: Final = 16
"""Calls that are looked at."""
ENOUGH: Final = 4
"""Calls after which something can be said."""
HEADROOM: Final = 0.95
"""The share of what the handler manages that it is given: with all of it, one slow call would make a queue for good."""


@define
class HandlerSpeed:
    """Watches how long calls take. ``at_once``: calls that run beside each other. ``cooldown``: seconds for which a
    rate holds at least. ``most``: frames a second that are wanted, however fast it is.
    """

    at_once: int
    cooldown: float
    most: float = math.inf
    rate: float = field(init=False)
    """Frames a second that are wanted, and that the handler keeps up with."""
    _calls: deque[float] = field(factory=lambda: deque(maxlen=CALLS))
    _changed: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self.rate = self.most

    def took(self, seconds: float, now: float) -> float:
        """Take in that a call has taken so long; returns the rate."""
        self._calls.append(seconds)
        if len(self._calls) > ENOUGH and now - self._changed >= self.cooldown:
            self.rate, self._changed = min(self.most, self._manageable()), now
        return self.rate

    def _manageable(self) -> float:
        # Without the longest: models are loaded, and compiled, inside a first call.
        mean = (sum(self._calls) - max(self._calls)) / (len(self._calls) - 1)
        return HEADROOM * self.at_once / mean if mean > 0 else math.inf
