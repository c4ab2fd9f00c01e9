"""Waiting for the client and for the relay at once, in one task."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field


@define(eq=False)
class Bell:
    """A waker for the core, and what its owner waits with. Rung while nobody waits, it is heard
    at the next wait.
    """

    _rung: bool = field(default=False, init=False)
    _scope: trio.CancelScope | None = field(default=None, init=False)

    def ring(self) -> None:
        """Wake the owner, now or when it next waits."""
        self._rung = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, work: Callable[[], Awaitable[object]], at_most: float = math.inf) -> bool:
        """Do ``work`` until it is done, the bell rings, or ``at_most`` seconds are over; True: they
        are. ``work`` must lose nothing when it is cancelled.
        """
        deadline = trio.current_time() + at_most
        if not self._rung:
            await self._work_until(work, deadline)
        rung, self._rung = self._rung, False
        return not rung and trio.current_time() >= deadline

    async def _work_until(self, work: Callable[[], Awaitable[object]], deadline: float) -> None:
        with trio.CancelScope(deadline=deadline) as self._scope:
            await work()
