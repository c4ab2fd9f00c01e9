"""One connection: where it leads, its socket and its HTTP state, and what its faults are called."""

from __future__ import annotations

import math
import socket
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Final

import h11
import httpx
import trio
from attrs import define, field, frozen

MAX_HEAD: Final = 64 * 1024
"""Bytes of an unfinished head, chunk header or trailer that are held before the answer counts as garbage. Browsers and
Go's client stop between 256 KiB and 10 MiB, most servers send below 8 KiB."""

RECEIVE_SIZE: Final = 64 * 1024

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@frozen
class Origin:
    """Where a connection leads. The host stays as the URL's bytes, which are encoded already."""

    scheme: str
    host: bytes
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Where a checked URL leads."""
        return cls(url.scheme, url.raw_host, url.port or DEFAULT_PORTS[url.scheme])


@frozen
class Timeouts:
    """Seconds, infinite for no limit, from what httpx puts into ``request.extensions["timeout"]``.

    ``connect`` covers TLS too, ``write`` each single write. ``read`` covers each wait for bytes, those of the head
    included, but its clock stands still while the request's body is being sent: in httpx reading begins only then.
    """

    connect: float
    write: float
    read: float

    @classmethod
    def of(cls, request: httpx.Request) -> Timeouts:
        """No extension, no limits."""
        given = request.extensions.get("timeout") or {}
        connect, write, read = (given.get(name) for name in ("connect", "write", "read"))
        return cls(
            math.inf if connect is None else connect,
            math.inf if write is None else write,
            math.inf if read is None else read,
        )


def limit(seconds: float) -> AbstractContextManager[object]:
    """``trio.fail_after``, or nothing at all where there is no limit."""
    return nullcontext() if seconds == math.inf else trio.fail_after(seconds)


class Phase(Enum):
    """What was going on when something broke or took too long: httpx's errors are named after it."""

    CONNECT = (httpx.ConnectError, httpx.ConnectTimeout)
    WRITE = (httpx.WriteError, httpx.WriteTimeout)
    READ = (httpx.ReadError, httpx.ReadTimeout)

    def __init__(
        self, broken: type[httpx.TransportError], late: type[httpx.TransportError]
    ) -> None:
        self.broken = broken
        self.late = late


FAULTS: Final = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    h11.ProtocolError,
)
"""What Trio, h11 and the operating system raise when a connection or a peer fails."""


def httpx_error(fault: Exception, phase: Phase, request: httpx.Request) -> httpx.TransportError:
    """Translate one of ``FAULTS`` for httpx's users. All of them pass through here."""
    match fault:
        case trio.TooSlowError():
            return phase.late(f"{phase.name.lower()} timeout", request=request)
        case h11.RemoteProtocolError():
            return httpx.RemoteProtocolError(str(fault), request=request)
        case h11.LocalProtocolError():
            return httpx.LocalProtocolError(str(fault), request=request)
        case trio.ClosedResourceError():
            return phase.broken("the connection was closed on this side", request=request)
        case _:
            return phase.broken(str(fault) or str(fault.__cause__), request=request)


@define(eq=False)
class Connection:
    """A socket, perhaps under TLS, and the state of HTTP on it. Owned by the transport, lent to one exchange.

    Plain bytes go round Trio's streams: those take a turn of the event loop for each write, and try to read before they
    wait, in vain for an answer that is still to come.
    """

    origin: Origin
    socket: socket.socket
    """Not blocking."""
    tls: trio.SSLStream[trio.SocketStream] | None
    """What the bytes go through, where it is there."""
    http: h11.Connection = field(
        factory=lambda: h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    )
    idle_since: float = math.inf

    async def send(self, data: bytes | memoryview, patience: float) -> None:
        """Send all; without a checkpoint where a plain socket takes it at once. Raises one of ``FAULTS``, also if it
        takes longer than ``patience`` seconds.
        """
        left = self.send_now(data)
        if left:
            with limit(patience):
                await self._send_rest(left)

    def send_now(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send what a plain socket takes at once; gives back the rest. Not while ``send`` is under way. Raises
        ``OSError``.
        """
        if self.tls is not None:
            return data
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            return data
        return memoryview(data)[sent:]

    async def _send_rest(self, data: bytes | memoryview) -> None:
        if self.tls is not None:
            await self.tls.send_all(data)
            return
        while data:
            await trio.lowlevel.wait_writable(self.socket)
            data = self.send_now(data)

    async def receive(self) -> bytes:
        """Some bytes; none: the peer has closed. Cancelling loses nothing. Raises one of ``FAULTS``."""
        if self.tls is not None:
            return bytes(await self.tls.receive_some())
        while self.is_open():
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return self.socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
        raise trio.ClosedResourceError

    def close(self) -> None:
        """Close the socket; whoever waits on it is woken with ``trio.ClosedResourceError``. May be repeated."""
        if self.is_open():
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def is_open(self) -> bool:
        """Whether this side has not closed it."""
        return self.socket.fileno() != -1

    def is_between_requests(self) -> bool:
        """Whether both messages are whole, both sides keep alive, and nothing came that nobody asked for."""
        http = self.http
        return (
            http.our_state is h11.DONE
            and http.their_state is h11.DONE
            and http.trailing_data == (b"", False)
            and self.is_open()
        )

    def is_silent(self) -> bool:
        """Whether an idle connection is as it was left: anything to read is its end, or bytes out of turn.

        Under TLS it may also be a late session ticket. Then a good connection is given up, which costs a handshake.
        """
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False
