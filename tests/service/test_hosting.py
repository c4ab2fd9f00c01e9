"""What Hypercorn and quart-trio leave open, over real sockets. Each test fails without its mend."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.service.hosting import (
    GRACE,
    KEEP_ALIVE,
    Address,
    Connection,
    host,
    lifetime,
    open_listener,
    unwrapped,
)


@pytest.fixture
def clock() -> MockClock:
    """Time runs when nothing else has for a moment: bytes between real sockets come first."""
    return MockClock(autojump_threshold=0.05)


def make_app() -> QuartTrio:
    app = QuartTrio(__name__)
    app.asgi_http_class = Connection

    @app.route("/")
    async def hello() -> str:
        return "hello"

    return app


@asynccontextmanager
async def hosted(app: QuartTrio, *, stall_timeout: float = 60) -> AsyncIterator[Address]:
    stop = trio.Event()
    listener = await open_listener("127.0.0.1", 0, stall_timeout=stall_timeout)

    async def serve(*, task_status: trio.TaskStatus[Address]) -> None:
        await host(app, listener, stop.wait, task_status=task_status)

    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve)
        stop.set()


async def receive_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def head(path: str = "/", *extra: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: test", *extra, "", "")).encode()


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def receive_until(stream: trio.SocketStream, ending: bytes) -> bytes:
    data = b""
    while not data.endswith(ending):
        more = await stream.receive_some()
        assert more, f"the connection ended behind {data!r}"
        data += more
    return data


async def test_a_connection_is_closed_behind_its_last_response(clock: MockClock) -> None:
    async with hosted(make_app()) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(head("/", "Connection: close"))
        with trio.fail_after(KEEP_ALIVE / 2):
            data = await receive_all(stream)
    assert data.endswith(b"hello")


async def test_an_idle_connection_is_closed_when_its_time_is_over(clock: MockClock) -> None:
    async with hosted(make_app()) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(head())
        await receive_until(stream, b"hello")
        began = trio.current_time()
        with trio.fail_after(KEEP_ALIVE * 2):
            assert await stream.receive_some() == b""
        assert trio.current_time() - began >= KEEP_ALIVE


def ask_and_leave(address: Address, times: int) -> None:
    """As short-lived clients do: gone as soon as the answer is there."""
    for _ in range(times):
        with socket.create_connection(address) as client:
            client.sendall(head())
            data = b""
            while not data.endswith(b"hello"):
                data += client.recv(4096)


async def test_a_connection_that_its_client_has_closed_is_not_kept() -> None:
    """Also where the client was quicker than the last steps behind its answer."""
    async with hosted(make_app()) as address:
        before = open_descriptors()
        await trio.to_thread.run_sync(ask_and_leave, address, 200)
        with trio.fail_after(KEEP_ALIVE / 4):
            while open_descriptors() > before:
                await trio.lowlevel.checkpoint()


async def test_an_idle_connection_does_not_hold_up_the_end(clock: MockClock) -> None:
    async with hosted(make_app()) as address:
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(head())
        await receive_until(stream, b"hello")
        began = trio.current_time()
    assert trio.current_time() - began < GRACE
    await stream.aclose()


async def test_a_connection_takes_more_than_a_thousand_requests() -> None:
    async with hosted(make_app()) as address, await trio.open_tcp_stream(*address) as stream:
        for _ in range(1_010):
            await stream.send_all(head())
            answer = await receive_until(stream, b"hello")
            assert b"connection: close" not in answer.lower()


async def test_a_client_that_goes_cancels_its_view_and_leaves_its_lifetime(
    clock: MockClock,
) -> None:
    app = make_app()
    entered, left = trio.Event(), trio.Event()

    @app.route("/wait")
    async def wait() -> str:
        lifetime(request).callback(left.set)
        entered.set()
        await trio.Event().wait()
        return ""

    async with hosted(app) as address:
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(head("/wait"))
            await entered.wait()
        with trio.fail_after(10):
            await left.wait()


async def test_a_lifetime_lasts_until_the_last_byte_of_the_response_and_through_failures() -> None:
    app = make_app()
    order: list[str] = []
    left = [trio.Event(), trio.Event()]

    def leave(event: trio.Event) -> None:
        order.append("left")
        event.set()

    @app.route("/stream")
    async def stream_bytes() -> Response:
        lifetime(request).callback(leave, left[0])

        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            order.append("body")
            yield b"end"

        return Response(body())

    @app.route("/fail")
    async def fail() -> str:
        lifetime(request).callback(leave, left[1])
        raise LookupError("on purpose")

    app.logger.disabled = True
    async with hosted(app) as address:
        for path, event in zip(("/stream", "/fail"), left, strict=True):
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(head(path, "Connection: close"))
                answer = await receive_all(stream)
            await event.wait()
            order.append(answer[9:12].decode())
    assert order == ["body", "left", "200", "left", "500"]


def endless(app: QuartTrio) -> trio.Event:
    """Add a response that never ends; the event says when it was given up."""
    over = trio.Event()

    @app.route("/endless")
    async def view() -> Response:
        lifetime(request).callback(over.set)

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield bytes(65_536)

        response = Response(body())
        response.timeout = None
        return response

    return over


async def stalled_reader(address: Address) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(*address)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await stream.send_all(head("/endless"))
    return stream


async def test_a_reader_that_stalls_does_not_hold_up_the_end(clock: MockClock) -> None:
    app = make_app()
    over = endless(app)
    async with hosted(app) as address:
        stream = await stalled_reader(address)
        await wait_all_tasks_blocked(0.05)
        began = trio.current_time()
    assert over.is_set()
    assert trio.current_time() - began == pytest.approx(GRACE, abs=0.1)
    await stream.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_reader_that_stalls_is_given_up_while_the_service_runs() -> None:
    app = make_app()
    over = endless(app)
    async with hosted(app, stall_timeout=0.3) as address:
        stream = await stalled_reader(address)
        with trio.fail_after(20):
            await over.wait()
        await stream.aclose()


async def test_other_clients_are_served_while_one_stalls() -> None:
    app = make_app()
    endless(app)
    async with (
        hosted(app) as address,
        await stalled_reader(address),
        await trio.open_tcp_stream(*address) as stream,
    ):
        await wait_all_tasks_blocked(0.05)
        await stream.send_all(head())
        await receive_until(stream, b"hello")


async def test_nothing_stays_open() -> None:
    app = make_app()
    async with hosted(app):
        pass
    before = open_descriptors()
    async with hosted(app) as address:
        streams = [await trio.open_tcp_stream(*address) for _ in range(10)]
        await streams[0].send_all(head())
        await receive_until(streams[0], b"hello")
    for stream in streams:
        await stream.aclose()
    assert open_descriptors() == before


async def test_a_port_in_use_is_said_in_one_line() -> None:
    with await open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: the port is in use"
        ):
            await open_listener("127.0.0.1", port)


@pytest.mark.parametrize("name", ["no such host.invalid", "203.0.113.7"])
async def test_a_host_that_is_not_ours_is_said_in_one_line(name: str) -> None:
    with pytest.raises(OSError, match=r"\A(\[Errno -?\d+\] )?cannot listen on ") as caught:
        await open_listener(name, 0)
    assert "\n" not in str(caught.value)


def test_an_address_is_a_pair_and_a_url() -> None:
    host_name, port = Address("127.0.0.1", 80)
    assert (host_name, port, str(Address("::1", 80))) == ("127.0.0.1", 80, "http://[::1]:80")
    assert [Address(where, 80).url for where in ("0.0.0.0", "::")] == [
        "http://127.0.0.1:80",
        "http://[::1]:80",
    ]


def test_groups_of_one_are_unwrapped_and_others_stay() -> None:
    with pytest.raises(KeyError), unwrapped():
        raise BaseExceptionGroup("outer", [ExceptionGroup("inner", [KeyError()])])
    with pytest.raises(ExceptionGroup), unwrapped():
        raise ExceptionGroup("two", [KeyError(), ValueError()])
