"""A client's connection as bytes: plain over a non-blocking socket, or TLS over Trio's stream.

Plain ones go round Trio's own streams: those reschedule the task at each send, and take one buffer
at a time. Here a send that the socket takes at once costs one system call for any number of
buffers, and nothing is copied before it reaches the kernel.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from trickle_core.window.segment import Buffer

RECEIVE_SIZE: Final = 128 * 1024

TLS_PIECE: Final = 64 * 1024
"""TLS is sent in pieces of this size, so that the write timeout means progress, not all."""

UNSENT: Final = 128 * 1024
"""Trio lets a socket count as writable below 16 KiB of unsent bytes: good for latency, but it wakes
a reader at full speed ten times as often."""

PROBE_AFTER: Final = 30
PROBE_EVERY: Final = 10
PROBES: Final = 3
"""A waiting GET moves no byte: without probes, a client that lost its power would hold it for
ever."""

UNACKNOWLEDGED_MS: Final = 30_000
"""And if bytes are on their way to it, no probes are sent: Linux would try for 15 minutes."""


class Gone(Exception):
    """The client has closed, broken off or stalled: nobody is left to be answered."""


class Link(Protocol):
    """What a connection needs of its bytes."""

    async def receive(self) -> bytes:
        """Some bytes; none: the client has closed. Cancelling loses nothing. Raises Gone."""
        ...

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Send all; returns without a checkpoint if they are taken at once. Raises Gone, also when
        the client takes nothing for the write timeout. Cancelled, it leaves half a message.
        """
        ...

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Send what is taken at once, if this link can do that; gives back the rest. Not while a
        ``send`` is under way. Raises Gone.
        """
        ...

    async def send_end(self) -> None:
        """Say that nothing more comes, where that can be said without closing."""
        ...

    async def part(self) -> None:
        """Close in due form: all was said."""
        ...

    def close(self) -> None:
        """Close at once. Twice is legal."""
        ...


class PlainLink:
    """TCP. Takes over the stream's socket."""

    def __init__(self, stream: trio.SocketStream, write_timeout: float) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.settimeout(0)
        self._write_timeout = write_timeout

    async def receive(self) -> bytes:
        """See ``Link``."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone from error

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """See ``Link``."""
        left = self.send_now(buffers)
        while left:
            with trio.move_on_after(self._write_timeout) as scope:
                await trio.lowlevel.wait_writable(self._socket)
            if scope.cancelled_caught:
                raise Gone("stalled")
            left = self.send_now(left)

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """See ``Link``."""
        try:
            sent = self._socket.sendmsg(buffers)
        except BlockingIOError:
            return buffers
        except OSError as error:
            raise Gone from error
        return _without(buffers, sent)

    async def send_end(self) -> None:
        """See ``Link``."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Gone from error

    async def part(self) -> None:
        """See ``Link``. TCP has no other form."""
        self.close()

    def close(self) -> None:
        """See ``Link``."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def _without(buffers: Sequence[Buffer], sent: int) -> Sequence[Buffer]:
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []


class TlsLink:
    """TLS. The stream stays the caller's to close."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], write_timeout: float) -> None:
        self._stream = stream
        self._write_timeout = write_timeout

    async def receive(self) -> bytes:
        """See ``Link``."""
        try:
            return bytes(await self._stream.receive_some(RECEIVE_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Gone from error

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """See ``Link``."""
        data = memoryview(b"".join(buffers))
        for start in range(0, len(data), TLS_PIECE):
            await self._send_piece(data[start : start + TLS_PIECE])

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """See ``Link``. Trio's TLS only sends with a task."""
        return buffers

    async def _send_piece(self, piece: memoryview) -> None:
        with trio.move_on_after(self._write_timeout) as scope:
            try:
                await self._stream.send_all(piece)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Gone from error
        if scope.cancelled_caught:
            raise Gone("stalled")

    async def send_end(self) -> None:
        """TLS has no half-closed connections that clients agree on: the answer's length must do."""

    async def part(self) -> None:
        """See ``Link``: without its closing alert, a client must take the answer for cut off."""
        with trio.move_on_after(self._write_timeout):
            await self._stream.aclose()

    def close(self) -> None:
        """See ``Link``."""
        self._stream.transport_stream.socket.close()


async def open_link(
    stream: trio.SocketStream,
    ssl_context: ssl.SSLContext | None,
    *,
    handshake_timeout: float,
    write_timeout: float,
) -> Link:
    """Make a link of an accepted stream. Raises Gone if TLS does not come about in time."""
    _watch_over(stream)
    if ssl_context is None:
        return PlainLink(stream, write_timeout)
    tls = trio.SSLStream(stream, ssl_context, server_side=True, https_compatible=True)
    with trio.move_on_after(handshake_timeout) as scope:
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError as error:
            raise Gone from error
    if scope.cancelled_caught:
        raise Gone("no handshake")
    return TlsLink(tls, write_timeout)


def _watch_over(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_AFTER),
        ("TCP_KEEPINTVL", PROBE_EVERY),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
        ("TCP_NOTSENT_LOWAT", UNSENT),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
