"""Connections: which are used again, which are not, what goes wrong with them and what that is called; TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import trio
import trustme

from trickle_trio.transport import TrickleTransport, default_ssl_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def answer_all(peer: Any) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


async def get(transport: TrickleTransport, url: str, **options: Any) -> bytes:
    response = await transport.handle_async_request(httpx.Request("GET", url, **options))
    pieces = [piece async for piece in response.stream]  # type: ignore[union-attr]
    await response.aclose()
    return b"".join(pieces)


# Use and use again.


async def test_a_hundred_requests_on_one_connection(serve: Any) -> None:
    async def piece() -> AsyncIterator[bytes]:
        yield b"piece"

    async with serve(answer_all) as server, TrickleTransport() as transport:
        for number in range(100):
            assert await get(transport, server.url, content=piece() if number % 2 else b"") == b"ok"
        statistics = transport.statistics()
        assert server.connections == 1
        assert (statistics.requests, statistics.reused) == (100, 99)
        assert (statistics.open_connections, statistics.idle_connections) == (1, 1)


async def test_concurrent_requests_get_their_own_connections(serve: Any) -> None:
    everybody = trio.Event()
    waiting = 0

    async def script(peer: Any) -> None:
        nonlocal waiting
        await peer.head()
        waiting += 1
        if waiting == 8:
            everybody.set()
        await everybody.wait()
        await peer.send(OK)
        assert await peer.gone() == b""

    async with serve(script) as server, TrickleTransport(idle_limit=3) as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(get, transport, server.url)
        assert server.connections == 8
        assert transport.statistics().open_connections == 3, "the idle list is short"
        assert transport.statistics().idle_connections == 3


async def test_the_latest_idle_connection_is_used_first(serve: Any) -> None:
    served: list[int] = []
    both = trio.Event()

    async def script(peer: Any) -> None:
        while True:
            await peer.head()
            served.append(peer.number)
            if len(served) == 2:
                both.set()
            await both.wait()
            await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, transport, server.url)
            nursery.start_soon(get, transport, server.url)
        for _ in range(3):
            await get(transport, server.url)
        assert len(set(served[2:])) == 1
        assert transport.statistics().idle_connections == 2


async def test_each_origin_has_its_own_connections(serve: Any) -> None:
    async with (
        serve(answer_all) as one,
        serve(answer_all) as other,
        serve(answer_all) as third,
        TrickleTransport(idle_limit=2) as transport,
    ):
        for _ in range(3):
            await get(transport, one.url)
            await get(transport, other.url)
        assert (one.connections, other.connections) == (1, 1)
        await get(transport, third.url)
        assert transport.statistics().open_connections == 2, "the oldest gave way"
        await get(transport, one.url)
        assert one.connections == 2


async def test_an_idle_connection_grows_old(serve: Any, patient_clock: Any) -> None:
    async with (
        serve(answer_all, patience=1e6) as server,
        TrickleTransport(idle_seconds=30) as transport,
    ):
        await get(transport, server.url)
        await trio.sleep(29)
        await get(transport, server.url)
        assert server.connections == 1
        await trio.sleep(31)
        await get(transport, server.url)
        assert server.connections == 2
        assert transport.statistics().open_connections == 1


async def test_no_idle_connections_if_none_are_wanted(serve: Any) -> None:
    async with serve(answer_all) as server, TrickleTransport(idle_limit=0) as transport:
        for _ in range(2):
            await get(transport, server.url)
        assert (server.connections, transport.statistics().open_connections) == (2, 0)


@pytest.mark.parametrize("parting", [b"", b"HTTP/1.1 408 Too Slow\r\n\r\n"])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_that_ended_while_idle_is_not_used(
    serve: Any, client_tls: Any, server_tls: Any, parting: bytes, tls: bool
) -> None:
    over = trio.Event()

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK)
        if parting:
            await trio.testing.wait_all_tasks_blocked(0.01)
            await peer.send(parting)
        over.set()

    async def once() -> AsyncIterator[bytes]:
        yield b"this body cannot be had twice"

    async with (
        serve(script, context=server_tls if tls else None) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        for _ in range(3):
            assert await get(transport, server.url, content=once()) == b"ok"
            await over.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            over = trio.Event()
        assert (server.connections, transport.statistics().reused) == (3, 0)


async def test_bytes_after_the_answer_spoil_the_connection(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await peer.gone()

    async with serve(script) as server, TrickleTransport() as transport:
        assert await get(transport, server.url) == b"ok"
        assert transport.statistics().open_connections == 0
        assert await get(transport, server.url) == b"ok"


# The race: the server closes an idle connection while the next request is on its way.


def dying(deaths: int) -> Any:
    """Serve one request a connection; close at the second one. Die at once on the first ``deaths`` after it."""

    async def script(peer: Any) -> None:
        if not 0 < peer.number <= deaths:
            await peer.request()
            await peer.send(OK)
        head = await peer.head()
        if b"PUT" in head:
            await peer.exactly(
                4
            )  # a body that has not been begun when the server dies may be sent again
        if peer.number % 2:
            peer.reset()

    return script


async def test_a_dead_used_connection_is_replaced_once(serve: Any) -> None:
    async with serve(dying(0)) as server, TrickleTransport() as transport:
        for _ in range(6):
            assert await get(transport, server.url) == b"ok"
        assert server.connections == 6


async def test_a_dead_fresh_connection_is_not_replaced(serve: Any) -> None:
    async with serve(dying(1)) as server, TrickleTransport() as transport:
        await get(transport, server.url)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await get(transport, server.url)
        assert server.connections == 2


@pytest.mark.parametrize(
    ("method", "content"),
    [("PUT", "iterator"), ("PUT", b"small"), ("PUT", b"x" * 20_000), ("POST", b"")],
    ids=["iterator", "small", "large", "no body, but not idempotent"],
)
async def test_what_may_have_been_seen_is_not_sent_again(
    serve: Any, method: str, content: Any
) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"once"

    async with serve(dying(0)) as server, TrickleTransport() as transport:
        await get(transport, server.url)
        if content == "iterator":
            content = once()
        request = httpx.Request(method, server.url, content=content)
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            await transport.handle_async_request(request)
        assert server.connections == 1
        assert transport.statistics().open_connections == 0


async def test_what_cannot_have_been_acted_upon_is_sent_again(serve: Any) -> None:
    """The server dies on the head of a POST whose body was held back."""

    async def once() -> AsyncIterator[bytes]:
        yield b"once"

    async def script(peer: Any) -> None:
        if peer.number == 0:
            await peer.head()
            await peer.send(OK)
            await peer.head()
            return
        await peer.head()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert b"once" in await peer.until(b"0\r\n\r\n")
        await peer.send(OK)

    async with serve(script) as server, TrickleTransport() as transport:
        await get(transport, server.url)
        request = httpx.Request(
            "POST", server.url, content=once(), headers={"Expect": "100-continue"}
        )
        response = await transport.handle_async_request(request)
        assert (response.status_code, server.connections) == (200, 2)


async def test_a_used_connection_that_began_to_answer_is_not_replaced(serve: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(OK)
        await peer.head()
        await peer.send(b"HTTP/1.1 100 Con")

    async with serve(script) as server, TrickleTransport() as transport:
        await get(transport, server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await get(transport, server.url)
        assert server.connections == 1


# Faults, and what they are called.


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


async def raised(transport: TrickleTransport, request: httpx.Request) -> httpx.RequestError:
    with pytest.raises(httpx.RequestError) as caught:
        response = await transport.handle_async_request(request)
        async for _ in response.stream:  # type: ignore[union-attr]
            pass
    assert caught.value.request is request
    assert str(caught.value)
    assert transport.statistics().open_connections == 0
    return caught.value


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "before it answered"),
        (b"HTTP/1.1 200 O", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123", "without sending complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "without sending complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12", "without sending"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n", "without sending"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "without sending"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "illegal chunk header"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", ""),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ""),
        (b"HTTP/1.1 two-hundred OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "ontent-"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, "too long"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, "before it answered"),
    ],
    ids=range(15),
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_broken_answers(serve: Any, method: str, answer: bytes, reason: str) -> None:
    body = Silent()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(answer)

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request(method, server.url, content=body if method == "POST" else None)
        error = await raised(transport, request)
        assert isinstance(error, httpx.RemoteProtocolError)
        assert reason in str(error)
        await trio.testing.wait_all_tasks_blocked()
        assert body.state != "begun"


@pytest.mark.parametrize("prefix", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"])
async def test_a_reset_is_a_read_error(serve: Any, prefix: bytes) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(prefix)
        await trio.testing.wait_all_tasks_blocked(0.01)
        peer.reset()

    async with serve(script) as server, TrickleTransport() as transport:
        error = await raised(transport, httpx.Request("GET", server.url))
        assert isinstance(error, httpx.ReadError)


async def test_a_reset_under_a_busy_sender_ends_both_ways(serve: Any) -> None:
    closed = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield bytes(10_000)
        finally:
            closed = True

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.exactly(100_000)
        peer.reset()

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request("POST", server.url, content=endless())
        await raised(transport, request)  # reading or writing: whichever meets it first
        await trio.testing.wait_all_tasks_blocked()
        assert closed


async def test_a_server_that_only_listens_on(serve: Any) -> None:
    """It has closed its direction without an answer, and still reads ours: there will be no answer."""
    body = Silent()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.stream.send_eof()
        assert await peer.gone() == b"", "the body is cut, not ended as if whole"

    async with serve(script) as server, TrickleTransport() as transport:
        error = await raised(transport, httpx.Request("POST", server.url, content=body))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert body.state != "begun"


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with TrickleTransport() as transport:
            error = await raised(transport, httpx.Request("GET", url))
            assert isinstance(error, httpx.ConnectError)


class Resolver(trio.abc.HostnameResolver):
    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *_rest: Any, **_more: Any) -> Any:
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, address) for address in self.addresses]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


async def test_a_name_that_nobody_knows() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with TrickleTransport() as transport:
        error = await raised(transport, httpx.Request("GET", "http://nowhere.invalid/"))
        assert isinstance(error, httpx.ConnectError)
        assert "not known" in str(error)


async def test_a_name_with_an_underscore_and_a_first_address_that_is_dead(serve: Any) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with serve(answer_all) as server, TrickleTransport() as transport:
            alive = ("127.0.0.1", httpx.URL(server.url).port or 0)
            trio.socket.set_custom_hostname_resolver(Resolver(dead.getsockname(), alive))
            assert await get(transport, "http://my_relay:1234/") == b"ok"


@pytest.mark.parametrize(
    ("method", "url"), [("GET", "ftp://h/x"), ("GET", "http:///x"), ("CONNECT", "http://h")]
)
async def test_what_this_transport_does_not_do(method: str, url: str) -> None:
    async with TrickleTransport() as transport:
        error = await raised(transport, httpx.Request(method, url))
        assert isinstance(error, httpx.UnsupportedProtocol)


async def test_a_body_of_the_blocking_kind(serve: Any) -> None:
    def blocking() -> Iterator[bytes]:
        yield b""

    async with serve(answer_all) as server, TrickleTransport() as transport:
        with pytest.raises(TypeError, match="async iterator"):
            await transport.handle_async_request(
                httpx.Request("POST", server.url, content=blocking())
            )
        assert server.connections == 0


@pytest.mark.parametrize("length", ["1", "100"])
async def test_a_body_that_is_not_as_long_as_it_says(serve: Any, length: str) -> None:
    async def ten() -> AsyncIterator[bytes]:
        yield bytes(10)

    async def script(peer: Any) -> None:
        await peer.gone()

    async with serve(script) as server, TrickleTransport() as transport:
        request = httpx.Request(
            "POST", server.url, content=ten(), headers={"Content-Length": length}
        )
        error = await raised(transport, request)
        assert isinstance(error, httpx.LocalProtocolError)


async def test_a_header_that_cannot_be_sent(serve: Any) -> None:
    async with serve(answer_all) as server, TrickleTransport() as transport:
        request = httpx.Request("GET", server.url, headers={"X": "a\r\nInjected: b"})
        assert isinstance(await raised(transport, request), httpx.LocalProtocolError)


# Sockets and TLS.


async def test_ipv6(serve: Any) -> None:
    async with serve(answer_all, host="::1") as server, TrickleTransport() as transport:
        assert "[::1]" in server.url
        assert await get(transport, server.url) == b"ok"


async def test_small_pieces_are_not_held_back_and_dead_peers_are_noticed(serve: Any) -> None:
    async with serve(answer_all) as server, TrickleTransport() as transport:
        await get(transport, server.url)
        [connection] = transport._open
        options = connection.socket
        assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert options.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_tls_connections_are_used_again(serve: Any, client_tls: Any, server_tls: Any) -> None:
    async with (
        serve(answer_all, context=server_tls) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        for _ in range(5):
            assert await get(transport, server.url) == b"ok"
        assert (server.connections, transport.statistics().reused) == (1, 4)


async def test_a_certificate_from_nowhere(serve: Any, server_tls: Any) -> None:
    async with serve(answer_all, context=server_tls) as server, TrickleTransport() as transport:
        error = await raised(transport, httpx.Request("GET", server.url))
        assert isinstance(error, httpx.ConnectError)
        assert "certificate verify failed" in str(error)


async def test_a_certificate_for_somebody_else(
    serve: Any, client_tls: Any, authority: trustme.CA
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("example.org").configure_cert(context)
    async with (
        serve(answer_all, context=context) as server,
        TrickleTransport(ssl_context=client_tls) as transport,
    ):
        error = await raised(transport, httpx.Request("GET", server.url))
        assert isinstance(error, httpx.ConnectError)
        assert "mismatch" in str(error)


async def test_tls_to_a_server_without(serve: Any, client_tls: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with serve(script) as server, TrickleTransport(ssl_context=client_tls) as transport:
        request = httpx.Request("GET", server.url.replace("http:", "https:"))
        assert isinstance(await raised(transport, request), httpx.ConnectError)


async def test_the_default_context(
    serve: Any, server_tls: Any, authority: trustme.CA, monkeypatch: Any, tmp_path: Any
) -> None:
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    default_ssl_context.cache_clear()
    protocols: list[str | None] = []

    async def script(peer: Any) -> None:
        await peer.head()
        protocols.append(peer.stream.selected_alpn_protocol())
        await peer.send(OK)

    async with serve(script, context=server_tls) as server, TrickleTransport() as transport:
        assert await get(transport, server.url) == b"ok"
        assert protocols == ["http/1.1"]
    assert default_ssl_context() is default_ssl_context()
    assert default_ssl_context().verify_mode == ssl.CERT_REQUIRED
    default_ssl_context.cache_clear()
