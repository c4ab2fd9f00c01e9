"""A real relay on a real socket, and clients that speak to it byte by byte."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest
import trio
import trio.testing
from attrs import define, field

from trickle_trio.relay import BoundRelay, serve_relay


@define
class Reply:
    """An answer, as far as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


@define
class Client:
    """One connection of a client."""

    stream: Any
    http: h11.Connection = field(factory=lambda: h11.Connection(h11.CLIENT))
    continues: int = 0

    async def begin(self, method: str, path: str, **headers: str) -> None:
        """Send a head; a POST's body is chunked and stays open, others have none."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST" and "content-length" not in named:
            named["transfer-encoding"] = "chunked"
        request = h11.Request(method=method, target=path, headers=[("host", "x"), *named.items()])
        data = self.http.send(request)
        if method != "POST":
            data += self.http.send(h11.EndOfMessage())
        await self.stream.send_all(data)

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(self.http.send(h11.Data(data=data)))

    async def end(self) -> None:
        await self.stream.send_all(self.http.send(h11.EndOfMessage()))

    async def event(self) -> Any:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.receive_some())
        return event

    async def head(self) -> Reply:
        """The answer's head; 1xx are counted."""
        while isinstance(event := await self.event(), h11.InformationalResponse):
            self.continues += 1
        assert isinstance(event, h11.Response), event
        return Reply(event.status_code, {k.decode(): v.decode() for k, v in event.headers})

    async def some(self) -> bytes:
        """Some of the body; nothing at its end, after which the next request may follow."""
        event = await self.event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        if self.http.our_state is self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        return b""

    async def reply(self) -> Reply:
        """The whole answer."""
        reply = await self.head()
        while data := await self.some():
            reply.body += data
        return reply

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        await self.begin(method, path, **headers)
        if method == "POST":
            if body:
                await self.write(body)
            await self.end()
        return await self.reply()

    async def exactly(self, count: int) -> bytes:
        """So much of the body."""
        data = b""
        while len(data) < count:
            data += await self.some()
        return data

    async def rest(self) -> bytes:
        """Raw bytes until the server closes."""
        data = bytearray()
        try:
            while more := await self.stream.receive_some():
                data += more
        except trio.BrokenResourceError:
            data += b"<reset>"
        return bytes(data)


@define
class Running:
    """A relay that runs; ``client()`` opens connections that the test's end closes."""

    bound: BoundRelay
    nursery: trio.Nursery
    context: ssl.SSLContext | None = None
    streams: list[Any] = field(factory=list)

    async def raw(self, receive_buffer: int | None = None) -> trio.SocketStream:
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        try:
            await sock.connect((self.bound.host, self.bound.port))
        except BaseException:
            sock.close()
            raise
        stream = trio.SocketStream(sock)
        self.streams.append(stream)
        return stream

    async def client(self, receive_buffer: int | None = None) -> Client:
        stream: Any = await self.raw(receive_buffer)
        if self.context is not None:
            stream = trio.SSLStream(
                stream, self.context, server_hostname="localhost", https_compatible=True
            )
        return Client(stream)

    def stop(self) -> None:
        """Cancel the relay, as Ctrl-C does."""
        self.nursery.cancel_scope.cancel()


Serving = Callable[..., Any]


@pytest.fixture
def serving() -> Serving:
    """``async with serving(settings=...) as running``: the relay is stopped at the block's end."""

    @asynccontextmanager
    async def serving(
        context: ssl.SSLContext | None = None, at_most: float = 15.0, **options: Any
    ) -> AsyncIterator[Running]:
        async def serve(task_status: trio.TaskStatus[BoundRelay]) -> None:
            await serve_relay(port=0, task_status=task_status, **options)

        with trio.fail_after(at_most):
            async with trio.open_nursery() as nursery:
                running = Running(await nursery.start(serve), nursery, context)
                try:
                    yield running
                finally:
                    for stream in running.streams:
                        stream.socket.close()
                    running.stop()

    return serving


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Time jumps when nothing has happened for a while: loopback needs some real time now and
    then, for which ``autojump_clock`` does not wait.
    """
    return trio.testing.MockClock(autojump_threshold=0.03)


Poll = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Poll:
    """Let the others run until something is so; the test's own time limit ends it."""

    async def until(so: Callable[[], bool]) -> None:
        while not so():
            await trio.lowlevel.checkpoint()

    return until
