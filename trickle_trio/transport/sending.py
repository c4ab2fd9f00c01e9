"""The request's way out: its head, and its body while the answer may already be coming."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from inspect import isasyncgen
from typing import Final, cast

import h11
import httpx
import trio
from attrs import define, field

from trickle_trio.transport.bare import BareRequest
from trickle_trio.transport.connection import FAULTS, Connection, Phase, Timeouts, httpx_error
from trickle_trio.transport.pushed import PushedBody

SMALL_BODY: Final = 16 * 1024
"""A body that is at hand and no longer than this goes out with the head in one write, without a task: the send buffer
of an idle connection takes it even if the peer reads nothing."""

CONTINUE_PATIENCE: Final = 1.0
"""Seconds to wait for the answer to ``Expect: 100-continue`` before the body is sent anyway, as curl and Go do; many
servers do not know the header (RFC 9110, section 10.1.1)."""


@define(eq=False)
class Sender:
    """Puts a request on its connection, and knows what went wrong with that."""

    request: httpx.Request
    connection: Connection
    timeouts: Timeouts
    fault: Exception | None = None
    """Raised where the answer is waited for or read."""
    _chunked: bool = False
    """The body is known to be chunked: h11 keeps no count of it."""

    def head(self) -> bytes:
        """The request's head. httpx's extension ``target`` stands for the address, where it is given."""
        request = self.request
        if isinstance(request, BareRequest):
            self._chunked = request.kind.has_body
            return request.head(self.framed(request.kind.event))
        target = request.extensions.get("target") or request.url.raw_path
        try:
            event = h11.Request(method=request.method, target=target, headers=request.headers.raw)
        except h11.LocalProtocolError as fault:
            raise httpx_error(fault, Phase.WRITE, request) from fault
        return self.framed(event)

    def whole(self, body: bytes) -> bytes:
        """All that follows the head."""
        return self.framed(h11.Data(body)) + self.framed(h11.EndOfMessage())

    def framed(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        """A part of the request as it goes over the wire."""
        if self._chunked and isinstance(event, h11.Data) and self.is_amid_body():
            return b"%x\r\n%b\r\n" % (len(event.data), event.data)
        try:
            return self.connection.http.send(event)
        except h11.LocalProtocolError as fault:
            raise httpx_error(fault, Phase.WRITE, self.request) from fault

    def body_at_hand(self) -> bytes | None:
        """The body, if it is short and need not be waited for."""
        stream = self.request.stream
        if not isinstance(stream, httpx.ByteStream) or self.waits_for_continue():
            return None
        body = b"".join(stream)
        return body if len(body) <= SMALL_BODY else None

    def waits_for_continue(self) -> bool:
        """Whether the server was asked if it wants the body."""
        return self.connection.http.client_is_waiting_for_100_continue

    def is_amid_body(self) -> bool:
        """Whether more of the body is wanted, and can be sent."""
        connection = self.connection
        going = self.fault is None and connection.is_open()
        return going and connection.http.our_state is h11.SEND_BODY

    async def write(self, data: bytes | memoryview) -> None:
        """Write, and note if the peer has gone."""
        try:
            await self.connection.send(data, self.timeouts.write)
        except FAULTS as fault:
            self._note(fault)

    def write_now(self, data: bytes) -> bytes | memoryview:
        """Write what a plain socket takes at once, and note if the peer has gone; gives back the rest."""
        try:
            return self.connection.send_now(data)
        except OSError as fault:
            self._note(fault)
            return b""

    def _note(self, fault: Exception) -> None:
        # The peer's answer may be there all the same: the reader decides.
        error = httpx_error(fault, Phase.WRITE, self.request)
        if not isinstance(error, httpx.WriteError):
            raise error from fault
        self.connection.http.send_failed()
        self.fault = error


@define(eq=False)
class Upload:
    """Sends a body: in a task, or, as long as a plain socket takes it all, from the task that pushes it."""

    sender: Sender
    nursery: trio.Nursery
    begun: Callable[[], None]
    """Called before the body is touched."""
    ended: Callable[[], None]
    """Called when nothing more of the body will be sent."""
    heard: trio.Event = field(factory=trio.Event, init=False)
    """The server has said something: whoever waits for 100 Continue may go on."""
    over: trio.Event = field(factory=trio.Event, init=False)
    """The task and the body's iterator have ended."""
    _scope: trio.CancelScope | None = field(default=None, init=False)
    """The task's, if there is one."""
    _pushed: PushedBody | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        body, _ = unwrapped(self.sender.request.stream)
        self._pushed = body if isinstance(body, PushedBody) else None

    def start(self) -> None:
        """Begin."""
        tls = self.sender.connection.tls is not None
        if self._pushed is None or tls or self.sender.waits_for_continue():
            self._start_task(self._send_iterated)
            return
        if self._pushed.taken:
            raise httpx.StreamConsumed
        self.begun()
        self._pushed.divert(self)

    def stop(self) -> None:
        """Send nothing more, if there was more."""
        if self.over.is_set():
            return
        self.sender.connection.http.send_failed()  # never whole: not to be used again
        if self._scope is None:
            self._end()
        else:
            self._scope.cancel()

    def _fail(self, error: Exception) -> None:
        self.sender.fault = self.sender.fault or error
        self.sender.connection.close()

    def _end(self) -> None:
        self.over.set()
        if self._pushed is not None:
            self._pushed.break_off()
        self.ended()

    # From the task that pushes: this is the ``Taker`` of its body.

    def take(self, piece: bytes) -> bool:
        """See ``Taker``."""
        return self._push(h11.Data(piece))

    def take_end(self) -> None:
        """See ``Taker``."""
        if self._scope is None and self._push(h11.EndOfMessage()) and self._scope is None:
            self._end()

    def take_break(self) -> None:
        """See ``Taker``."""
        if not self.over.is_set():
            self._fail(httpx.WriteError("the body was broken off"))
            if self._scope is None:
                self._end()

    def _push(self, event: h11.Data | h11.EndOfMessage) -> bool:
        """Put a part of the body into the socket, and leave to a task what does not go in. False: it has failed, and
        nothing of it has left.
        """
        rest: bytes | memoryview = b""
        try:
            rest = self.sender.write_now(self.sender.framed(event))
        except httpx.TransportError as error:
            self._fail(error)
        if self.sender.fault is not None:
            self._end()
            return False
        if rest:
            self._hold(rest)
        return True

    def _hold(self, rest: bytes | memoryview) -> None:
        self._start_task(partial(self.sender.write, rest))
        if self._pushed is not None:
            self._pushed.hold()

    # From a task.

    def _start_task(self, work: Callable[[], Awaitable[None]]) -> None:
        scope = trio.CancelScope()
        self.nursery.start_soon(self._run, scope, work)
        self._scope = scope

    async def _run(self, scope: trio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with scope:
                # An answer may have been quicker than this task, and have refused the body.
                await trio.lowlevel.checkpoint_if_cancelled()
                await work()
        except Exception as error:  # noqa: BLE001 - whatever the user's iterator raises goes to the reader
            self._fail(error)
        except BaseException:
            self.sender.connection.close()
            raise
        finally:
            self._scope = None
            self._go_on()

    def _go_on(self) -> None:
        if self._pushed is not None and self.sender.is_amid_body():
            self._pushed.divert(self)
        else:
            self._end()

    async def _send_iterated(self) -> None:
        if self.sender.waits_for_continue():
            with trio.move_on_after(CONTINUE_PATIENCE):
                await self.heard.wait()
        await self._send_pieces()

    async def _send_pieces(self) -> None:
        self.begun()
        body, given = unwrapped(self.sender.request.stream)
        pieces = aiter(body)
        try:
            async for piece in pieces:
                await self._send_piece(h11.Data(piece))
                if self.sender.fault is not None:
                    return
            await self._send_piece(h11.EndOfMessage())
        finally:
            await close_each(pieces, body, given)

    async def _send_piece(self, piece: h11.Data | h11.EndOfMessage) -> None:
        # Neither the body nor the socket need pause, and others want their turn.
        await trio.lowlevel.checkpoint()
        data = self.sender.framed(piece)
        if self.sender.connection.tls is None:
            await self.sender.write(data)
            return
        # Trio's TLS stream cannot be read any more after a cancelled write. Closing the socket ends a shielded one.
        with trio.CancelScope(shield=True):
            await self.sender.write(data)


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
