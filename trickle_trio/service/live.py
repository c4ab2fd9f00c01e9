"""Looking on: a live response of fragmented MP4 for each viewer of a tap."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from trickle_core.mpegts.units import AccessUnit
from trickle_trio.media.fmp4 import FragmentedMp4, State, UnplayableError
from trickle_trio.service.hosting import lifetime
from trickle_trio.stream.tap import Tap

FIRST_PICTURE: Final = 10.0
"""Seconds that a viewer waits for a key picture: several GOPs of what cameras send."""

AT_ONCE: Final = 64 * 1024
"""Bytes that are joined into one chunk when a viewer has fallen behind."""

MAX_VIEWERS: Final = 32
"""Viewers of one service at once: each costs the bytes that a tap keeps for it."""


HEADERS: Final = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}
"""Neither kept by anybody, nor shown in a page of another site."""


class NothingToShowError(Exception):
    """There is no picture to show now; the viewer may come again."""


class Viewers:
    """The room for viewers of one service."""

    def __init__(self, room: int = MAX_VIEWERS) -> None:
        self._room = trio.Semaphore(room)

    async def show(self, tap: Tap) -> Response:
        """Answer the current request with what passes by the tap, from the next key picture until the stream ends.

        Returns once the first picture is there. Raises ``NothingToShowError`` when none comes or there is no room, and
        ``UnplayableError``. Cancelling is safe: the request's lifetime closes the tap.
        """
        stack = lifetime(request)
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock as error:
            raise NothingToShowError("too many viewers") from error
        stack.callback(self._room.release)
        view = _View(await stack.enter_async_context(tap.open()))
        response = Response(view, content_type=await view.begin(), headers=HEADERS)
        response.timeout = None
        return response


class _View(ResponseBody):
    """One viewer's bytes. A viewer that takes them slowly is one that the tap skips units for; nothing piles up."""

    def __init__(self, units: trio.MemoryReceiveChannel[AccessUnit]) -> None:
        self._units = units
        self._file = FragmentedMp4()
        self._ready = b""

    async def begin(self) -> str:
        """Wait for the file's head; return its MIME type."""
        with trio.move_on_after(FIRST_PICTURE):
            self._ready = await self._next()
        if self._file.mime_type is None:
            raise NothingToShowError("no picture yet")
        return self._file.mime_type

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the tap to the request's lifetime, which also ends where this is never entered."""

    # No async generator: one that is left in the middle, as every view is, would be closed by the garbage collector.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        ready, self._ready = self._ready, b""
        data = ready or await self._next()
        if not data:
            raise StopAsyncIteration
        return data

    async def _next(self) -> bytes:
        """Return the next bytes; nothing at the end."""
        data = b""
        while not data and self._file.state is not State.ENDED:
            try:
                data = self._file.write(await self._units.receive())
            except trio.EndOfChannel:
                return self._file.finish()
        return data + self._waiting(AT_ONCE - len(data))

    def _waiting(self, room: int) -> bytes:
        """Take what waits already: a few large chunks cost less than many small ones."""
        data = b""
        while len(data) < room:
            try:
                data += self._file.write(self._units.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return data


__all__ = ["NothingToShowError", "UnplayableError", "Viewers"]
