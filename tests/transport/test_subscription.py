"""Subscriptions: over the real relay, and against servers that misbehave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve

from trickle_core.commands import Ending
from trickle_core.publisher import PublisherSettings
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.driver import ChannelEnded, channel_url
from trickle_trio.publication import open_publication
from trickle_trio.subscription import SubscriptionStatistics, open_subscription

QUICK = RetryPolicy(first=0.001, longest=0.01, give_up_after=0.05)
FROM_START = SubscriberSettings(start=0, wait_for_channel=10, early_pause=0.005, retry=QUICK)


def answer(seq: int, body: bytes, *extra: str) -> bytes:
    head = [f"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: {seq}", f"Content-Length: {len(body)}", *extra]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


CLOSED = b"HTTP/1.1 200 OK\r\nLp-Trickle-Closed: terminated\r\nContent-Length: 0\r\n\r\n"


def script_of(answers: dict[str, list[bytes]]) -> Callable[[Any], Awaitable[None]]:
    """Answers each path with what is left for it, in turn; what is not in the list waits for ever."""

    async def script(peer: Any) -> None:
        while True:
            head = await peer.head()
            name = head.split(b" ")[1].decode().rpartition("/")[2]
            if not answers.get(name):
                await trio.sleep_forever()
            await peer.send(answers[name].pop(0))

    return script


async def test_segments_come_whole_in_order_and_then_the_end(relay: str) -> None:
    url = f"{relay}/a"
    settings = PublisherSettings(create=True, delete=True)
    async with open_subscription(url, settings=FROM_START) as subscription:
        read = []
        async with open_publication(url, settings=settings) as publication:
            for data in (b"one", b"", b"three"):
                async with publication.segment() as segment:
                    await segment.send(data)
                incoming = await anext(subscription)
                read.append((incoming.seq, await incoming.read()))
        assert [segment async for segment in subscription] == []
    assert read == [(0, b"one"), (1, b""), (2, b"three")]
    assert subscription.ending in (
        Ending.CLOSED,
        Ending.GONE,
    )  # by whether the GET was there already
    assert subscription.statistics() == SubscriptionStatistics(segments=3, bytes_received=8)


async def test_bytes_come_while_the_segment_is_written(relay: str) -> None:
    url = f"{relay}/live"
    settings = PublisherSettings(create=True)
    async with (
        open_publication(url, settings=settings) as publication,
        open_subscription(url, settings=FROM_START) as subscription,
        publication.segment() as outgoing,
    ):
        await outgoing.send(b"first")
        incoming = await anext(subscription)
        assert await anext(incoming) == b"first"
        await outgoing.send(b"second")
        assert await anext(incoming) == b"second"
        assert incoming.held == 0
        async with open_subscription(url) as late:
            joined = await anext(late)
            assert joined.held == len(b"firstsecond")


async def test_a_channel_that_is_not_there_ends_the_subscription(relay: str) -> None:
    async with open_subscription(f"{relay}/nothing") as subscription:
        assert [segment async for segment in subscription] == []
    assert (subscription.ending, subscription.status) == (Ending.GONE, 404)


@pytest.mark.parametrize(
    ("status", "ending"), [(403, Ending.REFUSED), (500, Ending.GAVE_UP), (301, Ending.GAVE_UP)]
)
async def test_a_server_that_refuses_or_fails_raises(
    serve: Any, status: int, ending: Ending
) -> None:
    async def script(peer: Any) -> None:
        while True:
            await peer.head()
            await peer.send(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    async with (
        serve(script) as server,
        open_subscription(f"{server.url}/a", settings=FROM_START) as subscription,
    ):
        with pytest.raises(ChannelEnded) as caught:
            await anext(subscription)
    assert caught.value.ending is ending
    assert f"{server.url}/a" in str(caught.value)


async def test_nobody_listens(unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}/a"
    async with open_subscription(url, settings=FROM_START) as subscription:
        with pytest.raises(ChannelEnded, match="could not be reached"):
            await anext(subscription)
        with pytest.raises(ChannelEnded):
            await anext(subscription)


async def test_a_broken_segment_is_marked_and_the_next_one_comes(serve: Any) -> None:
    async def script(peer: Any) -> None:
        head = await peer.head()
        if b"/0 " in head:
            await peer.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\nabc"
            )
        elif b"/1 " in head:
            await peer.send(answer(1, b"whole"))
        else:
            await peer.send(CLOSED)

    async with (
        serve(script) as server,
        open_subscription(f"{server.url}/a", settings=FROM_START) as subscription,
    ):
        seen = []
        async for segment in subscription:
            data = await segment.read()
            seen.append((segment.seq, data[:4], segment.truncated))
    assert seen == [(0, b"half", True), (1, b"whol", False)]
    assert subscription.statistics().truncated == 1


async def test_skipped_segments_are_told(serve: Any) -> None:
    behind = (
        b"HTTP/1.1 470 \r\nLp-Trickle-Latest: 8\r\nLp-Trickle-Seq: 1\r\nContent-Length: 0\r\n\r\n"
    )
    script = script_of(
        {"0": [answer(0, b"a")], "1": [behind], "-2": [answer(7, b"b")], "8": [CLOSED]}
    )
    async with (
        serve(script) as server,
        open_subscription(f"{server.url}/a", settings=FROM_START) as subscription,
    ):
        seen = [(segment.seq, segment.skipped) async for segment in subscription]
    assert seen == [(0, 0), (7, 6)]
    assert subscription.statistics().skipped == 6


async def test_asking_for_the_next_segment_leaves_the_present_one(relay: str) -> None:
    url = f"{relay}/leave"
    async with (
        open_publication(url, settings=PublisherSettings(create=True)) as publication,
        open_subscription(url, settings=FROM_START) as subscription,
    ):
        async with publication.segment() as outgoing:
            await outgoing.send(bytes(1000))
            first = await anext(subscription)
            await anext(first)
            await outgoing.send(bytes(1000))
        async with publication.segment() as outgoing:
            await outgoing.send(b"next")
            second = await anext(subscription)
    assert first.truncated
    assert (first.seq, second.seq) == (0, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(first)


async def test_a_cancelled_wait_loses_no_segment(relay: str) -> None:
    url = f"{relay}/patience"
    async with (
        open_publication(url, settings=PublisherSettings(create=True)) as publication,
        open_subscription(url, settings=FROM_START) as subscription,
    ):
        with trio.move_on_after(0):
            await anext(subscription)
        async with publication.segment() as segment:
            await segment.send(b"here")
        assert await (await anext(subscription)).read() == b"here"


async def test_a_cancelled_read_gives_the_segment_up(relay: str) -> None:
    url = f"{relay}/halves"
    async with (
        open_publication(url, settings=PublisherSettings(create=True)) as publication,
        open_subscription(url, settings=FROM_START) as subscription,
        publication.segment() as outgoing,
    ):
        await outgoing.send(b"begun")
        segment = await anext(subscription)
        assert await anext(segment) == b"begun"
        with trio.move_on_after(0):
            await anext(segment)
        assert segment.truncated
        assert await segment.read() == b""


async def test_leaving_the_block_ends_an_iteration_elsewhere(relay: str) -> None:
    url = f"{relay}/close"
    async with (
        open_publication(url, settings=PublisherSettings(create=True)),
        open_subscription(url, settings=FROM_START) as subscription,
        trio.open_nursery() as nursery,
    ):
        ended = trio.Event()

        async def read() -> None:
            assert [segment async for segment in subscription] == []
            ended.set()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        subscription.close()
        await ended.wait()
    assert subscription.ending is Ending.LEFT


async def test_a_slow_reader_holds_the_server_back(serve: Any) -> None:
    """Saturation: what is not read is not fetched, beyond what the sockets' own buffers hold."""
    sent = 0

    async def script(peer: Any) -> None:
        nonlocal sent
        if b"/0 " not in await peer.head():
            await trio.sleep_forever()
        await peer.send(b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 0\r\n\r\n")
        while True:
            await peer.send(bytes(1 << 20))
            sent += 1

    async with (
        serve(script) as server,
        open_subscription(f"{server.url}/a", settings=FROM_START) as subscription,
    ):
        segment = await anext(subscription)
        await anext(segment)
        await trio.testing.wait_all_tasks_blocked(0.05)
        stalled = sent
        assert stalled < 64
        while sent == stalled:
            await anext(segment)


async def test_through_the_users_own_client(relay: str) -> None:
    seen: list[str] = []

    async def note(request: httpx.Request) -> None:
        seen.append(request.headers["x-user"])

    url = f"{relay}/client"
    hooks = {"request": [note]}
    async with (
        httpx.AsyncClient(headers={"x-user": "me"}, event_hooks=hooks) as client,
        open_publication(
            url, client=client, settings=PublisherSettings(create=True)
        ) as publication,
    ):
        async with publication.segment() as segment:
            await segment.send(b"hello")
        async with open_subscription(url, client=client, settings=FROM_START) as subscription:
            assert await (await anext(subscription)).read() == b"hello"
    assert set(seen) == {"me"}


async def test_what_the_block_raises_comes_out_bare(relay: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_subscription(f"{relay}/a"):
            raise KeyError("mine")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hello",
        "ftp://host/a",
        "http://",
        "http://host",
        "http://host/",
        "http://host/a?b",
        "http://[::1/a",
        "http://h:99999/a",
        "http://ho st/a",
    ],
)
async def test_what_is_no_channel_address_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="channel"):
        channel_url(url)
    with pytest.raises(ValueError, match="channel"):
        async with open_subscription(url):
            raise AssertionError("it must not open")


async def test_the_position_goes_before_the_settings(serve: Any) -> None:
    asked = []

    async def script(peer: Any) -> None:
        asked.append((await peer.head()).split(b" ")[1])
        await peer.send(CLOSED)

    async with serve(script) as server:
        for start in (None, "live", "next", 12):
            settings = evolve(FROM_START, start=5)
            url = f"{server.url}/base/a/"
            async with open_subscription(url, start=start, settings=settings) as subscription:
                assert [segment async for segment in subscription] == []
    assert asked == [b"/base/a/5", b"/base/a/-2", b"/base/a/-1", b"/base/a/12"]
