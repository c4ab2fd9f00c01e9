"""Segments one by one: ``TrickleSubscriber`` and ``TricklePublisher``."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from trickle_core.commands import Ending
from trickle_trio import ChannelEnded, TricklePublisher, TrickleSubscriber

TEXT = "text/plain"


async def test_there_and_back(relay: str) -> None:
    url = f"{relay}/words"
    async with TricklePublisher(url, TEXT) as publisher:
        async with await publisher.next() as segment:
            await segment.write(b"one ")
            await segment.write(b"two")
        async with TrickleSubscriber(url) as subscriber:
            came = await subscriber.next()
            assert came is not None
            assert (came.seq(), came.eos(), segment.seq()) == (0, False, 0)
            assert await came.read(-1) == b"one two"
            assert await came.read() == b""
            async with await publisher.next() as second:
                await second.write(b"three")
            came = await subscriber.next()
            assert came is not None
            assert [piece async for piece in came] == [b"three"]


async def test_opened_by_their_first_use_and_closed_by_a_call_from_any_task(relay: str) -> None:
    url = f"{relay}/words"
    publisher, subscriber = TricklePublisher(url, TEXT), TrickleSubscriber(url, start_seq=0)
    with trio.fail_after(10):
        segment = await publisher.next()
        await segment.write(b"word")
        await segment.close()
        await segment.close()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(10):
            came = await subscriber.next()
        assert came is not None
        assert [await came.read(3), await came.read(3), await came.read(3)] == [b"wor", b"d", b""]
        nursery.start_soon(subscriber.close)
        nursery.start_soon(publisher.close)
    assert await subscriber.next() is None
    with pytest.raises(RuntimeError, match="this TricklePublisher is closed"):
        await publisher.next()
    await subscriber.close()


async def test_one_that_nobody_closes_ends_with_the_run(relay: str) -> None:
    publisher = TricklePublisher(f"{relay}/words", TEXT)
    await publisher.start()
    async with await publisher.next() as segment:
        await segment.write(b"word")


async def test_a_channel_that_ends_gives_no_segment(relay: str) -> None:
    async with TrickleSubscriber(f"{relay}/nothing") as subscriber:
        assert await subscriber.next() is None


async def test_a_segment_that_is_left_is_read_no_further(relay: str) -> None:
    url = f"{relay}/words"
    async with TricklePublisher(url, TEXT) as publisher, TrickleSubscriber(url, 0) as subscriber:
        for word in (b"first", b"second"):
            async with await publisher.next() as segment:
                await segment.write(word)
        came = await subscriber.next()
        assert came is not None
        assert await came.read(2) == b"fi"
        await came.close()
        assert await came.read() == b""
        came = await subscriber.next()
        assert came is not None
        assert await came.read() == b"second"


async def test_a_block_that_raises_ends_no_segment_as_whole(relay: str) -> None:
    url = f"{relay}/words"
    async with TricklePublisher(url, TEXT) as publisher, TrickleSubscriber(url, 0) as subscriber:
        with pytest.raises(LookupError):
            async with await publisher.next() as segment:
                await segment.write(b"half")
                raise LookupError("in the middle")
        async with await publisher.next() as segment:
            await segment.write(b"whole")
        texts = []
        while (came := await subscriber.next()) is not None:
            texts.append(await came.read(-1))
            if texts[-1] == b"whole":
                break
    assert texts in ([b"half", b"whole"], [b"whole"], [b"", b"whole"])


@pytest.mark.parametrize("moment", range(10))
@pytest.mark.parametrize("kind", [TrickleSubscriber, TricklePublisher])
async def test_the_first_use_can_be_cancelled_at_any_moment(
    unused_port: int, kind: type[TrickleSubscriber | TricklePublisher], moment: int
) -> None:
    face = kind(f"http://127.0.0.1:{unused_port}/words")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(face.next)
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await face.close()


@pytest.mark.parametrize("moment", range(10))
@pytest.mark.parametrize("kind", [TrickleSubscriber, TricklePublisher])
async def test_a_first_use_that_was_cancelled_can_be_made_again(
    unused_port: int, kind: type[TrickleSubscriber | TricklePublisher], moment: int
) -> None:
    face = kind(f"http://127.0.0.1:{unused_port}/words")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(face.start)
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await face.start()
        await face.close()


@pytest.mark.parametrize("moment", range(10))
@pytest.mark.parametrize("kind", [TrickleSubscriber, TricklePublisher])
async def test_what_is_being_opened_can_be_closed_from_another_task_at_any_moment(
    unused_port: int, kind: type[TrickleSubscriber | TricklePublisher], moment: int
) -> None:
    async def start() -> None:
        with suppress(RuntimeError):  # it is closed, if the other was quicker
            await face.start()

    for _ in range(10):  # Trio shuffles the tasks of one turn
        face = kind(f"http://127.0.0.1:{unused_port}/words")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(start)
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                await face.close()


async def test_a_server_that_is_out_of_reach_is_said(
    unused_port: int, autojump_clock: MockClock
) -> None:
    async with TricklePublisher(f"http://127.0.0.1:{unused_port}/words") as publisher:
        with pytest.raises(ChannelEnded) as caught:
            await publisher.next()
    assert caught.value.ending is Ending.GAVE_UP


async def test_a_block_is_entered_once(relay: str) -> None:
    subscriber = TrickleSubscriber(f"{relay}/words")
    async with subscriber:
        with pytest.raises(RuntimeError, match="opened already"):
            await subscriber.__aenter__()
    with pytest.raises(RuntimeError, match="opened already"):
        await subscriber.__aenter__()
    with pytest.raises(ValueError, match="names no channel"):
        TrickleSubscriber(relay)
