"""A server that does what a test's script says, byte by byte, over real sockets."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
import trio
import trio.testing
import trustme
from attrs import define, field


@define
class Peer:
    """The server's end of one connection; ``number`` counts them from 0."""

    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    number: int
    buffer: bytearray = field(factory=bytearray)

    async def until(self, marker: bytes) -> bytes:
        while marker not in self.buffer:
            if not (data := await self.stream.receive_some()):
                raise trio.BrokenResourceError(f"the client closed before {marker!r}")
            self.buffer += data
        return self.take(self.buffer.index(marker) + len(marker))

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def request(self) -> bytes:
        """A request without a body, or with a chunked one."""
        head = await self.head()
        return head + (await self.until(b"0\r\n\r\n") if b"chunked" in head else b"")

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.buffer += await self.stream.receive_some()
        return self.take(count)

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def gone(self) -> bytes:
        """What still comes until the client has closed."""
        with suppress(trio.BrokenResourceError):
            while data := await self.stream.receive_some():
                self.buffer += data
        return bytes(self.buffer)

    def reset(self) -> None:
        """Close with a TCP reset."""
        stream = self.stream
        raw = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
        raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.socket.close()


Script = Callable[[Peer], Awaitable[None]]


@define
class Server:
    url: str
    connections: int = 0


Serve = Callable[..., AbstractAsyncContextManager[Server]]


async def start(
    nursery: trio.Nursery, script: Script, host: str, context: ssl.SSLContext | None
) -> Server:
    [listener] = await trio.open_tcp_listeners(0, host=host)
    port = listener.socket.getsockname()[1]
    scheme = "https" if context else "http"
    server = Server(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")

    async def handle(stream: trio.SocketStream) -> None:
        number = server.connections
        server.connections += 1
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if context is None:
                await script(Peer(stream, number))
            else:
                secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
                await script(Peer(secured, number))

    nursery.start_soon(trio.serve_listeners, handle, [listener])
    return server


@pytest.fixture
def serve() -> Serve:
    """``async with serve(script) as server``: each connection is given to the script, and closed after it.

    The whole block may last 10 seconds, or ``patience``.
    """

    @asynccontextmanager
    async def serve(
        script: Script,
        *,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
        patience: float = 10.0,
    ) -> AsyncIterator[Server]:
        with trio.fail_after(patience):
            async with trio.open_nursery() as nursery:
                yield await start(nursery, script, host, context)
                nursery.cancel_scope.cancel()

    return serve


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Jumps, but only after the loopback has had time to deliver."""
    return trio.testing.MockClock(autojump_threshold=0.02)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
