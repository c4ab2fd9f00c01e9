"""The connections of one transport, and the nursery in which its bodies are sent."""

from __future__ import annotations

import functools
import socket
import ssl
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import httpx
import trio
from attrs import define, field, frozen
from attrs.validators import ge

from trickle_trio.transport.bare import BareRequest
from trickle_trio.transport.connection import (
    DEFAULT_PORTS,
    FAULTS,
    Connection,
    Origin,
    Phase,
    Timeouts,
    httpx_error,
    limit,
)
from trickle_trio.transport.exchange import Exchange

KEEPALIVE_PROBE: Final = 15
"""Seconds of silence between TCP keep-alive probes, as in Go's dialer. A read may wait for minutes without a timeout;
the probes notice a peer that has vanished."""


@frozen
class TransportStatistics:
    """Counters of one transport: requests begun, how many went over a used connection, connections held now."""

    requests: int
    reused: int
    open_connections: int
    idle_connections: int


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """The process's one verifying context: httpx's roots and environment variables, ALPN ``http/1.1``.

    Made when first needed: it takes 26 ms, and most trickle traffic is plain HTTP.
    """
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@define(slots=False, eq=False, kw_only=True)
class TrickleTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient(transport=...)``, or to be called directly; see the module's text.

    ``ssl_context``: None is a verifying one that the process shares; another is used as it is, ALPN included.
    ``idle_limit``: idle connections kept, wherever they lead; the latest is used first.
    ``idle_seconds``: how long one may idle before it is closed instead of used again. Servers close theirs sooner or
    later without asking, and firewalls forget them without telling.

    An async context manager: it owns the nursery in which bodies are sent. Leaving it stops them, closes every
    connection and waits for the bodies' iterators to close. httpx's client enters and leaves it by itself.
    """

    ssl_context: ssl.SSLContext | None = None
    idle_limit: int = field(default=4, validator=ge(0))
    idle_seconds: float = field(default=60.0, validator=ge(0))
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _stack: AsyncExitStack = field(factory=AsyncExitStack, init=False)
    _open: set[Connection] = field(factory=set, init=False)
    _idle: list[Connection] = field(factory=list, init=False)
    _requests: int = field(default=0, init=False)
    _reused: int = field(default=0, init=False)

    async def __aenter__(self) -> Self:
        if self._nursery is not None:
            raise RuntimeError("a TrickleTransport can be entered only once at a time")
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stop and close everything. The caller's exception is not shown to the nursery, which would wrap it."""
        self._shut_down()
        try:
            await self._stack.aclose()
        except* trio.Cancelled:
            # Raised if the surrounding scope is cancelled. It must not take the place of the caller's exception.
            if exc_value is None:
                raise
        finally:
            self._nursery = None

    async def aclose(self) -> None:
        """Stop and close everything, without waiting: that is for the end of the ``async with``."""
        self._shut_down()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return when the head of its answer is there, the body may still be on its way.

        Cancelling is safe: the connection is closed, the body stopped. Raises httpx's exceptions, or what the body's
        iterator raised. A used connection that proves dead before a byte of answer has come is replaced once, if the
        body has not been begun and the server cannot have acted on the request or may act on it twice.
        """
        return (await self.exchange(request)).response()

    async def exchange(self, request: httpx.Request) -> Exchange:
        """The same, for who needs no ``httpx.Response``: it costs as much as all the rest of a small answer."""
        nursery = self._running_nursery()
        if isinstance(request, BareRequest):
            origin, timeouts = request.kind.origin, request.kind.timeouts
        else:
            check(request)
            origin, timeouts = Origin.of(request.url), Timeouts.of(request)
        self._requests += 1
        used = self._take_idle(origin)
        if used is not None:
            self._reused += 1
            exchange = Exchange(request, used, timeouts, self._give_back)
            try:
                await exchange.perform(nursery)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if not exchange.may_be_sent_again():
                    raise
            else:
                return exchange
        fresh = await self._connect(origin, request, timeouts)
        exchange = Exchange(request, fresh, timeouts, self._give_back)
        await exchange.perform(nursery)
        return exchange

    def statistics(self) -> TransportStatistics:
        """The counters as they are now."""
        return TransportStatistics(
            requests=self._requests,
            reused=self._reused,
            open_connections=len(self._open),
            idle_connections=len(self._idle),
        )

    def _running_nursery(self) -> trio.Nursery:
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            raise RuntimeError(
                "this TrickleTransport is not open: use it inside 'async with TrickleTransport() as transport', "
                "or 'async with httpx.AsyncClient(transport=TrickleTransport()) as client'"
            )
        return self._nursery

    def _shut_down(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()

    async def _connect(
        self, origin: Origin, request: httpx.Request, timeouts: Timeouts
    ) -> Connection:
        try:
            with limit(timeouts.connect):
                stream = await trio.open_tcp_stream(origin.host, origin.port)
                connection = await self._prepared(bare(stream), origin)
        except FAULTS as fault:
            raise httpx_error(fault, Phase.CONNECT, request) from fault
        self._open.add(connection)
        return connection

    async def _prepared(self, sock: socket.socket, origin: Origin) -> Connection:
        try:
            probe_when_silent(sock)
            tls = None if origin.scheme == "http" else await self._secured(sock, origin)
            self._running_nursery()  # raises if the transport was left meanwhile
        except BaseException:
            sock.close()
            raise
        return Connection(origin, sock, tls)

    async def _secured(
        self, sock: socket.socket, origin: Origin
    ) -> trio.SSLStream[trio.SocketStream]:
        stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(sock)),
            self.ssl_context or default_ssl_context(),
            server_hostname=origin.host.decode("ascii"),
            https_compatible=True,
        )
        await stream.do_handshake()
        return stream

    def _take_idle(self, origin: Origin) -> Connection | None:
        """Take the latest idle connection that is still good; those found bad on the way are closed."""
        now = trio.current_time()
        for connection in [idle for idle in reversed(self._idle) if idle.origin == origin]:
            self._idle.remove(connection)
            if connection.is_silent() and not self._is_overdue(connection, now):
                return connection
            self._discard(connection)
        return None

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_between_requests():
            self._discard(connection)
            return
        connection.http.start_next_cycle()
        now = connection.idle_since = trio.current_time()
        self._idle.append(connection)
        while self._idle and (
            len(self._idle) > self.idle_limit or self._is_overdue(self._idle[0], now)
        ):
            self._discard(self._idle.pop(0))

    def _is_overdue(self, connection: Connection, now: float) -> bool:
        return now - connection.idle_since > self.idle_seconds

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)


def check(request: httpx.Request) -> None:
    """Refuse what this transport cannot do."""
    url = request.url
    if url.scheme not in DEFAULT_PORTS or not url.raw_host:
        raise httpx.UnsupportedProtocol(
            f"cannot request {str(url)!r}: it needs http:// or https:// and a host", request=request
        )
    if request.method == "CONNECT":
        raise httpx.UnsupportedProtocol("CONNECT: there are no tunnels here", request=request)
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise TypeError(f"the body must be an async iterator or bytes, not {request.stream!r}")


def bare(stream: trio.SocketStream) -> socket.socket:
    """Take the socket out of Trio's stream."""
    sock = socket.socket(fileno=stream.socket.detach())
    sock.settimeout(0)
    return sock


def probe_when_silent(sock: socket.socket) -> None:
    """Switch TCP keep-alive probes on, where the platform lets their times be chosen."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, KEEPALIVE_PROBE)
