"""Finding async handlers that hold the event loop up.

Between two awaits a coroutine has the loop to itself: for that long no other stream, timer or request moves. So each
step of a handler is timed where it happens, around ``send`` and ``throw``. That costs about a microsecond a step,
blames the right handler, and sees ``time.sleep`` as well as arithmetic, which a CPU clock would not.
"""

from __future__ import annotations

import logging
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final

from attrs import define, field

logger = logging.getLogger("trickle_trio.processor")

LONGEST_STEP: Final = 0.1
"""Seconds: three frames at 30 a second. A shorter step costs latency, a longer one is seen as a stutter."""

WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings about one handler."""


@define(eq=False)
class LoopWatch:
    """Drives the coroutines of one handler and warns, at a bounded rate, when a step takes too long.

    ``spared``: how many first calls are not judged, because they import and warm up, once. ``clock``: seconds.
    """

    label: str
    spared: int = 0
    threshold: float = LONGEST_STEP
    interval: float = WARNING_INTERVAL
    clock: Callable[[], float] = time.perf_counter
    blocked: int = field(default=0, init=False)
    _unreported: int = field(default=0, init=False)
    _next_warning: float = field(default=float("-inf"), init=False)
    _calls: int = field(default=0, init=False)

    async def drive(self, awaitable: Awaitable[Any]) -> Any:
        """Await what a handler returned. Cancelling goes through to it."""
        self._calls += 1
        return await _steps(_as_coroutine(awaitable), self.clock, self._stepped)

    def _stepped(self, began: float, ended: float) -> None:
        if ended - began <= self.threshold or self._calls <= self.spared:
            return
        self.blocked += 1
        self._unreported += 1
        if ended >= self._next_warning:
            self._next_warning = ended + self.interval
            self._warn(ended - began)

    def _warn(self, seconds: float) -> None:
        logger.warning(
            "%s held the event loop for %.0f ms in one step (%d such steps since the last warning), nothing else ran "
            "meanwhile. Make it a plain 'def', which runs in a thread, or await trio.to_thread.run_sync(...) in it",
            self.label,
            seconds * 1000,
            self._unreported,
        )
        self._unreported = 0


def _as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Give any awaitable the ``send`` and ``throw`` that only coroutines are sure to have."""
    if isinstance(
        awaitable, (types.CoroutineType, Coroutine)
    ):  # the first is what it is, nearly always
        return awaitable

    async def wait() -> Any:
        return await awaitable

    return wait()


@types.coroutine
def _steps(
    coroutine: Coroutine[Any, Any, Any],
    clock: Callable[[], float],
    stepped: Callable[[float, float], None],
) -> Generator[Any, Any, Any]:
    """Do what ``await`` does, with a clock around each step."""
    step: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        began = clock()
        try:
            yielded = step(argument)
        except StopIteration as finished:
            return finished.value
        finally:
            stepped(began, clock())
        try:
            argument = yield yielded
        except BaseException as thrown:  # noqa: BLE001  handed on into the coroutine, Cancelled above all
            step, argument = coroutine.throw, thrown
        else:
            step = coroutine.send
