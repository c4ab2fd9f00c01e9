"""A segment on its way out to one client.

The client's own task sends what is there, and then waits. From then on the task whose publisher
brings more sends for it, straight from the write into the socket: to wake a task for each piece
costs two and a half times as much (100 readers of 4 Mbit/s: 2.9 % of a core against 7.6 %). The own task
is woken only where its socket is full, or the segment ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import trio

from trickle_core.answer import Head
from trickle_core.window.reader import Reader
from trickle_core.window.segment import Buffer
from trickle_core.window.states import CUT, END, NEED_DATA, Signal
from trickle_trio.relay.bell import Bell
from trickle_trio.relay.links import Gone, Link
from trickle_trio.relay.phrasing import Phrasing

BATCH: Final = 256 * 1024
"""Bytes of a segment in one send. More would make a reader's progress look like standing still."""


class Pushes(Protocol):
    """Who calls what was noted, once the relay has finished with what it was doing."""

    def note(self, push: Callable[[], None]) -> None:
        """Call ``push`` soon, from this same turn of the event loop."""
        ...


class Outlet:
    """Sends what a reader gives."""

    def __init__(self, reader: Reader, link: Link, phrasing: Phrasing, pushes: Pushes) -> None:
        self._reader = reader
        self._link = link
        self._phrasing = phrasing
        self._pushes = pushes
        self._bell = Bell()
        self._waiting = False
        self._unsent: Sequence[Buffer] = ()
        self._signal: Signal | None = NEED_DATA
        reader.waker = self._notice

    async def send_all(self, watch: Callable[[], Awaitable[None]]) -> None:
        """Send the segment to its end. While there is nothing to send, ``watch`` is run, and
        cancelled when there is. Raises Gone.
        """
        while True:
            # Also after what a push could not send: more may have come, and been told of, since.
            if not self._unsent and self._signal in (None, NEED_DATA):
                self._load()
            if self._unsent:
                await self._send_unsent()
            elif self._signal is NEED_DATA:
                await self._wait(watch)
            elif self._signal is CUT:
                raise Gone("too slow")
            else:
                return

    async def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, ()
        await self._link.send(unsent)
        if self._signal is None:
            # A client that takes everything at once must leave a turn to the others.
            await trio.lowlevel.checkpoint()

    async def _wait(self, watch: Callable[[], Awaitable[None]]) -> None:
        self._waiting = True
        try:
            await self._bell.wait(watch)
        finally:
            self._waiting = False

    def _load(self) -> None:
        batch: list[Buffer] = []
        self._signal = self._pull_into(batch)
        if self._signal is END:
            batch.append(self._phrasing.end())
        self._unsent = batch

    def _pull_into(self, batch: list[Buffer]) -> Signal | None:
        """Pull what one send should take; gives back why it is not more (None: it is enough)."""
        while True:
            pulled = self._reader.pull(BATCH, trio.current_time())
            if isinstance(pulled, Head):
                batch.append(self._phrasing.head(pulled, empty=not self._reader.unread))
            elif isinstance(pulled, list):
                batch += self._phrasing.body(pulled)
                if self._reader.unread:
                    return None
            else:
                return pulled

    def _notice(self) -> None:
        if self._waiting:
            self._pushes.note(self._push)
        else:
            self._bell.ring()

    def _push(self) -> None:
        """From another client's task: send what the socket takes."""
        if not self._waiting:
            return
        self._load()
        try:
            self._unsent = self._link.send_now(self._unsent)
        except Gone:
            self._signal = CUT
        if self._unsent or self._signal is not NEED_DATA:
            self._waiting = False
            self._bell.ring()
