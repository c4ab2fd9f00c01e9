"""The thread of a codec: there for a block, gone behind it, never used by two."""

from __future__ import annotations

import threading
import weakref

import pytest
import trio
import trio.testing

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


async def test_what_is_posted_comes_before_what_is_run_later() -> None:
    calls: list[str] = []
    with CodecThread("test codec") as thread:
        thread.post(lambda: calls.append("posted"))
        await thread.run(lambda: calls.append("run"))
        thread.post(lambda: calls.append("last"))
    assert calls == ["posted", "run", "last"]
    assert codec_threads() == []


async def test_nothing_of_a_call_is_kept_behind_it() -> None:
    """What it was made with may be a frame of eleven megabytes."""

    class Large:
        def use(self) -> None:
            """A codec's call."""

    large = Large()
    remains = weakref.ref(large)
    with CodecThread("test codec") as thread:
        await thread.run(large.use)
        thread.post(large.use)
        await thread.run(lambda: None)
        del large
        assert remains() is None
