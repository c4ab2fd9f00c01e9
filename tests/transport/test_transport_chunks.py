"""Chunked answers: what is plain is read here, all else by h11, and nobody sees which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import h11
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trickle_trio.transport import TrickleTransport
from trickle_trio.transport.chunks import PlainChunks

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def framed(piece: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)


def taken(parts: Sequence[bytes]) -> tuple[list[bytes], PlainChunks]:
    """What comes out when these parts of a body arrive."""
    chunks, pieces = PlainChunks(), []
    for part in parts:
        chunks.feed(part)
        while piece := chunks.piece():
            pieces.append(piece)
    return pieces, chunks


class TestPlainChunks:
    def test_each_chunk_comes_by_itself(self) -> None:
        pieces, chunks = taken([framed(b"one") + framed(b"two") + LAST])
        assert pieces == [b"one", b"two"]
        assert (chunks.is_over, chunks.rest) == (True, LAST)

    def test_none_of_one_is_held_back(self) -> None:
        pieces, chunks = taken([b"5\r\nab", b"c", b"de", b"\r", b"\n1\r\nf\r\n"])
        assert pieces == [b"ab", b"c", b"de", b"f"]
        assert (chunks.is_over, chunks.rest) == (False, b"")

    @pytest.mark.parametrize(
        "odd",
        [
            b"3;name=value\r\nabc\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"003\r\nabc\r\n",
            b"-3\r\nabc\r\n",
            b" 3\r\nabc\r\n",
            b"\r\n3\r\nabc\r\n",
            b"3\nabc\r\n      ",
            b"123456789",
            b"fffffffff\r\n",
        ],
    )
    def test_what_is_not_plain_is_left_as_it_is(self, odd: bytes) -> None:
        pieces, chunks = taken([framed(b"plain"), odd])
        assert pieces == [b"plain"]
        assert (chunks.is_over, chunks.rest) == (True, odd)

    @pytest.mark.parametrize("tail", [b"x\r\n", b"\rx", b"\n", b"3\r\n"])
    def test_a_chunk_that_is_longer_than_it_says_is_a_fault(self, tail: bytes) -> None:
        with pytest.raises(h11.RemoteProtocolError, match="longer than it says"):
            taken([b"3\r\nabc" + tail])

    @given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
    def test_however_it_arrives_the_body_is_the_same(
        self, body: list[bytes], data: st.DataObject
    ) -> None:
        wire = b"".join(map(framed, body)) + LAST
        cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=12)) | {0, len(wire)})
        pieces, chunks = taken([wire[a:b] for a, b in pairwise(cuts)])
        assert b"".join(pieces) == b"".join(body)
        # The end may wait for as many bytes as tell that it is no plain chunk.
        assert chunks.rest in (LAST, b"")
        assert len(pieces) <= len(body) + len(cuts)

    @given(st.binary(max_size=60))
    def test_whatever_comes_is_a_piece_the_rest_or_a_fault(self, wire: bytes) -> None:
        chunks = PlainChunks()
        chunks.feed(wire)
        count = 0
        try:
            while piece := chunks.piece():
                count += len(piece)
        except h11.RemoteProtocolError:
            return
        assert count + len(chunks.rest) <= len(wire)


async def _read(url: str, transport: TrickleTransport) -> bytes:
    response = await transport.handle_async_request(httpx.Request("GET", url))
    try:
        return await response.aread()
    finally:
        await response.aclose()


BODY = framed(b"a" * 20) + framed(b"b", b";odd=1") + framed(b"c" * 300) + LAST


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + BODY,
        HEAD + framed(b"ab") + b"00\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + BODY,
        HEAD.replace(b"\r\n", b"\n") + BODY,
        HEAD.replace(b"chunked", b"Chunked") + LAST,
    ],
)
async def test_an_answer_is_read_whole_however_it_arrives(serve: Any, wire: bytes) -> None:
    expected = h11.Connection(h11.CLIENT)
    expected.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    expected.receive_data(wire)
    body = b""
    while type(event := expected.next_event()) is not h11.EndOfMessage:
        body += bytes(event.data) if isinstance(event, h11.Data) else b""

    async def script(peer: Any) -> None:
        for cut in range(1, len(wire), 7):
            await peer.head()
            await peer.send(wire[:cut])
            await trio.testing.wait_all_tasks_blocked(0.002)
            await peer.send(wire[cut:])

    async with serve(script) as server, TrickleTransport() as transport:
        for _ in range(1, len(wire), 7):
            assert await _read(server.url, transport) == body
        assert server.connections == 1, "it was left in order each time"


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + framed(b"ab"),
        HEAD + b"5\r\nab",
        HEAD + b"5\r\nabcde",
        HEAD + b"2\r\nabc\r\n0\r\n\r\n",
        HEAD + framed(b"ab") + b"zz\r\n",
        HEAD + framed(b"ab") + b"1" * 100_000,
    ],
)
async def test_a_body_that_is_not_whole_is_a_fault(serve: Any, wire: bytes) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(wire)

    async with serve(script) as server, TrickleTransport() as transport:
        with pytest.raises(httpx.RemoteProtocolError):
            await _read(server.url, transport)
        assert transport.statistics().idle_connections == 0


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_pieces_are_given_as_they_come(body: list[bytes], data: st.DataObject) -> None:
    """Without a server: nothing that has come waits for what has not."""
    wire = b"".join(map(framed, body))
    cut = data.draw(st.integers(0, len(wire)))
    before, _ = taken([wire[:cut]])
    seen, at = b"", 0
    for piece in body:
        size = len(framed(piece))
        begin = at + size - len(piece) - 2
        seen += wire[begin : min(begin + len(piece), max(cut, begin))]
        at += size
    assert b"".join(before) == seen
