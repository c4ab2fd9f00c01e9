"""The relay over real sockets: what HTTP asks of it, and what deployed clients do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest
import trio

from trickle_core.relay_settings import Refusal, RelayRequest, RelaySettings
from trickle_trio.relay import ServerLimits

if TYPE_CHECKING:
    from tests.transport.relay_server.conftest import Serving


async def test_a_channel_from_beginning_to_end(serving: Serving) -> None:
    async with serving() as running:
        client = await running.client()
        assert (await client.ask("POST", "/a", expect_content="video/mp2t")).status == 200
        posted = await client.ask("POST", "/a/0", b"hello")
        assert (posted.status, posted.headers["lp-trickle-seq"]) == (200, "0")
        read = await client.ask("GET", "/a/-2")
        assert (read.status, read.body) == (200, b"hello")
        assert read.headers["content-type"] == "video/mp2t"
        assert (await client.ask("GET", "/a/next")).body == b"1"
        gone = await client.ask("GET", "/a/9")
        assert (gone.status, gone.body) == (470, b"Entry not found")
        assert (await client.ask("DELETE", "/a")).status == 200
        assert (await client.ask("GET", "/a/0")).status == 404
        assert running.bound.url == f"http://127.0.0.1:{running.bound.port}"


async def test_the_head_comes_with_the_first_byte_and_the_rest_as_it_comes(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        publisher, reader = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        await reader.begin("GET", "/a/0")
        await publisher.begin("POST", "/a/0")
        with trio.move_on_after(60) as scope:
            await reader.head()
        assert scope.cancelled_caught
        await publisher.write(b"one")
        assert (await reader.head()).headers["lp-trickle-seq"] == "0"
        assert await reader.exactly(3) == b"one"
        await publisher.write(b"two")
        assert await reader.exactly(3) == b"two"
        await publisher.end()
        assert await reader.some() == b""
        assert (await publisher.reply()).status == 200


async def test_an_empty_segment_has_no_body(serving: Serving) -> None:
    async with serving() as running:
        client = await running.client()
        await client.ask("POST", "/a/0")
        read = await client.ask("GET", "/a/0")
        assert (read.status, read.body, read.headers["content-length"]) == (200, b"", "0")
        assert "lp-trickle-closed" not in read.headers
        assert (await client.ask("GET", "/a/next")).body == b"1", "the connection goes on"


async def test_a_preconnected_post_is_answered_when_its_channel_goes(serving: Serving) -> None:
    async with serving() as running:
        publisher, other = await running.client(), await running.client()
        await other.ask("POST", "/a")
        await publisher.begin("POST", "/a/0")
        await other.ask("DELETE", "/a")
        reply = await publisher.reply()
        assert (reply.status, reply.headers["lp-trickle-closed"]) == (200, "terminated")
        assert reply.headers["connection"] == "close"
        assert await publisher.rest() == b""


async def test_an_early_answer_survives_the_body_that_was_on_its_way(serving: Serving) -> None:
    """Closing at once would reset the connection, and the answer be lost with it."""
    async with serving(settings=RelaySettings(autocreate=False)) as running:
        publisher = await running.client()
        await publisher.begin("POST", "/no/0")
        for _ in range(50):
            await publisher.write(bytes(50_000))
        reply = await publisher.reply()
        assert (reply.status, reply.body) == (404, b"Stream not found")
        assert reply.headers["connection"] == "close"
        assert await publisher.rest() == b""


async def test_a_segment_beyond_the_limit_is_413(serving: Serving) -> None:
    async with serving(settings=RelaySettings(max_segment_bytes=1000)) as running:
        publisher = await running.client()
        await publisher.begin("POST", "/a/0")
        await publisher.write(bytes(1001))
        assert (await publisher.reply()).status == 413


async def test_a_waiting_get_is_told_that_its_channel_has_gone(serving: Serving) -> None:
    async with serving() as running:
        reader, other = await running.client(), await running.client()
        await other.ask("POST", "/a")
        await reader.begin("GET", "/a/-1")
        await other.ask("DELETE", "/a")
        reply = await reader.reply()
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["lp-trickle-closed"] == "terminated"


async def test_100_continue_is_sent_every_ten_seconds_until_the_first_byte(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        publisher = await running.client()
        await publisher.begin("POST", "/a/0")
        await trio.sleep(65)
        await publisher.write(b"x")
        await trio.sleep(60)
        await publisher.end()
        assert (await publisher.reply()).status == 200
        assert publisher.continues == 6


async def test_http_1_0_gets_neither_continues_nor_chunks(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        publisher = await running.raw()
        await publisher.send_all(b"POST /a/0 HTTP/1.0\r\nContent-Length: 5\r\n\r\n")
        await trio.sleep(35)
        await publisher.send_all(b"hello")
        said = await publisher.receive_some()
        assert said.startswith(b"HTTP/1.1 200")
        reader = await running.client()
        await reader.stream.send_all(b"GET /a/0 HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.rest()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert b"connection: close" in head.lower()
        assert body == b"hello"


@pytest.mark.parametrize("path", ["/a/0", "/a"])
async def test_an_expected_continue_is_given_at_once(serving: Serving, path: str) -> None:
    async with serving() as running:
        client = await running.client()
        await client.begin("POST", path, expect="100-continue")
        event = await client.event()
        assert event.status_code == 100
        await client.end()
        assert (await client.reply()).status == 200


async def test_a_refused_post_is_not_told_to_continue(serving: Serving) -> None:
    async with serving() as running:
        client = await running.client()
        await client.begin("POST", "/a/x", expect="100-continue")
        assert (await client.reply()).status == 400
        assert client.continues == 0


async def test_pipelined_requests_are_answered_in_order(serving: Serving) -> None:
    async with serving() as running:
        stream = await running.raw()
        post = b"POST /a/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d"
        get = b"GET /a/%d HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /a/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        posts = b"".join(post % (n, n) for n in range(5))
        await stream.send_all(posts + b"".join(get % n for n in range(5)) + last)
        said = bytearray()
        while more := await stream.receive_some():
            said += more
        assert said.count(b"HTTP/1.1 200") == 11
        places = [said.index(b"\r\n2\r\n%02d\r\n0\r\n\r\n" % n) for n in range(5)]
        assert places == sorted(places)
        assert said.endswith(b"\r\n\r\n5")


async def test_requests_behind_a_waiting_get_are_answered_after_it(serving: Serving) -> None:
    async with serving() as running:
        client, publisher = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        await client.begin("GET", "/a/0")
        await client.stream.send_all(b"GET /a/next HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await publisher.ask("POST", "/a/0", b"x")
        assert (await client.reply()).body == b"x"
        client.http.send(h11.Request(method="GET", target="/a/next", headers=[("host", "x")]))
        assert (await client.head()).headers["lp-trickle-latest"] == "1"


async def test_a_client_cannot_fill_the_memory_behind_a_waiting_get(serving: Serving) -> None:
    async with serving() as running:
        client = await running.client()
        await client.ask("POST", "/a")
        await client.begin("GET", "/a/0")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(bytes(10_000))


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT", "BREW"])
async def test_other_methods_are_405(serving: Serving, method: str) -> None:
    async with serving() as running:
        stream = await running.raw()
        await stream.send_all(f"{method} /a/0 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await stream.receive_some()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405")
        assert (body == b"") == (method == "HEAD")
        await stream.send_all(b"GET /a/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_body_that_nobody_needs_is_read_away(serving: Serving, method: str) -> None:
    async with serving() as running:
        stream = await running.raw()
        await stream.send_all(b"POST /a/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        await stream.receive_some()
        head = f"{method} /a/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode()
        await stream.send_all(head + b"01234")
        await stream.send_all(b"56789GET /a/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = b""
        while more := await stream.receive_some():
            said += more
        assert said.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_such_a_body_is_bounded(serving: Serving, method: str) -> None:
    async with serving() as running:
        client = await running.client()
        await client.ask("POST", "/a/0", b"x")
        head = f"{method} /a/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode()
        await client.stream.send_all(head + bytes(200_000))
        said = await client.rest()
        assert said.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_such_a_body_must_come_in_time(
    serving: Serving, method: str, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        client = await running.client()
        await client.ask("POST", "/a/0", b"x")
        head = f"{method} /a/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode()
        await client.stream.send_all(head + b"123")
        assert (await client.rest()).startswith(b"HTTP/1.1 413")


async def test_headers_are_bounded(serving: Serving) -> None:
    async with serving() as running:
        stream = await running.raw()
        await stream.send_all(b"GET /a/0 HTTP/1.1\r\nx: " + b"y" * 20_000)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"", b""),
        (b"GET /a/0 HT", b"HTTP/1.1 408"),
        (b"GET /a/0 HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408"),
    ],
)
async def test_a_client_silent_before_its_request_is_complete_is_dropped(
    serving: Serving, said: bytes, answer: bytes, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        client = await running.client()
        if said:
            await client.stream.send_all(said)
        before = trio.current_time()
        assert (await client.rest()).startswith(answer)
        assert 14 < trio.current_time() - before < 18


async def test_a_slow_head_is_not_kept_alive_by_its_bytes(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        stream = await running.raw()
        for byte in b"GET /a":
            await stream.send_all(bytes([byte]))
            await trio.sleep(4)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")


async def test_between_requests_a_client_may_be_silent_for_longer(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500) as running:
        client = await running.client()
        assert (await client.ask("GET", "/a/0")).status == 404
        await trio.sleep(70)
        assert (await client.ask("GET", "/a/0")).status == 404
        await client.stream.send_all(b"GET")
        await trio.sleep(14)
        await client.stream.send_all(b" /a/0 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 404")
        before = trio.current_time()
        assert await client.rest() == b""
        assert 74 < trio.current_time() - before < 76


async def test_requests_and_waits_may_last_as_long_as_the_channel(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    settings = RelaySettings(idle_timeout=100_000)
    async with serving(at_most=50_000, settings=settings) as running:
        publisher, reader = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        await publisher.begin("POST", "/a/0")
        await reader.begin("GET", "/a/0")
        await trio.sleep(130)
        await publisher.write(b"x")
        assert (await reader.head()).status == 200
        await trio.sleep(130)
        await publisher.end()
        assert await reader.exactly(1) == b"x"
        assert await reader.some() == b""
        assert (await publisher.reply()).status == 200


async def test_an_idle_channel_is_swept_and_its_clients_told(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=5000) as running:
        publisher, reader = await running.client(), await running.client()
        await publisher.ask("POST", "/a")
        await publisher.begin("POST", "/a/0")
        await reader.begin("GET", "/a/0")
        before = trio.current_time()
        assert (await reader.reply()).headers["lp-trickle-closed"] == "terminated"
        assert 299 < trio.current_time() - before < 301
        assert (await publisher.reply()).headers["lp-trickle-closed"] == "terminated"


async def test_a_broken_body_leaves_the_segment_open_for_the_next_post(serving: Serving) -> None:
    async with serving() as running:
        broken, reader, publisher = [await running.client() for _ in range(3)]
        await broken.begin("POST", "/a/0")
        await broken.write(b"one")
        await reader.begin("GET", "/a/0")
        await reader.head()
        assert await reader.exactly(3) == b"one"
        broken.stream.socket.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await publisher.ask("POST", "/a/0", b"two")
        assert await reader.exactly(3) == b"two"
        assert await reader.some() == b""


async def test_a_malformed_body_is_400_and_counts_as_broken(serving: Serving) -> None:
    async with serving() as running:
        broken, other = await running.client(), await running.client()
        await broken.begin("POST", "/a/0")
        await broken.write(b"one")
        await broken.stream.send_all(b"zz\r\nno chunk\r\n")
        assert (await broken.rest()).startswith(b"HTTP/1.1 400")
        assert (await other.ask("POST", "/a/0", b"two")).status == 200
        assert (await other.ask("GET", "/a/0")).body == b"onetwo"


async def test_deleting_a_segment_lets_readers_and_its_writer_go_on(serving: Serving) -> None:
    async with serving() as running:
        publisher, reader, other = [await running.client() for _ in range(3)]
        await publisher.begin("POST", "/a/0")
        await publisher.write(b"half")
        await reader.begin("GET", "/a/0")
        await reader.head()
        assert (await other.ask("DELETE", "/a/0")).status == 200
        assert await reader.exactly(4) == b"half"
        assert await reader.some() == b""
        reply = await publisher.reply()
        assert (reply.status, reply.headers["lp-trickle-seq"]) == (200, "0")


async def test_a_token_is_asked_for(serving: Serving) -> None:
    given = "open-sesame"
    async with serving(settings=RelaySettings(token=given)) as running:
        client = await running.client()
        refused = await client.ask("GET", "/a/0")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.ask("GET", "/a/0", authorization=f"Bearer {given}")).status == 404


async def test_a_policy_that_fails_is_the_operators_to_see(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    def policy(_request: RelayRequest, name: str) -> Refusal | None:
        if name == "bug":
            raise ZeroDivisionError
        return Refusal(403, "No")

    async with serving(settings=RelaySettings(before_create=policy)) as running:
        client = await running.client()
        assert (await client.ask("POST", "/bug")).status == 500
        client = await running.client()
        assert (await client.ask("POST", "/a")).body == b"No"
    [record] = [record for record in caplog.records if record.exc_info]
    assert "policy failed for channel 'bug'" in record.getMessage()


async def test_connections_beyond_the_limit_are_turned_away(serving: Serving) -> None:
    async with serving(limits=ServerLimits(max_connections=1)) as running:
        first = await running.client()
        assert (await first.ask("GET", "/a/0")).status == 404
        second = await running.client()
        assert (await second.rest()).startswith(b"HTTP/1.1 503")
        first.stream.socket.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        third = await running.client()
        assert (await third.ask("GET", "/a/0")).status == 404


@pytest.mark.parametrize(
    "wrong", [{"header_timeout": 0}, {"farewell": -1}, {"max_header_bytes": 1}], ids=str
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ServerLimits(**wrong)  # type: ignore[arg-type] # some are whole numbers
