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

    async def call(self, kind: str, handler: Callable[[], Awaitable[T]], instead: T) -> T:
        """Call a handler; ``instead`` is what comes of it when it fails or takes too long.

        ``StreamEnds``: it was the last strike. Cancelling is safe, it reaches the handler.
        """
        result = instead
        with trio.move_on_after(self.policy.handler_timeout) as scope:
            result = await self._attempt(kind, handler, instead)
        # Not cancelled_caught: a handler that turns its cancellation into something else hangs too.
        if scope.cancel_called:
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
