"""Keeping parameter updates and frames on other threads apart.

A handler in a thread reads its parameters at any moment; one that changes half way through a frame gives a picture
that is half one effect and half another. Frames pass together, audio beside video; an update waits until they are out
and holds the next ones back meanwhile, so that a busy stream cannot starve it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field


@define(eq=False)
class FrameGate:
    """Many frames or one update, never both. Cancelling either is safe: it leaves as if it had not come."""

    _updating: trio.Lock = field(factory=trio.Lock, init=False)
    _inside: int = field(default=0, init=False)
    _emptied: trio.Event = field(factory=trio.Event, init=False)

    @asynccontextmanager
    async def frame(self) -> AsyncIterator[None]:
        """Be inside for the length of one frame."""
        if self._updating.locked():
            async with self._updating:
                pass
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._emptied.set()

    @asynccontextmanager
    async def update(self) -> AsyncIterator[None]:
        """Be inside alone. A frame whose thread was given up does not count: it may never come out."""
        async with self._updating:
            if self._inside:
                self._emptied = trio.Event()
                await self._emptied.wait()
            yield
