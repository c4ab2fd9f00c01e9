"""How something that needs tasks is open between ``start()`` and ``close()``, as it is in asyncio.

In Trio tasks have a block to live in: ``async with TrickleSubscriber(url) as subscriber`` is that. But today's programs
also open by a call and close by another, perhaps in another task. For those the block stands in a system task of
Trio's, which lives until ``close()``, and no longer than the run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Generic, Self, TypeVar

import trio

T = TypeVar("T")


class Housed(Generic[T]):
    """Base of what is used as ``async with``, or opened by its first use and closed by ``close()``."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._opened: T | None = None
        self._block = AsyncExitStack()
        self._starting = trio.Lock()
        self._ready = trio.Event()
        """Set when the system task has opened it, or will not."""
        self._closing = trio.Event()
        self._over: trio.Event | None = None
        """Set when the system task is over, where there is one."""

    async def __aenter__(self) -> Self:
        if self._opened is not None or self._closing.is_set():
            raise RuntimeError(f"this {type(self).__name__} was opened already: make a new one")
        self._opened = await self._block.enter_async_context(self._make())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self._block.__aexit__(kind, error, traceback)

    async def start(self) -> None:
        """Open it, where that is still to be done: the first use does it too. Does not wait for the server."""
        await self._inside()

    async def close(self) -> None:
        """Close it: requests are given up, whole segments that are under way are waited for, two seconds at most.

        May be called more than once, from any task. Cancelling gives up the waiting, not the closing.
        """
        self._closing.set()
        if self._opened is not None:
            await self._leave(self._opened)
        if self._over is not None:
            await self._over.wait()

    async def _leave(self, opened: T) -> None:
        """Close what is open, before its block ends."""
        raise NotImplementedError

    async def _inside(self) -> T:
        """Give what is open, opened now where it is not."""
        async with self._starting:
            if self._opened is None and not self._closing.is_set():
                await self._keep_open()
        if self._opened is None or self._closing.is_set():
            raise RuntimeError(f"this {type(self).__name__} is closed")
        return self._opened

    async def _keep_open(self) -> None:
        """Have it opened, once: a call before this one may have been cancelled while it waited."""
        if self._over is None:
            self._over = trio.Event()
            trio.lowlevel.spawn_system_task(self._keep, self._over)
        await self._ready.wait()

    async def _keep(self, over: trio.Event) -> None:
        try:
            if not self._closing.is_set():
                async with self:
                    self._ready.set()
                    await self._closing.wait()
        finally:
            self._ready.set()
            over.set()
