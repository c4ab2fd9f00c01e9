"""Ends of every kind leave nothing behind: faults of the body, closing, cancelling anywhere, full pipes, shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from trickle_trio.transport import TrickleTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def bodies_at_work(transport: TrickleTransport) -> int:
    assert transport._nursery is not None
    return len(transport._nursery.child_tasks)


async def silence(peer: Any) -> None:
    await peer.gone()


async def head_then_silence(peer: Any) -> None:
    await peer.head()
    await peer.send(CHUNKED + b"2\r\nok\r\n")
    await peer.gone()


class Silent:
    """A body that never says anything."""

    def __init__(self) -> None:
        self.state = "new"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.state = "begun"
        try:
            await trio.sleep_forever()
            yield b""
        finally:
            self.state = "closed"


class Watched:
    """Two pieces with a pause between; knows whether it was closed after it was begun."""

    def __init__(self) -> None:
        self.state = "new"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.state = "begun"
        try:
            yield b"one"
            await trio.lowlevel.checkpoint()
            yield b"two"
        finally:
            self.state = "closed"


# Faults of the body's iterator.


class Mishap(Exception):
    pass


async def test_a_body_that_fails_before_the_answer(serve: Any) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise Mishap

    async def script(peer: Any) -> None:
        await peer.head()
        assert await peer.gone() == b"1\r\nx\r\n", "cut, not ended as if whole"

    async with serve(script) as server, TrickleTransport() as transport:
        with pytest.raises(Mishap):
            await transport.handle_async_request(
                httpx.Request("POST", server.url, content=failing())
            )
        assert bodies_at_work(transport) == transport.statistics().open_connections == 0


async def test_a_body_that_fails_during_the_answer(serve: Any) -> None:
    fail = trio.Event()

    async def failing() -> AsyncIterator[bytes]:
        await fail.wait()
        raise Mishap
        yield b""

    async with serve(head_then_silence) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=failing())
        response = await transport.handle_async_request(request)
        pieces = response.stream.__aiter__()  # type: ignore[union-attr]
        assert await anext(pieces) == b"ok"
        fail.set()
        with pytest.raises(Mishap):
            await anext(pieces)
        assert transport.statistics().open_connections == 0
        await response.aclose()


async def test_a_body_that_fails_as_it_is_stopped_harms_nobody(serve: Any) -> None:
    async def failing() -> AsyncIterator[bytes]:
        try:
            await trio.sleep_forever()
            yield b""
        finally:
            raise Mishap

    async with serve(head_then_silence) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=failing())
        response = await transport.handle_async_request(request)
        await response.aclose()
        assert bodies_at_work(transport) == 0


async def test_a_body_of_the_wrong_type(serve: Any) -> None:
    async def text() -> AsyncIterator[Any]:
        yield "text"

    async with serve(silence) as server, TrickleTransport() as transport:
        with pytest.raises(TypeError):
            await transport.handle_async_request(httpx.Request("POST", server.url, content=text()))


async def test_an_iterator_without_aclose(serve: Any) -> None:
    class Plain(httpx.AsyncByteStream):
        def __init__(self) -> None:
            self.left = [b"a", b"b"]
            self.closed = 0

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

        async def aclose(self) -> None:
            self.closed += 1

    async def script(peer: Any) -> None:
        assert (await peer.request()).endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        await peer.send(OK)

    body = Plain()
    async with serve(script) as server, TrickleTransport() as transport:
        headers = {"Host": "relay", "Transfer-Encoding": "chunked"}
        request = httpx.Request("POST", server.url, stream=body, headers=headers)
        response = await transport.handle_async_request(request)
        assert await response.aread() == b"ok"
        assert body.closed


async def test_a_users_own_wrapper_is_respected(serve: Any) -> None:
    class Shout(httpx.AsyncByteStream):
        def __init__(self, stream: Watched) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._stream:
                yield piece.upper()

    async def script(peer: Any) -> None:
        assert b"ONE\r\n3\r\nTWO" in await peer.request()
        await peer.send(OK)

    headers = {"Host": "relay", "Transfer-Encoding": "chunked"}
    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, stream=Shout(Watched()), headers=headers)
        response = await transport.handle_async_request(request)
        assert await response.aread() == b"ok"


async def test_a_generator_is_not_sent_twice_and_an_iterable_is(serve: Any) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"once"

    async def script(peer: Any) -> None:
        assert b"chunked" in await peer.request()
        await peer.send(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
        )
        assert b"3\r\none\r\n3\r\ntwo" in await peer.request()
        await peer.send(OK.replace(b"Content", b"Connection: close\r\nContent"))

    async with (
        serve(script) as server,
        httpx.AsyncClient(transport=TrickleTransport(), follow_redirects=True) as client,
    ):
        assert (await client.post(server.url, content=Watched())).text == "ok"
        with pytest.raises(httpx.StreamConsumed):
            await client.post(server.url, content=once())


# Closing.


async def test_closing_an_unfinished_answer_closes_the_connection(serve: Any) -> None:
    async with serve(head_then_silence) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        await response.aclose()
        await response.stream.aclose()  # type: ignore[union-attr]
        assert transport.statistics().open_connections == 0
        with pytest.raises(httpx.ReadError, match="before its end"):
            await anext(response.stream.__aiter__())  # type: ignore[union-attr]


async def test_closing_wakes_a_reader_in_another_task(serve: Any) -> None:
    async def read(response: httpx.Response) -> None:
        with pytest.raises(httpx.ReadError):
            async for _ in response.stream:  # type: ignore[union-attr]
                pass

    async with serve(head_then_silence) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, response)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await response.aclose()


async def test_closing_waits_for_the_body_and_can_be_cancelled(
    serve: Any, patient_clock: Any
) -> None:
    left = trio.Event()

    async def lingering() -> AsyncIterator[bytes]:
        try:
            await trio.sleep_forever()
            yield b""
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)
            left.set()

    async with serve(head_then_silence, patience=1e6) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=lingering())
        response = await transport.handle_async_request(request)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await response.stream.aclose()  # type: ignore[union-attr]
        assert transport.statistics().open_connections == 0, "the socket did not wait"
        assert not left.is_set()
        await response.stream.aclose()  # type: ignore[union-attr]
        assert left.is_set()


async def test_a_body_that_does_not_end_after_its_end_costs_the_connection(
    serve: Any, patient_clock: Any
) -> None:
    class Lingering(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"

        async def aclose(self) -> None:
            await trio.sleep_forever()

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK)
        assert await peer.gone() == b""

    headers = {"Host": "relay", "Transfer-Encoding": "chunked"}
    async with serve(script, patience=1e6) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, stream=Lingering(), headers=headers)
        response = await transport.handle_async_request(request)
        assert await response.aread() == b"ok"
        await response.aclose()
        assert bodies_at_work(transport) == transport.statistics().open_connections == 0


async def test_a_body_may_close_its_own_answer(serve: Any) -> None:
    response: httpx.Response | None = None
    answered = trio.Event()

    async def suicidal() -> AsyncIterator[bytes]:
        await answered.wait()
        assert response is not None
        await response.aclose()
        yield b""

    async with serve(head_then_silence) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=suicidal())
        response = await transport.handle_async_request(request)
        answered.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert bodies_at_work(transport) == transport.statistics().open_connections == 0


async def test_a_cancelled_read_loses_nothing(serve: Any, patient_clock: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        for _ in range(3):
            await trio.sleep(10)
            await peer.send(b"4\r\n")
            await trio.sleep(10)
            await peer.send(b"frog\r\n")
        await peer.send(b"0\r\n\r\n")

    async with serve(script, patience=1e6) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        pieces = response.stream.__aiter__()  # type: ignore[union-attr]
        heard = b""
        while not heard.endswith(b"frog" * 3):
            with trio.move_on_after(3):
                heard += await anext(pieces)
        assert [piece async for piece in pieces] == []
        assert transport.statistics().idle_connections == 1


# The transport's own life.


async def test_not_entered_and_left() -> None:
    transport = TrickleTransport()
    request = httpx.Request("GET", "http://127.0.0.1:1/")
    with pytest.raises(RuntimeError, match="async with"):
        await transport.handle_async_request(request)
    async with transport:
        with pytest.raises(RuntimeError, match="once"):
            await transport.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await transport.handle_async_request(request)


async def test_closed_without_being_left(serve: Any) -> None:
    async with serve(silence) as server, TrickleTransport() as transport:
        await transport.aclose()
        with pytest.raises(RuntimeError, match="async with"):
            await transport.handle_async_request(httpx.Request("GET", server.url))


async def test_it_can_be_entered_again(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(OK)

    transport = TrickleTransport()
    async with serve(script) as server:
        for _ in range(2):
            async with transport:
                request = httpx.Request("GET", server.url)
                response = await transport.handle_async_request(request)
                assert await response.aread() == b"ok"


async def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="idle_limit"):
        TrickleTransport(idle_limit=-1)
    with pytest.raises(ValueError, match="idle_seconds"):
        TrickleTransport(idle_seconds=-1)


async def test_an_error_inside_the_block_comes_out_as_it_is(serve: Any) -> None:
    body = Silent()

    async with serve(head_then_silence) as server:
        with pytest.raises(Mishap):
            async with TrickleTransport() as transport:
                request = httpx.Request("POST", server.url, content=body)
                await transport.handle_async_request(request)
                await trio.testing.wait_all_tasks_blocked()
                raise Mishap
        assert body.state == "closed"


async def test_an_error_inside_the_block_survives_a_cancelled_scope(serve: Any) -> None:
    async with serve(head_then_silence) as server:
        with pytest.raises(Mishap), trio.CancelScope() as scope:
            async with TrickleTransport() as transport:
                request = httpx.Request("POST", server.url, content=Silent())
                await transport.handle_async_request(request)
                scope.cancel()
                raise Mishap


async def test_cancelling_the_block_is_not_swallowed(serve: Any) -> None:
    async with serve(head_then_silence) as server:
        with trio.CancelScope() as scope:
            async with TrickleTransport() as transport:
                request = httpx.Request("POST", server.url, content=Silent())
                await transport.handle_async_request(request)
                scope.cancel()
            pytest.fail("went on in a cancelled scope")
        assert scope.cancelled_caught


@pytest.mark.parametrize("answered", [False, True])
async def test_leaving_wakes_whoever_still_waits(serve: Any, answered: bool) -> None:
    async def wait(transport: TrickleTransport, url: str) -> None:
        with pytest.raises(httpx.ReadError, match="this side"):
            response = await transport.handle_async_request(httpx.Request("GET", url))
            async for _ in response.stream:  # type: ignore[union-attr]
                pass

    script = head_then_silence if answered else silence
    async with serve(script) as server, trio.open_nursery() as nursery:
        async with TrickleTransport() as transport:
            nursery.start_soon(wait, transport, server.url)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert transport.statistics().open_connections == 0


@pytest.mark.parametrize("content", [None, "body"])
async def test_leaving_while_it_connects(serve: Any, content: str | None) -> None:
    connecting, go_on = trio.Event(), trio.Event()

    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            connecting.set()
            await go_on.wait()
            return [(2, 1, 6, "", ("127.0.0.1", httpx.URL(server.url).port))]

        async def getnameinfo(self, *_: Any) -> Any:
            raise NotImplementedError

    async def wait(transport: TrickleTransport) -> None:
        body = Watched() if content else None
        request = httpx.Request("POST", "http://relay.example/", content=body)
        with pytest.raises(RuntimeError, match="async with"):
            await transport.handle_async_request(request)

    trio.socket.set_custom_hostname_resolver(Resolver())
    async with serve(silence) as server, trio.open_nursery() as nursery:
        async with TrickleTransport() as transport:
            nursery.start_soon(wait, transport)
            await connecting.wait()
        go_on.set()
    assert transport.statistics().open_connections == 0


async def test_what_has_come_can_be_read_after_leaving(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        await peer.gone()

    transport = TrickleTransport()
    async with serve(script) as server:
        async with transport:
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
        assert await response.aread() == b"ab"
        async with transport:
            assert transport.statistics().open_connections == 0
            assert transport.statistics().idle_connections == 0


async def test_a_body_whose_nursery_is_cancelled_tells_the_reader(serve: Any) -> None:
    async def wait(transport: TrickleTransport, url: str) -> None:
        with pytest.raises(httpx.ReadError):
            await transport.handle_async_request(httpx.Request("POST", url, content=Silent()))

    async with serve(silence) as server, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with TrickleTransport() as transport:
                nursery.start_soon(wait, transport, server.url)
                await trio.testing.wait_all_tasks_blocked(0.01)
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert not nursery.child_tasks


# Cancelling at every point.


async def exchange(transport: TrickleTransport, url: str, body: Watched) -> None:
    request = httpx.Request("POST", url, content=body)
    response = await transport.handle_async_request(request)
    try:
        assert [piece async for piece in response.stream] == [b"a", b"b"]  # type: ignore[union-attr]
    finally:
        await response.aclose()


async def cancel_after(ticks: int, scope: trio.CancelScope, finished: trio.Event) -> None:
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
        if finished.is_set():
            return
    scope.cancel()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("used", [False, True])
async def test_cancelling_anywhere_leaves_nothing(
    serve: Any, client_tls: Any, server_tls: Any, tls: bool, used: bool
) -> None:
    async def script(peer: Any) -> None:
        while True:
            await peer.head()
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.until(b"two\r\n")
            await peer.send(CHUNKED + b"1\r\na\r\n")
            await peer.until(b"0\r\n\r\n")
            await peer.send(b"1\r\nb\r\n0\r\n\r\n")

    async def cancelled(ticks: int) -> bool:
        body, finished = Watched(), trio.Event()
        async with TrickleTransport(ssl_context=client_tls) as transport:
            if used:
                await exchange(transport, server.url, Watched())
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_after, ticks, scope, finished)
                    await exchange(transport, server.url, body)
                    finished.set()
            await trio.testing.wait_all_tasks_blocked()
            statistics = transport.statistics()
            assert statistics.open_connections == statistics.idle_connections
            assert bodies_at_work(transport) == 0
            assert body.state != "begun"
            await exchange(transport, server.url, Watched())
        return scope.cancelled_caught

    async with serve(script, context=server_tls if tls else None) as server:
        outcomes = [await cancelled(ticks) for ticks in range(50) for _ in range(2)]
        assert outcomes.count(True) > 10
        assert outcomes.count(False) > 10


# Full pipes.


async def test_a_server_that_does_not_read_holds_the_sender(serve: Any) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 64 * 1024
            yield bytes(64 * 1024)

    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep_forever()

    async with (
        serve(script) as server,
        TrickleTransport() as transport,
        trio.open_nursery() as nursery,
    ):
        request = httpx.Request("POST", server.url, content=endless())
        nursery.start_soon(transport.handle_async_request, request)
        await trio.testing.wait_all_tasks_blocked(0.05)
        held = taken
        assert 0 < held < 20_000_000, "what the kernel's buffers take"
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert taken == held
        nursery.cancel_scope.cancel()


async def test_a_user_who_does_not_read_holds_the_server(serve: Any) -> None:
    sent = 0

    async def script(peer: Any) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent += 65536

    async with serve(script) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        await trio.testing.wait_all_tasks_blocked(0.05)
        held = sent
        assert held < 20_000_000, "what the kernel's buffers take"
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sent == held
        read = 0
        async for piece in response.stream:  # type: ignore[union-attr]
            read += len(piece)
            if read > held + 5_000_000:
                break
        assert sent > held
        await response.aclose()
