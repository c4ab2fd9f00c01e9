"""What goes over the wire, and when: requests, answers, early answers, interim answers, timeouts."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from trickle_trio.transport import TrickleTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 16\r\n\r\nStream not found"
)
TERMINATED = (
    b"HTTP/1.1 200 OK\r\nLp-Trickle-Closed: terminated\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)
BROKEN = b"HTTP/1.1 500 Oops\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


class Body:
    """A request's body that says nothing until it is fed, and knows what became of it."""

    def __init__(self) -> None:
        self.feed, self._pieces = trio.open_memory_channel[bytes](100)
        self.begun = trio.Event()
        self.closed = trio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun.set()
        try:
            async for piece in self._pieces:
                yield piece
        finally:
            self.closed.set()


async def read(response: httpx.Response) -> bytes:
    return b"".join([piece async for piece in response.stream])  # type: ignore[union-attr]


async def test_a_request_through_httpx(serve: Any) -> None:
    async def script(peer: Any) -> None:
        assert (await peer.head()).startswith(b"GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")
        await peer.send(b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nhello")

    async with serve(script) as server, httpx.AsyncClient(transport=TrickleTransport()) as client:
        response = await client.get(f"{server.url}/a/b?c=d")
        assert (response.status_code, response.reason_phrase) == (200, "Fine")
        assert (response.http_version, response.headers["x-y"]) == ("HTTP/1.1", "z")
        assert response.text == "hello"


async def test_a_request_without_a_client(serve: Any) -> None:
    async def script(peer: Any) -> None:
        assert (await peer.head()).startswith(b"DELETE /channel HTTP/1.1\r\n")
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("DELETE", f"{server.url}/channel")
        response = await transport.handle_async_request(request)
        assert response.request is request
        assert await response.aread() == b"ok"
        await response.aclose()


async def test_redirects_of_the_client_reuse_the_connection(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 2\r\n\r\n..")
        assert (await peer.head()).startswith(b"GET /there")
        await peer.send(OK)

    async with serve(script) as server, httpx.AsyncClient(transport=TrickleTransport()) as client:
        response = await client.get(server.url, follow_redirects=True)
        assert (response.text, server.connections) == ("ok", 1)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_keep_the_connection(
    serve: Any, method: str, answer: bytes
) -> None:
    async def script(peer: Any) -> None:
        for _ in range(2):
            await peer.head()
            await peer.send(answer)

    async with serve(script) as server, TrickleTransport() as transport:
        for _ in range(2):
            response = await transport.handle_async_request(httpx.Request(method, server.url))
            assert await read(response) == b""
            await response.aclose()
        assert server.connections == 1


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 1_000_000])
async def test_bodies_of_known_length(serve: Any, size: int) -> None:
    async def script(peer: Any) -> None:
        for _ in range(2):
            head = await peer.head()
            assert b"Content-Length: %d\r\n" % size in head
            assert await peer.exactly(size) == b"x" * size
            await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        for _ in range(2):
            request = httpx.Request("POST", server.url, content=b"x" * size)
            response = await transport.handle_async_request(request)
            assert await read(response) == b"ok"
            await response.aclose()
        assert (server.connections, transport.statistics().idle_connections) == (1, 1)


async def test_an_iterated_body_of_declared_length(serve: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b""
        yield b"cd"

    async def script(peer: Any) -> None:
        head = await peer.head()
        assert b"ontent-Length: 4" in head
        assert b"chunked" not in head
        assert await peer.exactly(4) == b"abcd"
        await peer.send(OK)
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request(
            "POST", server.url, content=pieces(), headers={"Content-Length": "4"}
        )
        response = await transport.handle_async_request(request)
        assert await read(response) == b"ok"
        await response.aclose()
        assert transport.statistics().idle_connections == 1


async def test_pieces_leave_as_http_chunks_as_they_come(serve: Any) -> None:
    body = Body()

    async def script(peer: Any) -> None:
        assert b"ransfer-Encoding: chunked" in await peer.head()
        for piece in (b"one", b"two"):
            await body.feed.send(piece)
            assert await peer.until(b"\r\n" + piece + b"\r\n") == b"3\r\n" + piece + b"\r\n"
        body.feed.close()
        assert await peer.exactly(5) == b"0\r\n\r\n"
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=body)
        assert await read(await transport.handle_async_request(request)) == b"ok"
        assert body.closed.is_set()
        assert transport.statistics().idle_connections == 1


async def test_an_empty_segment(serve: Any) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        return
        yield

    async def script(peer: Any) -> None:
        await peer.head()
        assert await peer.exactly(5) == b"0\r\n\r\n"
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=nothing())
        assert await read(await transport.handle_async_request(request)) == b"ok"


async def test_pieces_of_the_answer_come_as_they_arrive(serve: Any) -> None:
    go_on = trio.Event()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n"
        )
        await go_on.wait()
        await peer.send(b"3\r\ndef\r\n0\r\n\r\n")

    async with serve(script) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        pieces = response.stream.__aiter__()  # type: ignore[union-attr]
        assert [await anext(pieces), await anext(pieces)] == [b"a", b"bc"]
        go_on.set()
        assert [piece async for piece in pieces] == [b"def"]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_answer_without_length_ends_with_the_connection(
    serve: Any, version: bytes
) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/" + version + b" 200 OK\r\nConnection: close\r\n\r\nto the ")
        await peer.send(b"end")

    async with serve(script) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        assert await read(response) == b"to the end"
        assert transport.statistics().open_connections == 0


# Both directions at once.


async def test_a_conversation(serve: Any) -> None:
    body = Body()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (chunk := await peer.until(b"\r\n") + await peer.until(b"\r\n")) != b"0\r\n\r\n":
            await peer.send(chunk)
        await peer.send(chunk)
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=body)
        response = await transport.handle_async_request(request)
        pieces = response.stream.__aiter__()  # type: ignore[union-attr]
        for word in (b"one", b"two", b"three"):
            await body.feed.send(word)
            assert await anext(pieces) == word
        assert not body.closed.is_set()
        body.feed.close()
        assert [piece async for piece in pieces] == []
        await response.aclose()
        assert transport.statistics().idle_connections == 1


@pytest.mark.parametrize("answer", [NOT_FOUND, TERMINATED, BROKEN])
@pytest.mark.parametrize("tls", [False, True])
async def test_an_early_answer_stops_a_silent_body(
    serve: Any, client_tls: Any, server_tls: Any, answer: bytes, tls: bool
) -> None:
    body = Body()

    async def script(peer: Any) -> None:
        await peer.head()
        await body.begun.wait()
        await peer.send(answer)
        assert await peer.gone() == b"", "not even the end of the body"

    async with (
        serve(script, context=server_tls if tls else None) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        request = httpx.Request("POST", server.url, content=body)
        response = await transport.handle_async_request(request)
        assert response.status_code == int(answer[9:12])
        await body.closed.wait()
        assert await read(response) in (b"", b"Stream not found")
        await response.aclose()
        assert transport.statistics().open_connections == 0


async def test_an_early_answer_through_the_client(serve: Any) -> None:
    body = Body()

    async def script(peer: Any) -> None:
        await peer.head()
        await body.feed.send(b"first")
        await peer.until(b"first\r\n")
        await peer.send(NOT_FOUND)

    async with serve(script) as server, httpx.AsyncClient(transport=TrickleTransport()) as client:
        response = await client.post(server.url, content=body)
        assert (response.status_code, response.text) == (404, "Stream not found")
        assert body.closed.is_set()


@pytest.mark.parametrize("tls", [False, True])
async def test_the_rest_of_a_refusal_is_read_though_the_sender_was_stuck(
    serve: Any, client_tls: Any, server_tls: Any, tls: bool
) -> None:
    async def enormous() -> AsyncIterator[bytes]:
        yield bytes(16 << 20)  # the kernel's buffers take less

    head_read = trio.Event()

    async def script(peer: Any) -> None:
        await peer.head()
        await trio.testing.wait_all_tasks_blocked(0.01)  # until the sender is stuck
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\n\r\n")
        await head_read.wait()
        await peer.send(b"no more")
        await trio.sleep_forever()

    async with (
        serve(script, context=server_tls if tls else None) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        request = httpx.Request("POST", server.url, content=enormous())
        response = await transport.handle_async_request(request)
        assert response.status_code == 413
        await trio.testing.wait_all_tasks_blocked(0.01)
        head_read.set()
        assert await read(response) == b"no more"
        await response.aclose()
        assert transport.statistics().open_connections == 0


@pytest.mark.parametrize("tls", [False, True])
async def test_a_refused_body_stops_though_it_never_pauses(
    serve: Any, client_tls: Any, server_tls: Any, tls: bool
) -> None:
    closed = trio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
        finally:
            closed.set()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.exactly(1)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.gone)
            await closed.wait()
            await peer.send(b"no more")

    async with (
        serve(script, context=server_tls if tls else None) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        request = httpx.Request("POST", server.url, content=endless())
        response = await transport.handle_async_request(request)
        assert await read(response) == b"no more"
        assert transport.statistics().open_connections == 0


async def test_a_failed_write_does_not_lose_the_answer(serve: Any) -> None:
    body, closed = Body(), trio.Event()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await body.feed.send(b"what the server never reads")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.send(b"7\r\nenough!\r\n0\r\n\r\n")
        await peer.stream.aclose()
        closed.set()

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=body)
        response = await transport.handle_async_request(request)
        await closed.wait()
        while not body.closed.is_set():
            body.feed.send_nowait(b"more")
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await read(response) == b"enough!"
        assert transport.statistics().open_connections == 0


async def test_an_answer_is_heard_though_the_peer_reads_no_more(serve: Any) -> None:
    """The server answers and closes with unread bytes, which resets the connection under the sender."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(NOT_FOUND)

    async with serve(script) as server, TrickleTransport() as transport:
        for _ in range(20):
            request = httpx.Request("POST", server.url, content=endless())
            response = await transport.handle_async_request(request)
            assert (response.status_code, await read(response)) == (404, b"Stream not found")
            await response.aclose()
        assert transport.statistics().open_connections == 0


async def test_an_answer_sent_before_the_head_is_heard(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    async with serve(script) as server, TrickleTransport() as transport:
        for content in (b"x" * 10_000, Body()):
            request = httpx.Request("POST", server.url, content=content)
            response = await transport.handle_async_request(request)
            assert response.status_code == 503
            await response.aclose()


async def test_a_whole_friendly_answer_gives_the_body_a_moment(
    serve: Any, patient_clock: Any
) -> None:
    """The server knows by Content-Length that it has all, before our iterator knows that it is at its end."""
    finish = trio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        await finish.wait()

    async def script(peer: Any) -> None:
        for _ in range(2):
            await peer.head()
            await peer.exactly(2)
            await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        for closes_alone in (True, False):
            request = httpx.Request(
                "POST", server.url, content=pieces(), headers={"Content-Length": "2"}
            )
            response = await transport.handle_async_request(request)
            assert await read(response) == b"ok"
            if closes_alone:
                finish.set()
                await trio.testing.wait_all_tasks_blocked()
                assert transport.statistics().idle_connections == 1
            await response.aclose()
            finish = trio.Event()
            assert transport.statistics().idle_connections == (1 if closes_alone else 0)


# Interim answers.


async def test_any_number_of_interim_answers(serve: Any) -> None:
    body = Body()

    async def script(peer: Any) -> None:
        await peer.head()
        for _ in range(50):
            await peer.send(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
            )
        await body.feed.send(b"x")
        await peer.until(b"x\r\n")
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 500)
        body.feed.close()
        await peer.until(b"0\r\n\r\n")
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=body)
        response = await transport.handle_async_request(request)
        assert (response.status_code, await read(response)) == (200, b"ok")


async def test_switching_protocols_is_refused(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")

    headers = {"Upgrade": "x", "Connection": "upgrade"}
    async with serve(script) as server, TrickleTransport() as transport:
        with pytest.raises(httpx.RemoteProtocolError, match="switched"):
            await transport.handle_async_request(httpx.Request("GET", server.url, headers=headers))
        assert transport.statistics().open_connections == 0


@pytest.mark.parametrize("content", [b"small", None])
async def test_expect_continue_holds_the_body_back(serve: Any, content: bytes | None) -> None:
    body = Body()
    body.feed.send_nowait(b"small")
    body.feed.close()

    async def script(peer: Any) -> None:
        await peer.head()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not body.begun.is_set()
        assert not peer.buffer
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.until(b"small")
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request(
            "POST", server.url, content=content or body, headers={"Expect": "100-continue"}
        )
        assert await read(await transport.handle_async_request(request)) == b"ok"


async def test_expect_continue_does_not_wait_for_ever(serve: Any, patient_clock: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.exactly(5)
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request(
            "POST", server.url, content=b"hello", headers={"Expect": "100-continue"}
        )
        assert await read(await transport.handle_async_request(request)) == b"ok"


async def test_a_body_refused_by_expectation_is_never_begun(serve: Any) -> None:
    body = Body()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport() as transport:
        for _ in range(20):  # who is first, the sender or the answer, is the scheduler's dice
            request = httpx.Request(
                "POST", server.url, content=body, headers={"Expect": "100-continue"}
            )
            response = await transport.handle_async_request(request)
            assert response.status_code == 417
            await response.aclose()
        assert not body.begun.is_set()


# Timeouts, as httpx's users know them.


def timeouts(**seconds: float) -> dict[str, Any]:
    return {"timeout": seconds}


async def test_without_timeouts_an_answer_may_take_for_ever(serve: Any, patient_clock: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep(80_000)
        await peer.send(OK)

    async with serve(script, patience=1e6) as server, TrickleTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        assert await read(response) == b"ok"


async def test_the_clients_read_timeout_holds_for_the_head(serve: Any, patient_clock: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.gone()

    async with (
        serve(script, patience=1e6) as server,
        httpx.AsyncClient(transport=TrickleTransport()) as client,
    ):
        began = trio.current_time()
        with pytest.raises(httpx.ReadTimeout) as caught:
            await client.get(server.url)
        assert trio.current_time() - began == pytest.approx(5, abs=0.5)
        assert caught.value.request.url == server.url


async def test_the_read_timeout_holds_for_each_wait_in_the_body(
    serve: Any, patient_clock: Any
) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for _ in range(3):
            await trio.sleep(4)
            await peer.send(b"x")
        await peer.gone()

    async with serve(script, patience=1e6) as server, TrickleTransport() as transport:
        request = httpx.Request("GET", server.url, extensions=timeouts(read=5))
        response = await transport.handle_async_request(request)
        pieces = response.stream.__aiter__()  # type: ignore[union-attr]
        assert [await anext(pieces) for _ in range(3)] == [b"x"] * 3
        with pytest.raises(httpx.ReadTimeout):
            await anext(pieces)
        assert transport.statistics().open_connections == 0


async def test_the_read_clock_stands_while_the_body_is_sent(serve: Any, patient_clock: Any) -> None:
    ended = -1.0

    async def slow() -> AsyncIterator[bytes]:
        nonlocal ended
        for _ in range(5):
            yield b"x"
            await trio.sleep(60)
        ended = trio.current_time()

    async def script(peer: Any) -> None:
        await peer.gone()

    async with serve(script, patience=1e6) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=slow(), extensions=timeouts(read=5))
        with pytest.raises(httpx.ReadTimeout):
            await transport.handle_async_request(request)
        assert trio.current_time() - ended == pytest.approx(5, abs=0.5)


async def test_the_write_timeout_holds_for_each_write(serve: Any, patient_clock: Any) -> None:
    closed = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed = True

    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep_forever()

    async with serve(script, patience=1e6) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=endless(), extensions=timeouts(write=3))
        with pytest.raises(httpx.WriteTimeout) as caught:
            await transport.handle_async_request(request)
        assert caught.value.request is request
        assert closed
        assert transport.statistics().open_connections == 0


async def test_the_connect_timeout_covers_tls(
    serve: Any, client_tls: Any, patient_clock: Any
) -> None:
    async def script(peer: Any) -> None:
        await peer.gone()

    async with (
        serve(script, patience=1e6) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        url = server.url.replace("http:", "https:")
        with pytest.raises(httpx.ConnectTimeout):
            await transport.handle_async_request(
                httpx.Request("GET", url, extensions=timeouts(connect=7))
            )
        assert trio.current_time() == pytest.approx(7, abs=0.5)
        gc.collect()  # a socket left open would warn, and warnings are errors
