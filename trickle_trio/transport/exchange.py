"""One request and its answer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from enum import Enum, auto
from inspect import isasyncgen
from typing import Final, cast

import h11
import httpx
import trio
from attrs import define, field

from trickle_trio.transport.connection import (
    FAULTS,
    Connection,
    Phase,
    Timeouts,
    httpx_error,
)

SMALL_BODY: Final = 16 * 1024
"""A body that is at hand and no longer than this goes out with the head in one write, without a task: the send buffer
of an idle connection takes it even if the peer reads nothing."""

CONTINUE_PATIENCE: Final = 1.0
"""Seconds to wait for the answer to ``Expect: 100-continue`` before the body is sent anyway, as curl and Go do; many
servers do not know the header (RFC 9110, section 10.1.1)."""

UNSENT_GRACE: Final = 0.05
"""Seconds that a body still on its way gets to finish after a whole, friendly answer: the server may have read the
last byte before our sender was scheduled again. Go's transport waits as long."""

REFUSAL: Final = 300
"""Statuses from here on tell that the server does without the rest of the body."""

SWITCHING_PROTOCOLS: Final = 101

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent again when nobody knows whether the server saw them (RFC 9110, section 9.2.2)."""

NO_ANSWER: Final = "the server closed the connection before it answered"


class Stage(Enum):
    """How far an exchange has come.

    =========  ============================================  =========
    from       when                                          to
    =========  ============================================  =========
    UNTOUCHED  the body is begun, or a first byte comes      AWAITING
    AWAITING   the final head comes                          READING
    READING    the answer's last byte has come               WHOLE
    WHOLE      the body's sender has ended, or was stopped   RELEASED
    UNTOUCHED  error, cancelled                              STALE
    AWAITING   error, cancelled                              CUT
    READING    error, ``aclose``                             CUT
    =========  ============================================  =========

    A cancelled read leaves READING as it is: no byte is lost, the next read goes on.
    """

    UNTOUCHED = auto()
    AWAITING = auto()
    READING = auto()
    WHOLE = auto()
    RELEASED = auto()
    STALE = auto()
    CUT = auto()


ENDS: Final = {
    Stage.UNTOUCHED: Stage.STALE,
    Stage.AWAITING: Stage.CUT,
    Stage.READING: Stage.CUT,
    Stage.WHOLE: Stage.RELEASED,
}
"""What becomes of an exchange that is ended in each stage; the others have ended."""


@define(eq=False)
class Upload:
    """The task that sends a body."""

    scope: trio.CancelScope = field(factory=trio.CancelScope)
    heard: trio.Event = field(factory=trio.Event)
    """The server has said something: whoever waits for 100 Continue may go on."""
    over: trio.Event = field(factory=trio.Event)
    """The task and the body's iterator have ended."""


@define(eq=False)
class Exchange(httpx.AsyncByteStream):
    """One request and its answer on one connection; handed out as the answer's stream.

    Iterating yields the body's bytes as they arrive, each HTTP chunk by itself, none held back. A read that is
    cancelled loses nothing and can be repeated. A body that ends too early raises ``httpx.RemoteProtocolError``.
    """

    request: httpx.Request
    connection: Connection
    timeouts: Timeouts
    give_back: Callable[[Connection], None]
    stage: Stage = Stage.UNTOUCHED
    _upload: Upload | None = None
    _fault: Exception | None = None
    """What went wrong with sending; raised where the answer is waited for or read."""
    _ahead: bytes = b""
    """A piece of the answer's body that came along with its head."""
    _patience: trio.CancelScope | None = None
    """The latest wait for bytes, where there is a read timeout."""

    async def perform(self, nursery: trio.Nursery) -> httpx.Response:
        """Send the head, begin the body, wait for the answer's head. Cancelling it closes the connection."""
        try:
            with self._cut_by_errors():
                await self._send_request(nursery)
                head = await self._receive_head()
        except BaseException:
            await self.aclose()
            raise
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=self,
            request=self.request,
            extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason},
        )

    def may_be_sent_again(self) -> bool:
        """Whether the server did not begin to answer, the body was not begun, and sending it twice does no harm.

        A request that never left whole cannot have been acted upon.
        """
        left_whole = self.connection.http.our_state in (h11.DONE, h11.MUST_CLOSE)
        return self.stage is Stage.STALE and (self.request.method in IDEMPOTENT or not left_whole)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with self._cut_by_errors():
            while self.stage is Stage.READING:
                piece, self._ahead = self._ahead or self._parse_piece(), b""
                if piece:
                    return piece
                if self.stage is Stage.READING:
                    await self._receive()
        if self.stage is Stage.CUT:
            raise httpx.ReadError("the answer was closed before its end", request=self.request)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the connection back if both messages are whole, else close it; stop the body, wait for its iterator.

        Cancelling is safe: the connection is settled all the same. A body that fails after the answer was whole has
        nobody left to tell.
        """
        upload = self._upload
        try:
            if upload is not None and self.stage is Stage.WHOLE:
                with trio.move_on_after(UNSENT_GRACE):
                    await upload.over.wait()
        finally:
            self._let_go()
        if upload is not None:
            await upload.over.wait()

    # The request's way out.

    async def _send_request(self, nursery: trio.Nursery) -> None:
        head = self._framed_head()
        body = self._body_at_hand()
        if body is not None:
            await self._write(head + self._framed_whole(body))
            return
        await self._write(head)
        if self._fault is None:
            upload = Upload()
            nursery.start_soon(self._send_body, upload)
            self._upload = upload

    def _framed_whole(self, body: bytes) -> bytes:
        if body:
            self._touch()
        return self._framed(h11.Data(body)) + self._framed(h11.EndOfMessage())

    def _framed_head(self) -> bytes:
        request = self.request
        try:
            event = h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
        except h11.LocalProtocolError as fault:
            raise httpx_error(fault, Phase.WRITE, request) from fault
        return self._framed(event)

    def _framed(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self.connection.http.send(event)
        except h11.LocalProtocolError as fault:
            raise httpx_error(fault, Phase.WRITE, self.request) from fault

    def _body_at_hand(self) -> bytes | None:
        stream = self.request.stream
        if not isinstance(stream, httpx.ByteStream) or self._waits_for_continue():
            return None
        body = b"".join(stream)
        return body if len(body) <= SMALL_BODY else None

    def _waits_for_continue(self) -> bool:
        return self.connection.http.client_is_waiting_for_100_continue

    async def _write(self, data: bytes) -> None:
        """Write, and note if the peer has gone. Its answer may be there all the same: the reader decides."""
        try:
            await self.connection.send(data, self.timeouts.write)
        except FAULTS as fault:
            error = httpx_error(fault, Phase.WRITE, self.request)
            if not isinstance(error, httpx.WriteError):
                raise error from fault
            self.connection.http.send_failed()
            self._fault = error

    async def _send_body(self, upload: Upload) -> None:
        try:
            with upload.scope:
                # An answer may have been quicker than this task, and have refused the body.
                await trio.lowlevel.checkpoint_if_cancelled()
                if self._waits_for_continue():
                    with trio.move_on_after(CONTINUE_PATIENCE):
                        await upload.heard.wait()
                await self._send_pieces()
        except Exception as error:  # noqa: BLE001 - whatever the user's iterator raises goes to the reader
            self._fault = error
            self.connection.close()
        except BaseException:
            self.connection.close()
            raise
        finally:
            self._end_upload(upload)

    async def _send_pieces(self) -> None:
        self._touch()
        body, given = unwrapped(self.request.stream)
        pieces = aiter(body)
        try:
            async for piece in pieces:
                await self._send_piece(h11.Data(piece))
                if self._fault is not None:
                    return
            await self._send_piece(h11.EndOfMessage())
        finally:
            await close_each(pieces, body, given)

    async def _send_piece(self, piece: h11.Data | h11.EndOfMessage) -> None:
        # Neither the body nor the socket need pause, and others want their turn.
        await trio.lowlevel.checkpoint()
        data = self._framed(piece)
        if self.connection.tls is None:
            await self._write(data)
            return
        # Trio's TLS stream cannot be read any more after a cancelled write. Closing the socket ends a shielded one.
        with trio.CancelScope(shield=True):
            await self._write(data)

    def _stop_upload(self) -> None:
        if self._upload is not None and self._is_uploading():
            self._upload.scope.cancel()
            self.connection.http.send_failed()  # it will never be whole: not to be used again

    def _end_upload(self, upload: Upload) -> None:
        upload.over.set()
        self._start_clock()
        if self.stage is Stage.WHOLE:
            self._let_go()

    # The answer's way in.

    async def _receive_head(self) -> h11.Response:
        while not isinstance(event := self._parse(), h11.Response):
            if isinstance(event, h11.InformationalResponse):
                self._heed_interim(event)
            else:
                await self._receive()
        self._begin_reading(event)
        return event

    def _heed_interim(self, event: h11.InformationalResponse) -> None:
        if event.status_code == SWITCHING_PROTOCOLS:
            raise httpx.RemoteProtocolError("the server switched protocols", request=self.request)
        if self._upload is not None:
            self._upload.heard.set()

    def _begin_reading(self, head: h11.Response) -> None:
        self.stage = Stage.READING
        if self._upload is not None:
            # Stopped first, so that a body which waits for 100 Continue is never begun.
            if head.status_code >= REFUSAL:
                self._stop_upload()
            self._upload.heard.set()
        self._ahead = self._parse_piece()

    def _parse_piece(self) -> bytes:
        """A piece of the body that has come, or nothing; notices the body's end."""
        event = self._parse()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self._end_reading()
        return b""

    def _end_reading(self) -> None:
        self.stage = Stage.WHOLE
        server_closes = self.connection.http.their_state is not h11.DONE
        if server_closes or not self._is_uploading():
            self._let_go()

    def _parse(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self.connection.http.next_event()
        except h11.RemoteProtocolError as fault:
            raise httpx_error(fault, Phase.READ, self.request) from fault

    async def _receive(self) -> None:
        try:
            data = await self._wait_for_bytes()
        except FAULTS as fault:
            raise httpx_error(fault, Phase.READ, self.request) from fault
        http = self.connection.http
        if data:
            self._touch()
        elif http.their_state is h11.SEND_RESPONSE:
            raise httpx.RemoteProtocolError(NO_ANSWER, request=self.request)
        http.receive_data(data)

    async def _wait_for_bytes(self) -> bytes:
        if self.timeouts.read == math.inf:
            return await self.connection.receive()
        with trio.CancelScope() as self._patience:
            if not self._is_uploading():
                self._start_clock()
            return await self.connection.receive()
        raise trio.TooSlowError

    def _start_clock(self) -> None:
        if self._patience is not None:
            self._patience.deadline = trio.current_time() + self.timeouts.read

    # Both.

    def _is_uploading(self) -> bool:
        return self._upload is not None and not self._upload.over.is_set()

    def _touch(self) -> None:
        if self.stage is Stage.UNTOUCHED:
            self.stage = Stage.AWAITING

    @contextmanager
    def _cut_by_errors(self) -> Iterator[None]:
        """End the exchange if reading fails, and raise the fault of the sender if that is what lies behind it."""
        try:
            yield
        except httpx.TransportError:
            self._let_go()
            if self._fault is None:
                raise
        else:
            return
        raise self._fault

    def _let_go(self) -> None:
        """End the exchange, unless it has ended. May be repeated."""
        if self.stage not in ENDS:
            return
        self.stage = ENDS[self.stage]
        self._stop_upload()
        self.give_back(self.connection)


def unwrapped(stream: object) -> tuple[AsyncIterable[bytes], object]:
    """What to iterate for a body, and what the user gave for it.

    httpx wraps what it is given into a generator of its own, which leaves the user's iterator open when it is closed
    early; Trio rightly complains of that. A user's generator can still be closed behind the wrapper, and the wrapper is
    needed: it refuses a second use. The iterator of any other object could not be reached, so the wrapper is left out.
    """
    given = getattr(stream, "_stream", None) if is_httpxs(stream) else None
    reachable = isasyncgen(given) or hasattr(given, "aread")
    if isinstance(given, AsyncIterable) and not reachable:
        return given, None
    return cast("httpx.AsyncByteStream", stream), given


def is_httpxs(stream: object) -> bool:
    """Whether httpx made it, not a user who may have good reasons for a wrapper."""
    return type(stream).__module__.startswith("httpx.")


async def close_each(*closables: object) -> None:
    """Close what can be closed, in this order, each even if one before it fails. What has ended is not harmed."""
    async with AsyncExitStack() as stack:
        for closable in reversed(closables):
            if (aclose := getattr(closable, "aclose", None)) is not None:
                stack.push_async_callback(aclose)
