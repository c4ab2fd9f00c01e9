"""Changes of a stream's parameters, one after another, from wherever they come.

The rule: while one is being applied, and for ``INTERVAL`` seconds behind it, those that come are
gathered; then they are applied as one, key by key, the newest value of each. So a processor that
takes its time over a change sees the newest state next, and not a queue of old ones; order is kept,
for what is applied later never holds an older value than what was applied before. What the processor
refuses as one is tried again one by one: nobody pays for another's mistake.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio
from attrs import define, field

from trickle_trio.processor import HandlerError, ParamsError

INTERVAL: Final = 1 / 30
"""Seconds between two changes: a frame's time, in which nobody could see one of them."""

WAITING: Final = 16
"""Changes that may wait, each with its own verdict; what comes then joins the last of them."""

Params = dict[str, Any]


@define(eq=False)
class _Change:
    params: Params
    done: trio.Event = field(factory=trio.Event)
    error: HandlerError | ParamsError | None = None

    def settle(self, error: HandlerError | ParamsError | None = None) -> None:
        self.error = error
        self.done.set()


@define(eq=False)
class Updates:
    """Takes changes in, and has them applied.

    ``check`` returns a change in its proper form, or raises ParamsError. ``apply`` makes it, whole or
    not at all: it raises ParamsError too, for what was right when it came and is not any more, or
    HandlerError when the processor refuses.
    """

    check: Callable[[Mapping[str, Any]], Params]
    apply: Callable[[Params], Awaitable[None]]
    _waiting: deque[_Change] = field(factory=deque, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    _is_open: bool = field(default=True, init=False)

    def put(self, params: Mapping[str, Any]) -> None:
        """Have a change made without waiting for it. Raises ParamsError where it is wrong."""
        self._add(params)

    async def make(self, params: Mapping[str, Any]) -> None:
        """Have a change made, and wait for that. Cancelling gives up the waiting, not the change.

        ParamsError: it is wrong. HandlerError: the processor refuses it. Nothing has changed then.
        """
        change = self._add(params)
        await change.done.wait()
        if change.error is not None:
            # Its own instance: one exception raised in two tasks would mix their tracebacks.
            raise copy.copy(change.error) from change.error.__cause__

    def _add(self, params: Mapping[str, Any]) -> _Change:
        checked = self.check(params)
        if not self._is_open:
            raise ParamsError("the stream has ended")
        if len(self._waiting) >= WAITING:
            self._waiting[-1].params |= checked
        else:
            self._waiting.append(_Change(checked))
        self._news.set()
        return self._waiting[-1]

    async def run(self) -> None:
        """Apply changes until cancelled; those that still wait are refused then."""
        try:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                await self._apply_all(self._take())
                await trio.sleep(INTERVAL)
        finally:
            self.close()

    def close(self) -> None:
        """Take no more; what still waits is refused."""
        self._is_open = False
        for change in self._take():
            change.settle(ParamsError("the stream ended before that was applied"))

    def _take(self) -> list[_Change]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def _apply_all(self, changes: list[_Change]) -> None:
        merged: Params = {}
        for change in changes:
            merged |= change.params
        try:
            error = await self._attempt(merged)
            if error is None or len(changes) == 1:
                for change in changes:
                    change.settle(error)
            else:
                for change in changes:
                    change.settle(await self._attempt(change.params))
        finally:
            for change in changes:
                if not change.done.is_set():
                    change.settle(ParamsError("the stream ended while that was applied"))

    async def _attempt(self, params: Params) -> HandlerError | ParamsError | None:
        try:
            await self.apply(params)
        except (HandlerError, ParamsError) as error:
            return error
        return None
