"""Any bytes at all: a 4xx or a closed connection, no traceback, and nobody else disturbed."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial

import h11
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trickle_trio.relay import BoundRelay, ServerLimits, serve_relay

LINES = st.sampled_from(
    [
        b"GET /a/0 HTTP/1.1\r\n",
        b"POST /a/0 HTTP/1.1\r\n",
        b"POST /a/-1 HTTP/1.1\r\n",
        b"DELETE /a/0 HTTP/1.1\r\n",
        b"HEAD /a/0 HTTP/1.1\r\n",
        b"GET http://x/a/0 HTTP/1.0\r\n",
        b"GET * HTTP/1.1\r\n",
        b"GET /%ff%00/../0 HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"GET /a/0 HTTP/9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"Host: x\r\n",
        b"host: x\r\nhost: y\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: -3\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        b"Connection: close\r\n",
        b"Content-Type: \xff\xfe\r\n",
        b"Lp-Trickle-Reset: \x01\r\n",
        b" folded\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"fffffffffffffffffff\r\n",
        b"0\r\n\r\n",
        b"0\r\ntrailer: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
)
MESSAGES = st.lists(LINES | st.binary(max_size=60), min_size=1, max_size=8)


async def throw(bound: BoundRelay, pieces: Sequence[bytes]) -> bytes:
    """Send it, say that this is all, and read until the server has closed."""
    stream = await trio.open_tcp_stream(bound.host, bound.port)
    said = b""
    async with stream:
        try:
            for piece in pieces:
                await stream.send_all(piece)
            await stream.send_eof()
            while more := await stream.receive_some():
                said += more
        except trio.BrokenResourceError:
            pass
    return said


async def play(pieces: Sequence[bytes]) -> bytes:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            limits = ServerLimits(close_delay=0.05, farewell=0.05)
            bound = await nursery.start(partial(serve_relay, port=0, limits=limits))
            bystander = await trio.open_tcp_stream(bound.host, bound.port)
            await bystander.send_all(
                b"POST /b/0 HTTP/1.1\r\nContent-Length: 4\r\nHost: x\r\n\r\nab"
            )
            said = await throw(bound, pieces)
            await bystander.send_all(b"cd")
            assert (await bystander.receive_some()).startswith(b"HTTP/1.1 200")
            await bystander.aclose()
            nursery.cancel_scope.cancel()
    return said


@given(MESSAGES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_get_an_answer_or_a_closed_connection(
    caplog: pytest.LogCaptureFixture, pieces: list[bytes]
) -> None:
    said = trio.run(play, pieces)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", said)]
    assert all(status in (100, 200, 470) or 400 <= status < 500 for status in statuses), said


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00", b"400"),
        (b"GET /a/0 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /a/0 HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /a/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"hello\r\n\r\n", b"405"),
    ],
)
def test_what_is_no_request_is_told_so(said: bytes, status: bytes) -> None:
    assert trio.run(play, [said]).startswith(b"HTTP/1.1 " + status)


def test_what_follows_a_head_is_answered_with_a_body_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = trio.run(play, [b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"hello\r\n\r\n"])
    assert said.endswith(b"\r\n\r\nThat is no HTTP request")
    assert not caplog.records


def test_a_fault_of_ours_drops_one_connection_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parse = h11.Connection.next_event

    def fail(self: h11.Connection) -> object:
        if b"BUG" in self.trailing_data[0]:
            raise ZeroDivisionError
        return parse(self)

    monkeypatch.setattr(h11.Connection, "next_event", fail)
    assert trio.run(play, [b"BUG"]) == b""
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
