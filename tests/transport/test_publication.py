"""Publications: over the real relay, and against servers that misbehave."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from trickle_core.commands import Ending
from trickle_core.publisher import PublisherSettings
from trickle_core.relay_settings import RelaySettings
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.driver import ChannelEnded
from trickle_trio.publication import PublicationStatistics, SegmentLost, open_publication
from trickle_trio.relay import serve_relay
from trickle_trio.subscription import open_subscription

QUICK = RetryPolicy(first=0.001, longest=0.01, give_up_after=0.05)
CREATE = PublisherSettings(create=True, retry=QUICK)
FIRST = PublisherSettings(first=0, retry=QUICK, settle=0.2)
EMPTY = b"Content-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + EMPTY
GONE = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n" + EMPTY
CLOSED = b"HTTP/1.1 200 OK\r\nLp-Trickle-Closed: terminated\r\nConnection: close\r\n" + EMPTY
BUSY = b"HTTP/1.1 500 Oh\r\nConnection: close\r\n" + EMPTY


async def read_back(url: str, count: int) -> list[bytes]:
    settings = SubscriberSettings(start=0, wait_for_channel=10, early_pause=0.01)
    async with open_subscription(url, settings=settings) as subscription:
        return [await (await anext(subscription)).read() for _ in range(count)]


async def test_segments_arrive_whole(relay: str) -> None:
    url = f"{relay}/a"
    async with open_publication(url, settings=CREATE) as publication:
        for data in (b"one", b"two"):
            async with publication.segment() as segment:
                await segment.send(data[:1])
                await segment.send(b"")
                await segment.send(data[1:])
        async with publication.segment():
            pass
        assert await read_back(url, 3) == [b"one", b"two", b""]
    assert publication.statistics() == PublicationStatistics(segments=3, lost=0, bytes_sent=6)
    assert publication.ending is Ending.LEFT


async def test_a_second_publisher_goes_on_behind_the_first(relay: str) -> None:
    url = f"{relay}/a"
    for expected in (0, 1):
        async with (
            open_publication(url, settings=CREATE) as publication,
            publication.segment() as segment,
        ):
            await segment.send(b"%d" % expected)
            assert segment.seq == expected
    assert await read_back(url, 2) == [b"0", b"1"]


async def test_the_channel_is_deleted_on_leaving_where_that_is_wanted(relay: str) -> None:
    url = f"{relay}/a"
    settings = PublisherSettings(create=True, delete=True)
    async with (
        open_publication(url, settings=settings) as publication,
        publication.segment() as segment,
    ):
        await segment.send(b"x")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/next")).status_code == 404


@pytest.mark.parametrize(("reply", "ending"), [(GONE, Ending.GONE), (CLOSED, Ending.CLOSED)])
async def test_an_early_end_is_known_before_a_byte_is_written(
    serve: Any, reply: bytes, ending: Ending
) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(reply)

    async with serve(script) as server, open_publication(f"{server.url}/a", settings=FIRST) as p:
        while p.ending is None:
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ChannelEnded) as caught:
            async with p.segment():
                raise AssertionError("there is no segment to write")
        assert caught.value.ending is ending


async def test_a_preconnect_that_is_refused_is_opened_again_and_nothing_is_lost(serve: Any) -> None:
    bodies: dict[bytes, bytes] = {}

    async def script(peer: Any) -> None:
        head = await peer.head()
        if peer.number < 2:
            await peer.send(BUSY)
            return
        bodies[head.split(b" ")[1]] = await peer.until(b"0\r\n\r\n")
        await peer.send(OK)
        await peer.gone()

    async with serve(script) as server, open_publication(f"{server.url}/a", settings=FIRST) as p:
        while (
            server.connections < 3
        ):  # what is sent before a refusal is known has left, and is lost
            await trio.testing.wait_all_tasks_blocked()
        async with p.segment() as segment:
            await segment.send(b"hello")
    assert bodies == {b"/a/0": b"5\r\nhello\r\n0\r\n\r\n"}
    assert p.statistics() == PublicationStatistics(segments=1, lost=0, bytes_sent=5)


async def test_a_segment_that_breaks_is_closed_on_the_server_and_the_next_goes_on(
    serve: Any,
) -> None:
    seen: list[bytes] = []

    async def script(peer: Any) -> None:
        while True:
            head = await peer.head()
            seen.append(head.split(b" HTTP")[0])
            if head.startswith(b"POST /a/0 "):
                await peer.until(b"begun\r\n")
                peer.reset()
                return
            if head.startswith(b"POST"):
                await peer.until(b"0\r\n\r\n")
            await peer.send(OK)

    async with serve(script) as server, open_publication(f"{server.url}/a", settings=FIRST) as p:
        with pytest.raises(SegmentLost, match="segment 0"):
            async with p.segment() as segment:
                await segment.send(b"begun")
                while True:
                    await segment.send(b"more")
        async with p.segment() as segment:
            await segment.send(b"next")
            assert segment.seq == 1
    assert p.statistics().lost == 1
    assert seen.count(b"POST /a/0") == 1
    assert b"DELETE /a/0" in seen
    assert b"POST /a/1" in seen


async def test_a_loss_known_by_the_end_of_the_segment_is_told_there(serve: Any) -> None:
    async def script(peer: Any) -> None:
        if b"/0 " not in await peer.head():
            await trio.sleep_forever()
        await peer.until(b"begun\r\n")
        peer.reset()

    async with serve(script) as server, open_publication(f"{server.url}/a", settings=FIRST) as p:
        with pytest.raises(SegmentLost):
            async with p.segment() as segment:
                await segment.send(b"begun")
                while p.statistics().lost == 0:
                    await trio.testing.wait_all_tasks_blocked()
    assert p.statistics() == PublicationStatistics(0, 1, 5)


async def test_an_interrupted_segment_is_not_ended_as_if_whole(relay: str) -> None:
    url = f"{relay}/a"
    async with open_publication(url, settings=CREATE) as publication:
        with pytest.raises(KeyError, match="mine"):
            async with publication.segment() as segment:
                await segment.send(b"half")
                raise KeyError("mine")
        async with publication.segment() as segment:
            await segment.send(b"whole")
            assert segment.seq == 1
        assert (await read_back(url, 2))[1] == b"whole"
    assert publication.statistics().lost == 1


async def test_a_cancelled_segment_is_given_up_and_the_farewell_still_works(relay: str) -> None:
    """The scope around it all is cancelled, and still the whole segments arrive and the channel is deleted."""
    url = f"{relay}/a"
    async with (
        open_publication(f"{relay}/b", settings=CREATE) as other,
        other.segment() as kept,
    ):
        await kept.send(b"not concerned")
        with trio.CancelScope() as scope:
            settings = PublisherSettings(create=True, delete=True)
            async with open_publication(url, settings=settings) as publication:
                async with publication.segment() as segment:
                    await segment.send(b"whole")
                async with publication.segment() as segment:
                    await segment.send(b"half")
                    scope.cancel()
                    await segment.send(b"never")
        assert scope.cancelled_caught
        assert publication.ending is Ending.LEFT
        assert publication.statistics() == PublicationStatistics(1, 1, 9)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/next")).status_code == 404


async def test_leaving_is_bounded_when_the_server_hangs(
    serve: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep_forever()

    async with serve(script, patience=100) as server:
        began = trio.current_time()
        settings = PublisherSettings(first=0, delete=True)
        async with open_publication(f"{server.url}/a", settings=settings) as publication:
            async with publication.segment() as segment:
                await segment.send(b"x")
        assert trio.current_time() - began <= 2.5


async def test_a_server_that_does_not_read_holds_the_writer_back(serve: Any) -> None:
    """Saturation: what the server does not take is not taken from the writer."""

    async def script(peer: Any) -> None:
        await peer.head()
        await trio.sleep_forever()

    async with serve(script) as server, open_publication(f"{server.url}/a", settings=FIRST) as p:
        sent = 0
        with pytest.raises(KeyError):
            async with p.segment() as segment:
                with trio.move_on_after(0.2):
                    while True:
                        await segment.send(bytes(1 << 20))
                        sent += 1
                assert sent < 64
                raise KeyError


async def test_a_channel_that_goes_while_a_segment_is_written(relay: str) -> None:
    url = f"{relay}/a"
    async with open_publication(url, settings=CREATE) as publication:
        with pytest.raises(ChannelEnded):
            async with publication.segment() as segment:
                await segment.send(b"begun")
                async with httpx.AsyncClient() as client:
                    await client.delete(url)
                while True:
                    await segment.send(b"more")
        with pytest.raises(ChannelEnded):
            async with publication.segment():
                raise AssertionError("there is no segment to write")


async def test_who_waits_for_the_end_is_told_while_nothing_is_written(relay: str) -> None:
    url = f"{relay}/a"
    async with open_publication(url, settings=CREATE) as publication, httpx.AsyncClient() as client:
        async with publication.segment() as segment:
            await segment.send(b"x")
        await publication.settled()
        with trio.move_on_after(0):
            await publication.wait_ended()
        assert publication.ending is None
        assert (await client.delete(url)).status_code == 200
        assert await publication.wait_ended() is Ending.CLOSED
        assert publication.status == 200


async def test_nobody_listens(unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}/a"
    async with open_publication(url, settings=FIRST) as publication:
        with pytest.raises(ChannelEnded) as caught:
            async with publication.segment() as segment:
                await segment.send(b"x")
        assert caught.value.ending is Ending.GAVE_UP


async def test_a_segment_given_up_before_its_first_byte_leaves_no_gap(relay: str) -> None:
    url = f"{relay}/a"
    async with open_publication(url, settings=CREATE) as publication:
        with pytest.raises(KeyError):
            async with publication.segment():
                raise KeyError
        async with publication.segment() as segment:
            await segment.send(b"first")
            assert segment.seq == 0
        assert await read_back(url, 1) == [b"first"]
    assert publication.statistics() == PublicationStatistics(1, 0, 5)


async def test_without_settings_the_channel_is_made(relay: str) -> None:
    url = f"{relay}/anew"
    async with open_publication(url) as publication:
        async with publication.segment() as segment:
            await segment.send(b"hello")
        assert await read_back(url, 1) == [b"hello"]


async def test_readers_that_are_behind_get_what_a_deleted_channel_held(relay: str) -> None:
    url = f"{relay}/a"
    start = SubscriberSettings(start=0, wait_for_channel=10, early_pause=0.01)
    leave = PublisherSettings(create=True, delete=True)
    async with open_subscription(url, settings=start) as subscription:
        async with open_publication(url, settings=leave) as publication:
            async with publication.segment() as segment:
                await segment.send(b"0")
            first = await anext(subscription)
            for number in range(1, 5):
                async with publication.segment() as segment:
                    await segment.send(b"%d" % number)
        assert publication.ending is Ending.LEFT
        assert await first.read() == b"0"
        rest = [await segment.read() async for segment in subscription]
    assert rest == [b"1", b"2", b"3", b"4"]
    assert subscription.ending is Ending.CLOSED


async def test_who_comes_after_a_publisher_that_vanished_frees_its_readers() -> None:
    """Nobody deletes the segment that broke off, and the relay itself never would."""
    never = RelaySettings(abandon_timeout=math.inf)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(partial(serve_relay, port=0, settings=never))
            url = f"{bound.url}/a"
            async with await trio.open_tcp_stream(bound.host, bound.port) as vanishing:
                head = b"POST /a/0 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                await vanishing.send_all(head + b"4\r\nhalf\r\n")
                async with open_subscription(url, start=0) as subscription:
                    hanging = await anext(subscription)
                    assert await anext(hanging) == b"half"
                    await vanishing.aclose()
                    async with open_publication(url) as publication:
                        assert await hanging.read() == b""
                        async with publication.segment() as segment:
                            await segment.send(b"whole")
                        assert await (await anext(subscription)).read() == b"whole"
            nursery.cancel_scope.cancel()
