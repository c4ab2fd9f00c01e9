"""When to try again, and when to give up.

Pauses grow so that a server that comes back is not met by everybody at once, and are jittered for
the same reason. The dice are the caller's: ``jitter`` is any function that returns a number from 0
up to 1, ``random.random`` for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import define, field, frozen, validators

Jitter = Callable[[], float]


def no_jitter() -> float:
    """The pause exactly as the policy says: for tests and for replays."""
    return 0.0


@frozen
class RetryPolicy:
    """Pauses in seconds: ``first``, then each ``growth`` times the one before, never above
    ``longest``.

    Up to the share ``spread`` of each is taken off at random. After ``give_up_after`` seconds of
    failures without one success in between, the answer is no; ``math.inf`` never gives up.
    """

    first: float = field(default=0.1, validator=validators.gt(0))
    growth: float = field(default=2.0, validator=[validators.ge(1), validators.le(100)])
    longest: float = field(default=5.0, validator=validators.gt(0))
    spread: float = field(default=0.5, validator=[validators.ge(0), validators.lt(1)])
    give_up_after: float = field(default=30.0, validator=validators.ge(0))

    def pause(self, failures: int, jitter: Jitter) -> float:
        """Seconds to wait after the ``failures``-th failure in a row (from 1)."""
        # Exponent and base are bounded: a float power overflows at 1e308.
        grown = self.first * self.growth ** min(failures - 1, 64)
        return min(grown, self.longest) * (1 - self.spread * jitter())


@define
class Backoff:
    """The failures in a row of one thing that is tried again and again."""

    policy: RetryPolicy
    jitter: Jitter = no_jitter
    failures: int = field(default=0, init=False)
    _since: float = field(default=math.inf, init=False)

    def failed(self, now: float) -> float | None:
        """Count a failure. Returns when to try again, or None: give up."""
        self._since = min(self._since, now)
        if now - self._since >= self.policy.give_up_after:
            return None
        self.failures += 1
        return now + self.policy.pause(self.failures, self.jitter)

    def served(self, seconds: float) -> None:
        """The server kept a request open for so long. Beyond the longest pause that is a success:
        servers end requests that wait, and whoever waits must not give up over that.
        """
        if seconds >= self.policy.longest:
            self.succeeded()

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0
        self._since = math.inf
