"""Requests of which all but the target is known: what they are on the wire, and who else takes them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from trickle_trio.transport import BareRequest, PushedBody, RequestKind, TrickleTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO_BODY = httpx.ByteStream(b"")
TIMEOUT = httpx.Timeout(connect=5, read=None, write=5, pool=None)


def kind_of(method: str, url: str, *, has_body: bool = False, **headers: str) -> RequestKind:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestKind.of(method, httpx.URL(url), named, TIMEOUT, has_body=has_body)


async def test_two_of_a_kind_on_one_connection(serve: Any) -> None:
    heads = []

    async def script(peer: Any) -> None:
        for _ in range(2):
            heads.append(await peer.head())
            await peer.send(OK)
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport() as transport:
        kind = kind_of("GET", f"{server.url}/a", x_y="z")
        for target in (b"/a/1", b"/a/2"):
            exchange = await transport.exchange(BareRequest(kind, target, NO_BODY))
            assert exchange.head.status_code == 200
            assert [piece async for piece in exchange] == [b"ok"]
            await exchange.aclose()
        assert transport.statistics().reused == 1
    host = server.url.removeprefix("http://").encode()
    assert heads == [
        b"GET /a/%d HTTP/1.1\r\nhost: %b\r\nx-y: z\r\n\r\n" % (number, host) for number in (1, 2)
    ]


async def test_a_post_without_a_body_has_nothing_behind_its_head(serve: Any) -> None:
    async def script(peer: Any) -> None:
        assert b"content-length: 0" in await peer.head()
        await peer.send(OK)
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport() as transport:
        request = BareRequest(kind_of("POST", server.url), b"/a", NO_BODY)
        exchange = await transport.exchange(request)
        assert exchange.head.status_code == 200
        await exchange.aclose()


async def test_a_body_goes_out_in_chunks(serve: Any) -> None:
    async def script(peer: Any) -> None:
        assert b"transfer-encoding: chunked" in await peer.head()
        expected = b"3\r\none\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
        assert await peer.exactly(len(expected)) == expected
        await peer.send(OK)

    async with (
        serve(script) as server,
        TrickleTransport() as transport,
        trio.open_nursery() as tasks,
    ):
        body = PushedBody()

        async def push() -> None:
            await body.send(b"one")
            await body.send(b"x" * 16)
            body.end()

        tasks.start_soon(push)
        kind = kind_of("POST", server.url, has_body=True)
        exchange = await transport.exchange(BareRequest(kind, b"/a", body))
        assert exchange.response().status_code == 200
        await exchange.aclose()


async def test_a_body_that_was_refused_takes_no_further_chunk(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport() as transport:
        body = PushedBody()
        kind = kind_of("POST", server.url, has_body=True)
        exchange = await transport.exchange(BareRequest(kind, b"/a", body))
        assert exchange.head.status_code == 404
        with pytest.raises(trio.BrokenResourceError):
            await body.send(b"late")
        await exchange.aclose()


def test_a_kind_that_http_cannot_say_is_refused() -> None:
    with pytest.raises(Exception, match="Illegal header"):
        kind_of("GET", "http://x/a", x="one\r\ntwo")
