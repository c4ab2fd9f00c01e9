"""What keeps a handler from harming its stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from attrs import define

from trickle_trio.processor import HandlerError
from trickle_trio.stream.ending import End, StreamEnds
from trickle_trio.stream.settings import StreamPolicy

T = TypeVar("T")

Report = Callable[[str, BaseException], None]
"""Tells the world of a handler's fault, at a bounded rate."""


@define(eq=False)
class Watchdog:
    """Gives every call of a handler a deadline, and loses patience after so many missed ones in a
    row.
    """

    policy: StreamPolicy
    report: Report
    strikes: int = 0

    async def call(
        self, kind: str, handler: Callable[[], Awaitable[T]], instead: T, *, waits: bool = True
    ) -> T:
        """Call a handler; ``instead`` is what comes of it when it fails or takes too long. ``waits``:
        whether it may; nothing cuts short one that does not.

        ``StreamEnds``: it was the last strike. Cancelling is safe, it reaches the handler.
        """
        timeout = self.policy.handler_timeout
        if waits:
            result = instead
            with trio.move_on_after(timeout) as scope:
                result = await self._attempt(kind, handler, instead)
            # Not cancelled_caught: a handler that turns its cancellation into something else hangs too.
            is_late = scope.cancel_called
        else:
            began = trio.current_time()
            result = await self._attempt(kind, handler, instead)
            is_late = trio.current_time() - began >= timeout
        if is_late:
            self._strike(kind)
        else:
            self.strikes = 0
        return result

    async def _attempt(self, kind: str, handler: Callable[[], Awaitable[T]], instead: T) -> T:
        try:
            return await handler()
        except HandlerError as error:
            self.report(kind, error)
            return instead

    def _strike(self, kind: str) -> None:
        self.strikes += 1
        late = TimeoutError(f"no answer within {self.policy.handler_timeout:g} s")
        self.report(kind, late)
        if self.strikes >= self.policy.handler_strikes:
            raise StreamEnds(End.HANDLER_HUNG, f"{kind}: {late}, {self.strikes} times in a row")
