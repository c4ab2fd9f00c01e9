"""How soon a caller knows that a POST which waits for its data has been answered: 404, or "closed".

From the moment before the server sends the answer until ``wait_ended`` returns, both ends in one
process, plain and under TLS. The server says what a relay says, when it is told to. A busy machine
makes anybody wait: the CPU that both ends took between the two moments tells its share from ours.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Final

import httpx
import trio
import trustme
from attrs import frozen

from tests.benchmarks.report import Demand, Figure, percentile
from trickle_core.publisher import PublisherSettings
from trickle_trio.publication import open_publication
from trickle_trio.transport import TrickleTransport

LINES: Final = {
    "404": b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "closed": b"HTTP/1.1 200 OK\r\nLp-Trickle-Closed: terminated\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n",
}
IN_TIME: Final = Demand("<", 5)

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def run(*, count: int = 300) -> list[Figure]:
    """All of it. ``count``: answers of each kind."""
    return [
        figure
        for secured in (False, True)
        for name, line in LINES.items()
        for figure in described(
            name, secured=secured, waits=trio.run(answer_many, line, count, secured)
        )
    ]


@frozen
class Wait:
    """Seconds of the clock, and of this process's CPU, until the caller knew."""

    wall: float
    cpu: float


def now() -> Wait:
    """The two clocks."""
    return Wait(time.perf_counter(), time.process_time())


def described(name: str, waits: list[Wait], *, secured: bool) -> list[Figure]:
    """What came of it."""
    told = f'"{name}" on an idle POST, {"under TLS" if secured else "plain"}'
    wall, cpu = [1000 * wait.wall for wait in waits], [1000 * wait.cpu for wait in waits]
    return [
        Figure("early", f"{told}, median", median(wall), "ms", IN_TIME),
        Figure("early", f"{told}, 99 of 100", percentile(wall, 0.99), "ms", IN_TIME),
        Figure("early", f"{told}, worst", max(wall), "ms", IN_TIME),
        Figure("early", f"{told}, CPU of the worst", max(cpu), "ms", IN_TIME),
    ]


class Server:
    """Takes one POST a connection and answers it early."""

    def __init__(self, answer: bytes, context: ssl.SSLContext | None) -> None:
        self._answer = answer
        self._context = context
        self.opened, self.arrivals = trio.open_memory_channel[Stream](10)

    async def welcome(self, plain: trio.SocketStream) -> None:
        """Wait for a head, then for what becomes of it."""
        stream: Stream = plain
        if self._context is not None:
            stream = trio.SSLStream(plain, self._context, server_side=True, https_compatible=True)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some()
        await self.opened.send(stream)
        await stream.receive_some()

    async def answer(self) -> Wait:
        """Answer the oldest; returns when that began."""
        stream = await self.arrivals.receive()
        await trio.sleep(0.002)  # so that the client has long been waiting
        began = now()
        await stream.send_all(self._answer)
        return began


async def answer_many(answer: bytes, count: int, secured: bool) -> list[Wait]:
    """How long it took until the caller knew, each time."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    async with serving(Server(answer, server_tls(authority) if secured else None)) as (
        server,
        port,
    ):
        scheme = "https" if secured else "http"
        url = f"{scheme}://127.0.0.1:{port}/a"
        transport = TrickleTransport(ssl_context=client_tls(authority))
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            return [await answer_one(server, url, client) for _ in range(count)]


async def answer_one(server: Server, url: str, client: httpx.AsyncClient) -> Wait:
    """Publish until the server says that it is over."""
    settings = PublisherSettings(first=0)
    async with open_publication(url, settings=settings, client=client) as publication:
        began = now()

        async def answer() -> None:
            nonlocal began
            began = await server.answer()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            await publication.wait_ended()
            known = now()
    return Wait(known.wall - began.wall, known.cpu - began.cpu)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[tuple[Server, int]]:
    """It listens on a free port."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.welcome, [listener])
        yield server, listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate for this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Who believes it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
