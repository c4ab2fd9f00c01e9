"""A body that is handed over, not asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import Final, Protocol

import httpx
import trio

TURN: Final = 64 * 1024
"""Bytes of a body after which the other tasks have their turn. A live picture is a quarter of that, and
a round of the event loop for each costs as much as sending it."""

MOST: Final = 32
"""Pieces after which they have it at the latest: small ones cost as much as large ones."""


class BodyState(Enum):
    """How far a pushed body has come."""

    HELD = auto()
    """Nobody takes a piece now."""
    TAKEN = auto()
    """Somebody does."""
    WHOLE = auto()
    BROKEN = auto()


class Taker(Protocol):
    """What takes a pushed body, inside a transport. Called in the midst of things: it must not block."""

    def take(self, piece: bytes) -> bool:
        """Take a piece; False: nothing of it has left, and nobody will take another."""
        ...

    def take_end(self) -> None:
        """The body is whole."""
        ...

    def take_break(self) -> None:
        """The body ends here, without being whole."""
        ...


class PushedBody(httpx.AsyncByteStream):
    """The body of a request, handed over piece by piece as it comes into being.

    ``TrickleTransport`` puts the pieces straight into a plain socket, from the task that hands them over; a task of
    its own for the body costs a third of a small request. To any other transport it is a body to iterate.
    """

    def __init__(self) -> None:
        self.taken = 0
        """Bytes that the connection has taken: these may have left."""
        self._state = BodyState.HELD
        self._taker: Taker | None = None
        """Nobody: the body is iterated, if at all."""
        self._kept = b""
        self._news = trio.lowlevel.ParkingLot()
        self._due = 0
        """Bytes up to the others' next turn: they have one as soon as the body has begun."""

    async def send(self, piece: bytes) -> None:
        """Hand a piece over; returns when the connection takes it. An empty one is none.

        ``trio.BrokenResourceError``: it never will. A cancelled call has not handed anything over.
        """
        if not piece:
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._state is BodyState.HELD:
            await self._news.park()
        if self._state is not BodyState.TAKEN or not self._take(piece):
            raise trio.BrokenResourceError("nobody takes this body any more")
        # Counted at once: who leaves while the others have their turn must know that it has left.
        self.taken += len(piece)
        self._due -= max(len(piece), TURN // MOST)
        if self._due <= 0:
            self._due = TURN
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _take(self, piece: bytes) -> bool:
        if self._taker is not None:
            return self._taker.take(piece)
        self._kept = piece
        self._become(BodyState.HELD)
        return True

    def end(self) -> None:
        """The body is whole."""
        if self._is_open():
            self._become(BodyState.WHOLE)
            if self._taker is not None:
                self._taker.take_end()

    def break_off(self) -> None:
        """It will not be whole."""
        if self._is_open():
            self._become(BodyState.BROKEN)
            if self._taker is not None:
                self._taker.take_break()

    def divert(self, taker: Taker) -> None:
        """For a transport: give everything to ``taker`` from now on."""
        self._taker = taker
        self._ask()
        if self._state is BodyState.WHOLE:
            taker.take_end()
        elif self._state is BodyState.BROKEN:
            taker.take_break()

    def hold(self) -> None:
        """For a transport: no further piece until it is diverted anew."""
        if self._state is BodyState.TAKEN:
            self._state = BodyState.HELD

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.taken:
            raise httpx.StreamConsumed
        try:
            while piece := await self._next():
                yield piece
        finally:
            self.break_off()
        if self._state is BodyState.BROKEN:  # ending normally would end the body as if whole
            raise httpx.WriteError("the body was broken off")

    async def _next(self) -> bytes:
        self._ask()
        while self._state is BodyState.TAKEN:
            await self._news.park()
        piece, self._kept = self._kept, b""
        return piece

    def _ask(self) -> None:
        if self._state is BodyState.HELD:
            self._become(BodyState.TAKEN)

    def _is_open(self) -> bool:
        return self._state in (BodyState.HELD, BodyState.TAKEN)

    def _become(self, state: BodyState) -> None:
        self._state = state
        self._news.unpark_all()
