"""Segments in full flow: fair, shared, and nobody disturbed by anybody."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from trickle_core.relay_settings import RelaySettings
from trickle_trio.relay import ServerLimits

if TYPE_CHECKING:
    from tests.transport.relay_server.conftest import Client, Running, Serving

MIB = 1 << 20


def pattern(seed: int, size: int) -> bytes:
    """Bytes that cannot be mistaken for others."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


async def publish(client: Client, segments: int, size: int) -> None:
    chunk = pattern(0, 64 * 1024)
    for seq in range(segments):
        await client.begin("POST", f"/a/{seq}")
        for _ in range(size // len(chunk)):
            await client.write(chunk)
        await client.end()
        assert (await client.reply()).status == 200


async def count_bytes(client: Client, seq: int) -> int:
    await client.begin("GET", f"/a/{seq}")
    head = await client.head()
    assert head.status == 200, (seq, head)
    total = 0
    while data := await client.some():
        total += len(data)
    return total


def publish_blocking(port: int, segments: int, size: int) -> None:
    """As fast as a plain program can, one connection, one segment after the other."""
    piece = min(size, 64 * 1024)
    chunk = b"%x\r\n" % piece + bytes(piece) + b"\r\n"
    head = "POST /a/%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for seq in range(segments):
            sock.sendall((head % seq).encode())
            for _ in range(size // piece):
                sock.sendall(chunk)
            sock.sendall(b"0\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")


def read_blocking(port: int, segments: int) -> list[int]:
    """Does nothing but read, with the standard library's client: slower than the publisher."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    got = []
    for seq in range(segments):
        connection.request("GET", f"/a/{seq}")
        response = connection.getresponse()
        size = 0
        while data := response.read1(1500):
            size += len(data)
        got.append(size if response.status == 200 else -response.status)
    connection.close()
    return got


@pytest.mark.parametrize(("segments", "size"), [(60, MIB), (15, 4 * MIB), (500, 100)])
async def test_an_unthrottled_publisher_loses_not_one_byte(
    serving: Serving, segments: int, size: int
) -> None:
    """Through a window of 5 segments, to a reader that keeps up."""
    async with serving(at_most=40) as running:
        await (await running.client()).ask("POST", "/a")
        port = running.bound.port
        async with trio.open_nursery() as nursery:
            run = trio.to_thread.run_sync
            nursery.start_soon(run, publish_blocking, port, segments, size)
            got = await run(read_blocking, port, segments)
        assert got == [size] * segments


async def test_twenty_readers_get_the_same_bytes(serving: Serving) -> None:
    async with serving() as running:
        publisher = await running.client()
        await publisher.ask("POST", "/a")
        sent, got = hashlib.sha256(), [hashlib.sha256() for _ in range(20)]

        async def read(client: Client, digest: hashlib._Hash) -> None:
            for seq in range(4):
                digest.update((await client.ask("GET", f"/a/{seq}")).body)

        async with trio.open_nursery() as nursery:
            for digest in got:
                nursery.start_soon(read, await running.client(), digest)
            for seq in range(4):
                await publisher.begin("POST", f"/a/{seq}")
                for piece in range(20):
                    data = pattern(100 * seq + piece, 1 + 977 * piece)
                    sent.update(data)
                    await publisher.write(data)
                await publisher.end()
                await publisher.reply()
        assert {digest.hexdigest() for digest in got} == {sent.hexdigest()}


async def test_a_body_in_chunks_of_a_byte(serving: Serving) -> None:
    async with serving() as running:
        publisher, reader = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        await reader.begin("GET", "/a/0")
        data = pattern(1, 3000)
        await publisher.begin("POST", "/a/0")
        await publisher.stream.send_all(b"".join(b"1\r\n%c\r\n" % byte for byte in data))
        await publisher.end()
        assert (await reader.reply()).body == data
        assert (await publisher.reply()).status == 200


async def stall(running: Running, path: str) -> Client:
    """A reader that asks, and then takes nothing."""
    client = await running.client(receive_buffer=4096)
    await client.begin("GET", path)
    return client


async def test_a_stalled_reader_disturbs_nobody_and_is_dropped(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        publisher, reader = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        stalled = await stall(running, "/a/0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, publisher, 8, 8 * MIB)
            assert [await count_bytes(reader, seq) for seq in range(8)] == [8 * MIB] * 8
        await trio.sleep(25)
        received = await stalled.rest()
        assert len(received) < 8 * MIB
        assert received.endswith(b"<reset>") or not received.endswith(b"0\r\n\r\n")


async def test_a_publisher_waits_for_a_stalled_reader_only_for_a_moment(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500, settings=RelaySettings(window=1)) as running:
        publisher = await running.client()
        await publisher.ask("POST", "/a")
        stalled = await stall(running, "/a/0")
        started = trio.current_time()
        await publish(publisher, 2, 16 * MIB)
        assert trio.current_time() - started < 2
        stalled.stream.socket.close()


async def test_what_stalled_readers_hold_is_bounded(serving: Serving) -> None:
    settings = RelaySettings(max_channel_bytes=4 * MIB, max_segment_bytes=2 * MIB, patience=0)
    async with serving(settings=settings) as running:
        publisher, reader = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        stalled = []
        for seq in range(8):
            stalled.append(await stall(running, f"/a/{seq}"))
            await publisher.begin("POST", f"/a/{seq}")
            for _ in range(16):
                await publisher.write(bytes(128 * 1024 - 8192))
            await publisher.end()
            assert (await publisher.reply()).status == 200
        assert (await reader.ask("GET", "/a/7")).status == 200
        cut = await stalled[0].rest()
        assert not cut.endswith(b"0\r\n\r\n"), "nobody may take it for whole"


async def test_a_reader_that_leaves_while_waiting_is_noticed_at_once(serving: Serving) -> None:
    async with serving(settings=RelaySettings(max_readers=1)) as running:
        publisher, reader, other = [await running.client() for _ in range(3)]
        await publisher.ask("POST", "/a")
        await reader.begin("GET", "/a/0")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await other.ask("GET", "/a/0")).status == 503
        reader.stream.socket.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await other.begin("GET", "/a/0")
        await publisher.ask("POST", "/a/0", b"x")
        assert (await other.reply()).body == b"x"


async def test_a_publisher_that_leaves_while_preconnected_is_noticed_at_once(
    serving: Serving,
) -> None:
    async with serving(settings=RelaySettings(max_writers=1)) as running:
        first, second = await running.client(), await running.client()
        await first.begin("POST", "/a/0")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await second.ask("GET", "/a/next")).status == 200
        first.stream.socket.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await second.ask("POST", "/a/0", b"x")).status == 200


async def test_over_tls_everything_is_the_same(serving: Serving) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    limits = ServerLimits(close_delay=0.1)
    async with serving(client, ssl_context=server, limits=limits) as running:
        assert running.bound.url.startswith("https://")
        publisher, reader, preconnected = [await running.client() for _ in range(3)]
        await publisher.ask("POST", "/a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, publisher, 8, MIB)
            assert [await count_bytes(reader, seq) for seq in range(8)] == [MIB] * 8
        await preconnected.begin("POST", "/a/8")
        await reader.ask("DELETE", "/a")
        reply = await preconnected.reply()
        assert reply.headers["lp-trickle-closed"] == "terminated"
        assert await preconnected.stream.receive_some() == b"", "closed in due form"


async def test_a_client_that_speaks_no_tls_is_dropped(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    async with serving(ssl_context=server) as running:
        client = await running.client()
        await client.stream.send_all(b"GET /a/0 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in await client.rest()
    assert not caplog.records


async def test_a_client_silent_in_its_handshake_is_dropped(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    limits = ServerLimits(header_timeout=5)
    async with serving(at_most=100, ssl_context=server, limits=limits) as running:
        before = trio.current_time()
        assert await (await running.client()).rest() == b""
        assert 4 < trio.current_time() - before < 7
