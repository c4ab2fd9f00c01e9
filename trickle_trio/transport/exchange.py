"""One request and its answer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from typing import Final

import h11
import httpx
import trio
from attrs import define, field

from trickle_trio.transport.chunks import PlainChunks
from trickle_trio.transport.connection import (
    FAULTS,
    Connection,
    Phase,
    Timeouts,
    httpx_error,
)
from trickle_trio.transport.sending import Sender, Upload

UNSENT_GRACE: Final = 0.05
"""Seconds that a body still on its way gets to finish after a whole, friendly answer: the server may have read the
last byte before our sender was scheduled again. Go's transport waits as long."""

REFUSAL: Final = 300
"""Statuses from here on tell that the server does without the rest of the body."""

SWITCHING_PROTOCOLS: Final = 101

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent again when nobody knows whether the server saw them (RFC 9110, section 9.2.2)."""

BODILESS: Final = (204, 304)
"""Statuses whose answers have no body, whatever their head says (RFC 9112, section 6.3)."""

HEAD_END: Final = b"\r\n\r\n"

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
    _sender: Sender = field(init=False)
    _head: h11.Response | None = None
    _upload: Upload | None = None
    _ahead: bytes = b""
    """A piece of the answer's body that came along with its head."""
    _behind: bytes = b""
    """What came behind a head, and has not been looked at."""
    _chunks: PlainChunks | None = None
    """What reads the answer's body, as long as that is plain; h11 does without it, and then."""
    _patience: trio.CancelScope | None = None
    """The latest wait for bytes, where there is a read timeout."""

    def __attrs_post_init__(self) -> None:
        self._sender = Sender(self.request, self.connection, self.timeouts)

    async def perform(self, nursery: trio.Nursery) -> None:
        """Send the head, begin the body, wait for the answer's head. Cancelling it closes the connection."""
        try:
            await self._send_request(nursery)
            self._head = await self._receive_head()
        except httpx.TransportError as error:
            cause = self._cut_by(error)
        except BaseException:
            await self.aclose()
            raise
        else:
            return
        await self.aclose()
        raise cause

    @property
    def head(self) -> h11.Response:
        """The answer's head. Only after ``perform``."""
        assert self._head is not None, "not performed yet"  # noqa: S101
        return self._head

    def response(self) -> httpx.Response:
        """The answer as httpx's users know it."""
        head = self.head
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=self,
            request=self.request,
            extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason},
        )

    def is_whole(self) -> bool:
        """Whether nothing of the answer is still to come."""
        return self.stage in (Stage.WHOLE, Stage.RELEASED)

    def may_be_sent_again(self) -> bool:
        """Whether the server did not begin to answer, the body was not begun, and sending it twice does no harm.

        A request that never left whole cannot have been acted upon.
        """
        left_whole = self.connection.http.our_state in (h11.DONE, h11.MUST_CLOSE)
        return self.stage is Stage.STALE and (self.request.method in IDEMPOTENT or not left_whole)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            while self.stage is Stage.READING:
                piece, self._ahead = self._ahead or self._parse_piece(), b""
                if piece:
                    return piece
                if self.stage is Stage.READING:
                    self._take_in(await self._receive())
        except httpx.TransportError as error:
            cause = self._cut_by(error)
        else:
            raise self._end_of_body()
        raise cause

    def _end_of_body(self) -> Exception:
        if self.stage is Stage.CUT:
            return httpx.ReadError("the answer was closed before its end", request=self.request)
        return StopAsyncIteration()

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
        if upload is not None and not upload.over.is_set():
            await upload.over.wait()

    # The request's way out.

    async def _send_request(self, nursery: trio.Nursery) -> None:
        sender = self._sender
        head, body = sender.head(), sender.body_at_hand()
        if body is not None:
            if body:
                self._touch()
            await sender.write(head + sender.whole(body))
            return
        await sender.write(head)
        if sender.fault is None:
            self._upload = Upload(sender, nursery, self._touch, self._upload_ended)
            self._upload.start()

    def _stop_upload(self) -> None:
        if self._upload is not None:
            self._upload.stop()

    def _upload_ended(self) -> None:
        self._start_clock()
        if self.stage is Stage.WHOLE:
            self._let_go()

    # The answer's way in.

    async def _receive_head(self) -> h11.Response:
        # Nothing of it is there yet: a connection with bytes left over is not used again.
        self._take_head(await self._receive())
        while not isinstance(event := self._parse(), h11.Response):
            if isinstance(event, h11.InformationalResponse):
                self._heed_interim(event)
            else:
                self._take_head(self._behind or await self._receive())
        self._begin_reading(event)
        return event

    def _take_head(self, data: bytes) -> None:
        """Let h11 have what may be a head, or its end, and nothing of what is behind it."""
        head, end, self._behind = data.partition(HEAD_END)
        self.connection.http.receive_data(head + end)

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
        # Where its end was odd, h11 has some of the body too: then it reads all of it.
        if self._is_chunked(head) and not self.connection.http.trailing_data[0]:
            self._chunks = PlainChunks()
        if self._behind:
            self._take_in(self._behind)
        self._ahead = self._parse_piece()

    def _is_chunked(self, head: h11.Response) -> bool:
        has_body = self.request.method != "HEAD" and head.status_code not in BODILESS
        return has_body and (b"transfer-encoding", b"chunked") in head.headers

    def _take_in(self, data: bytes) -> None:
        """Take in some of the body; nothing: the server has closed."""
        if self._chunks is not None and data:
            self._chunks.feed(data)
        else:
            self._leave_to_h11()
            self.connection.http.receive_data(data)

    def _leave_to_h11(self) -> None:
        chunks, self._chunks = self._chunks, None
        if chunks is not None and chunks.rest:
            self.connection.http.receive_data(chunks.rest)

    def _parse_piece(self) -> bytes:
        """A piece of the body that has come, or nothing; notices the body's end."""
        if self._chunks is not None:
            try:
                piece = self._chunks.piece()
            except h11.RemoteProtocolError as fault:
                raise httpx_error(fault, Phase.READ, self.request) from fault
            if piece or not self._chunks.is_over:
                return piece
            self._leave_to_h11()
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

    async def _receive(self) -> bytes:
        try:
            data = await self._wait_for_bytes()
        except FAULTS as fault:
            raise httpx_error(fault, Phase.READ, self.request) from fault
        if data:
            self._touch()
        elif self.connection.http.their_state is h11.SEND_RESPONSE:
            raise httpx.RemoteProtocolError(NO_ANSWER, request=self.request)
        return data

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

    def _cut_by(self, error: httpx.TransportError) -> Exception:
        """End the exchange because reading has failed; gives back the fault of the sender if that is what lies behind
        it.
        """
        self._let_go()
        return self._sender.fault or error

    def _let_go(self) -> None:
        """End the exchange, unless it has ended. May be repeated."""
        if self.stage not in ENDS:
            return
        self.stage = ENDS[self.stage]
        self._stop_upload()
        self.give_back(self.connection)
