"""Running plain handlers in worker threads that never hold up a stop.

Python cannot end a thread. A call that is cancelled is therefore given up: the caller goes on at once, the thread runs
on until its code returns, and is counted. It keeps its place in the limiter until then, so that a handler that hangs
on every frame leaves ``capacity`` threads behind and not one a frame.

At the end of the process such threads are waited for, a little. One that comes back from native code when Python is
gone is ended in the middle of C++, which takes that for a fault: torch in a handler, Ctrl-C, and the exit code was 134.
"""

from __future__ import annotations

import atexit
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final

import trio
from attrs import define, field

LAST_WAIT: Final = 2.0
"""Seconds that calls which were given up have at the end of the process, all together."""


class _CallState(Enum):
    WAITING = auto()
    RUNNING = auto()
    ABANDONED = auto()
    OVER = auto()


@define(eq=False)
class _Call:
    """One call, shared by the task that waits and the thread that works."""

    function: Callable[[], Any]
    state: _CallState = _CallState.WAITING
    result: Any = None
    over: threading.Event | None = None
    """Set at its end, where it was given up before."""


@define(eq=False)
class ThreadRunner:
    """The threads of one handler, ``capacity`` at most.

    ``abandoned``: calls that were given up while they ran. ``hung``: how many of those are still running.
    """

    capacity: int
    abandoned: int = field(default=0, init=False)
    hung: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _limiter: trio.CapacityLimiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._limiter = trio.CapacityLimiter(self.capacity)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` in a thread and wait for its result.

        Cancelling returns at once, whatever the function does; before it has begun, it never begins.
        """
        call = _Call(function)
        try:
            await trio.to_thread.run_sync(
                self._work, call, abandon_on_cancel=True, limiter=self._limiter
            )
        except trio.Cancelled:
            self._give_up(call)
            raise
        # Not returned through Trio, which takes a coroutine for a mistake.
        return call.result

    def _work(self, call: _Call) -> None:
        """Do the call; the only part that runs in the thread."""
        with self._lock:
            if call.state is _CallState.ABANDONED:
                return
            call.state = _CallState.RUNNING
        try:
            call.result = call.function()
        finally:
            self._finish(call)

    def _finish(self, call: _Call) -> None:
        with self._lock:
            unwanted = call.state is _CallState.ABANDONED
            call.state = _CallState.OVER
            self.hung -= unwanted
        if unwanted:
            _discard(call.result)
        if call.over is not None:
            _stragglers.discard(call)
            call.over.set()

    def _give_up(self, call: _Call) -> None:
        with self._lock:
            before = call.state
            if before is _CallState.OVER:
                # It finished while the cancellation was on its way.
                return _discard(call.result)
            call.state = _CallState.ABANDONED
            hangs = before is _CallState.RUNNING
            self.abandoned += hangs
            self.hung += hangs
            if hangs:
                call.over = threading.Event()
                _stragglers.add(call)
        return None


def _discard(result: Any) -> None:
    """Close a coroutine that nobody will await: Python warns of forgotten ones."""
    if inspect.iscoroutine(result):
        result.close()


_stragglers: Final[set[_Call]] = set()
"""Calls that were given up and still run."""


@atexit.register
def _wait_for_stragglers() -> None:
    until = time.monotonic() + LAST_WAIT
    with suppress(KeyboardInterrupt):  # whoever presses Ctrl-C again does not want to wait
        for call in list(_stragglers):
            if call.over is not None:
                call.over.wait(max(until - time.monotonic(), 0))
