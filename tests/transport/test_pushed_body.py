"""Bodies that are handed over, not asked for: straight into a socket, and every other way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from trickle_trio.transport import PushedBody, TrickleTransport
from trickle_trio.transport.pushed import MOST, TURN

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GONE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CHUNKED = [("Host", "relay"), ("Transfer-Encoding", "chunked")]


def post(url: str, body: PushedBody, *more: tuple[str, str]) -> httpx.Request:
    return httpx.Request("POST", url, headers=[*CHUNKED, *more], stream=body)


async def answered(transport: TrickleTransport, request: httpx.Request) -> bytes:
    response = await transport.handle_async_request(request)
    try:
        return await response.aread()
    finally:
        await response.aclose()


async def write(body: PushedBody, *pieces: bytes) -> None:
    for piece in pieces:
        await body.send(piece)
    body.end()


async def take_all(peer: Any) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


def tasks_of(transport: TrickleTransport) -> int:
    assert transport._nursery is not None
    return len(transport._nursery.child_tasks)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_it_arrives_whole(
    serve: Any, server_tls: Any, client_tls: Any, tls: bool, when: str
) -> None:
    """Pieces come when the connection is not there yet, while it is, and when the head has long left."""
    seen = []

    async def script(peer: Any) -> None:
        while True:
            await peer.head()
            seen.append(await peer.until(b"0\r\n\r\n"))
            await peer.send(OK)

    transport = TrickleTransport(ssl_context=client_tls)
    async with serve(script, context=server_tls if tls else None) as server, transport:
        for _ in range(2):
            body = PushedBody()
            async with trio.open_nursery() as nursery:
                if when == "before":
                    nursery.start_soon(write, body, b"one", b"", b"two")
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(answered, transport, post(server.url, body))
                if when == "after":
                    await trio.testing.wait_all_tasks_blocked(0.01)
                if when != "before":
                    nursery.start_soon(write, body, b"one", b"", b"two")
            assert body.taken == 6
        assert transport.statistics().reused == 1
    assert seen == 2 * [b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"]


async def test_an_end_that_comes_before_the_connection(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        assert await peer.exactly(5) == b"0\r\n\r\n"
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        body.end()
        body.break_off()
        assert await answered(transport, post(server.url, body)) == b"ok"


async def test_it_takes_no_task_while_the_socket_takes_it(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.until(b"here\r\n")
        await peer.send(OK)
        await peer.until(b"0\r\n\r\n")

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.send, b"here")
            response = await transport.handle_async_request(post(server.url, body))
        assert tasks_of(transport) == 0
        body.end()
        assert await response.aread() == b"ok"
        assert transport.statistics().idle_connections == 1


async def test_what_the_socket_does_not_take_holds_the_sender(serve: Any) -> None:
    """Saturation: one piece may be under way, no more; all of it arrives, also when the end comes meanwhile."""
    size, go_on, ends = 1 << 20, trio.Event(), []
    length = 32 * (size + len(b"100000\r\n\r\n"))

    async def script(peer: Any) -> None:
        await peer.head()
        await go_on.wait()
        await peer.exactly(length)
        ends.append(await peer.exactly(5))
        await peer.send(OK)

    async def flood(body: PushedBody) -> None:
        for _ in range(32):
            await body.send(bytes(size))
        body.end()

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answered, transport, post(server.url, body))
            nursery.start_soon(flood, body)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert 0 < body.taken < 32 * size
            go_on.set()
        assert transport.statistics().idle_connections == 1
    assert ends == [b"0\r\n\r\n"]


async def test_a_cancelled_send_has_sent_nothing(serve: Any) -> None:
    bodies = []

    async def script(peer: Any) -> None:
        await peer.head()
        await trio.testing.wait_all_tasks_blocked(0.05)
        bodies.append(await peer.until(b"0\r\n\r\n"))
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answered, transport, post(server.url, body))
            for _ in range(32):  # until the socket is full
                with trio.move_on_after(0.01):
                    await body.send(bytes(1 << 20))
            taken = body.taken
            await body.send(b"last")
            body.end()
    assert taken < 32 << 20
    assert body.taken == taken + 4
    assert bodies[0].count(bytes(1 << 20)) == taken >> 20
    assert bodies[0].endswith(b"4\r\nlast\r\n0\r\n\r\n")


@pytest.mark.parametrize("tls", [False, True])
async def test_an_early_answer_ends_it(
    serve: Any, server_tls: Any, client_tls: Any, tls: bool
) -> None:
    async def script(peer: Any) -> None:
        await peer.until(b"begun\r\n")
        await peer.send(GONE)
        await peer.gone()

    transport = TrickleTransport(ssl_context=client_tls)
    async with serve(script, context=server_tls if tls else None) as server, transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.send, b"begun")
            assert await answered(transport, post(server.url, body)) == b""
        with pytest.raises(trio.BrokenResourceError):
            await body.send(b"more")
        assert body.taken == 5
        assert transport.statistics().open_connections == tasks_of(transport) == 0


async def test_an_early_answer_while_the_socket_is_full(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await trio.testing.wait_all_tasks_blocked(0.02)
        await peer.send(GONE)
        await peer.gone()

    async def flood(body: PushedBody) -> None:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await body.send(bytes(1 << 20))

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, body)
            assert await answered(transport, post(server.url, body)) == b""
        assert transport.statistics().open_connections == tasks_of(transport) == 0


class Sink:
    """Takes everything at once."""

    def take(self, _: bytes) -> bool:
        return True

    def take_end(self) -> None: ...

    def take_break(self) -> None: ...


@pytest.mark.parametrize("size", [1, 4000, 100_000])
async def test_who_writes_without_end_leaves_the_others_their_turn(size: int) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    body, pieces = PushedBody(), 1000
    body.divert(Sink())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        for _ in range(pieces):
            await body.send(bytes(size))
        nursery.cancel_scope.cancel()
    assert turns >= pieces // MOST // 2
    assert turns >= pieces * size // (TURN + size) // 2


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_one_that_is_broken_off_does_not_end_as_if_whole(
    serve: Any, server_tls: Any, client_tls: Any, tls: bool, full: bool
) -> None:
    seen = b""

    async def script(peer: Any) -> None:
        nonlocal seen
        await peer.until(b"half\r\n")
        if full:
            await trio.testing.wait_all_tasks_blocked(0.02)
        seen = await peer.gone()

    async def begin(body: PushedBody) -> None:
        await body.send(b"half")
        if full:
            await body.send(bytes(8 << 20))
        body.break_off()

    transport = TrickleTransport(ssl_context=client_tls)
    async with serve(script, context=server_tls if tls else None) as server, transport:
        async with trio.open_nursery() as nursery:
            body = PushedBody()
            nursery.start_soon(begin, body)
            with pytest.raises(httpx.WriteError):
                await answered(transport, post(server.url, body))
        assert transport.statistics().open_connections == tasks_of(transport) == 0
    assert not seen.endswith(b"0\r\n\r\n")


async def test_one_that_was_broken_off_before_the_connection(serve: Any) -> None:
    async with serve(take_all) as server, TrickleTransport() as transport:
        body = PushedBody()
        body.break_off()
        with pytest.raises(httpx.WriteError):
            await answered(transport, post(server.url, body))
        with pytest.raises(trio.BrokenResourceError):
            await body.send(b"late")
        assert (body.taken, transport.statistics().open_connections) == (0, 0)


async def test_a_peer_that_has_gone_takes_nothing(serve: Any) -> None:
    body = PushedBody()

    async def script(peer: Any) -> None:
        await peer.head()
        peer.reset()
        with pytest.raises(trio.BrokenResourceError):  # at once, before the reader has its turn
            await body.send(b"late")

    async with serve(script) as server, TrickleTransport() as transport:
        with pytest.raises(httpx.WriteError):
            await answered(transport, post(server.url, body))
        assert (body.taken, transport.statistics().open_connections) == (0, 0)


async def test_more_than_was_promised_is_a_fault(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.gone()

    headers = {"Host": "relay", "Content-Length": "3"}
    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        request = httpx.Request("POST", server.url, headers=headers, stream=body)

        async def too_much() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await body.send(b"four")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(too_much)
            with pytest.raises(httpx.LocalProtocolError):
                await answered(transport, request)
        assert transport.statistics().open_connections == 0


async def test_the_write_timeout_holds_for_what_the_socket_did_not_take(
    serve: Any, patient_clock: Any
) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep(100)

    timeout = {"timeout": httpx.Timeout(None, write=3).as_dict()}
    async with serve(script, patience=1000) as server, TrickleTransport() as transport:
        body = PushedBody()
        request = httpx.Request(
            "POST", server.url, headers=CHUNKED, stream=body, extensions=timeout
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.send, bytes(16 << 20))
            with pytest.raises(httpx.WriteTimeout):
                await answered(transport, request)


async def test_expect_continue_holds_it_back(serve: Any) -> None:
    async def script(peer: Any) -> None:
        head = await peer.head()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (b"expect" in head.lower(), bytes(peer.buffer)) == (True, b"")
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.until(b"0\r\n\r\n")
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, body, b"abc")
            request = post(server.url, body, ("Expect", "100-continue"))
            assert await answered(transport, request) == b"ok"


async def test_through_clients(serve: Any) -> None:
    """httpx's own transport iterates it; over ours it takes the straight way, wrapped as the client wraps it."""
    for transport in (None, TrickleTransport()):
        async with (
            serve(take_all) as server,
            httpx.AsyncClient(transport=transport, trust_env=False) as client,
        ):
            body = PushedBody()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, body, b"one", b"two")
                assert (await client.post(server.url, content=body)).text == "ok"
            assert body.taken == 6


@pytest.mark.parametrize("tls", [False, True])
async def test_it_is_not_sent_twice(
    serve: Any, server_tls: Any, client_tls: Any, tls: bool
) -> None:
    transport = TrickleTransport(ssl_context=client_tls)
    async with serve(take_all, context=server_tls if tls else None) as server, transport:
        body = PushedBody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, body, b"once")
            assert await answered(transport, post(server.url, body)) == b"ok"
        with pytest.raises(httpx.StreamConsumed):
            await answered(transport, post(server.url, body))
        assert transport.statistics().open_connections == tasks_of(transport) == 0


async def test_an_iteration_that_is_left_breaks_it_off() -> None:
    body = PushedBody()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(body.send, b"one")
        pieces: AsyncIterator[bytes] = aiter(body)
        assert await anext(pieces) == b"one"
    await pieces.aclose()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(trio.BrokenResourceError):
        await body.send(b"two")


async def test_leaving_the_transport_tells_the_sender(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep_forever()

    async def flood(body: PushedBody) -> None:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await body.send(bytes(1 << 20))

    async def fail(transport: TrickleTransport, request: httpx.Request) -> None:
        with pytest.raises(httpx.TransportError):
            await answered(transport, request)

    async with serve(script) as server, trio.open_nursery() as nursery:
        async with TrickleTransport() as transport:
            body = PushedBody()
            nursery.start_soon(partial(fail, transport, post(server.url, body)))
            nursery.start_soon(flood, body)
            await trio.testing.wait_all_tasks_blocked(0.02)
