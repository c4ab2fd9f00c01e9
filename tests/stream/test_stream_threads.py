"""The thread of a codec: there for a block, gone behind it, never used by two."""

from __future__ import annotations

import threading
import weakref

import pytest
import trio
import trio.testing

from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Stage
from trickle_trio.stream.threads import CodecThread


def codec_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "test codec"]


async def test_a_call_gives_its_result_or_its_exception() -> None:
    with CodecThread("test codec") as thread:
        assert await thread.run(threading.current_thread) is codec_threads()[0]
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0)
        assert await thread.run(lambda: "still there") == "still there"


async def test_the_thread_is_gone_behind_the_block() -> None:
    with pytest.raises(KeyError), CodecThread("test codec"):
        assert len(codec_threads()) == 1
        raise KeyError
    assert codec_threads() == []


async def test_the_loop_goes_on_meanwhile() -> None:
    may_end = threading.Event()
    with CodecThread("test codec") as thread:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run, may_end.wait)
            await trio.testing.wait_all_tasks_blocked()
            may_end.set()


async def test_a_cancelled_call_is_waited_for() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    with CodecThread("test codec") as thread:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run, call)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
            may_end.set()
        assert ended.is_set()


async def test_a_call_in_a_cancelled_scope_is_not_begun() -> None:
    calls: list[int] = []
    with CodecThread("test codec") as thread:
        with trio.CancelScope() as scope:
            scope.cancel()
            await thread.run(lambda: calls.append(1))
        assert await thread.run(lambda: "free") == "free"
    assert calls == []


async def test_nothing_of_a_call_is_kept_behind_it() -> None:
    """What it was made with may be a frame of eleven megabytes."""

    class Large:
        def use(self) -> None:
            """A codec's call."""

    large = Large()
    remains = weakref.ref(large)
    with CodecThread("test codec") as thread:
        await thread.run(large.use)
        del large
        assert remains() is None


async def test_a_failed_call_counts_too() -> None:
    stage = Stage()
    with CodecThread("test codec") as thread:
        await thread.run(lambda: None, stage)
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0, stage)
    assert stage.count == 2


class TestOver:
    """Work on items as they come."""

    async def test_all_are_worked_on_in_order_and_then_it_is_finished(self) -> None:
        items, stage = Queue[int](10), Stage()
        sender = items.sender()
        got: list[list[int]] = []
        with CodecThread("test codec") as thread:
            async with trio.open_nursery() as nursery:

                async def work() -> None:
                    got.extend([batch async for batch in thread.over(items, list, stage, most=3)])

                for item in range(7):
                    sender.offer(item)
                nursery.start_soon(work)
                await trio.testing.wait_all_tasks_blocked(0.01)
                await sender.send(7)
                sender.close()
        assert got == [[0, 1, 2], [3, 4, 5], [6], [7], []]
        assert stage.count == 4

    async def test_it_begins_when_an_item_is_put_and_not_a_turn_later(self) -> None:
        items, begun = Queue[int](10), threading.Event()
        sender = items.sender()

        def note(batch: list[int]) -> None:
            begun.set()

        with CodecThread("test codec") as thread, items:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(anext, thread.over(items, note, Stage()))
                await trio.testing.wait_all_tasks_blocked()
                assert not begun.is_set()
                sender.offer(1)
                assert begun.wait(10), "the loop has not turned"

    async def test_what_fails_raises_there(self) -> None:
        items = Queue[int](10)
        sender = items.sender()
        sender.offer(0)

        def fail(batch: list[int]) -> float:
            return 1 / batch[0]

        with CodecThread("test codec") as thread, items, pytest.raises(ZeroDivisionError):
            await anext(thread.over(items, fail, Stage()))

    async def test_cancelled_while_nothing_comes_it_leaves_at_once(self) -> None:
        items = Queue[int](10)
        sender = items.sender()
        with CodecThread("test codec") as thread:
            async with trio.open_nursery() as nursery:
                with items:
                    nursery.start_soon(anext, thread.over(items, list, Stage()))
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            sender.offer(1)

    async def test_cancelled_at_work_it_waits_for_the_thread(self) -> None:
        items = Queue[int](10)
        sender = items.sender()
        begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

        def work(batch: list[int]) -> None:
            begun.set()
            may_end.wait()
            ended.set()

        with CodecThread("test codec") as thread, items:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(anext, thread.over(items, work, Stage()))
                sender.offer(1)
                await trio.to_thread.run_sync(begun.wait)
                nursery.cancel_scope.cancel()
                may_end.set()
            assert ended.is_set()
