"""For how long an input may be silent, and what is none of its silence."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.stream.ends import Silence


async def test_it_ends_the_scope_when_it_has_lasted(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    with trio.CancelScope() as scope:
        await Silence(60.0, scope).watch()
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - began == 60.0


async def test_what_comes_and_what_is_passed_on_break_it(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        silence = Silence(60.0, nursery.cancel_scope)
        nursery.start_soon(silence.watch)
        await trio.sleep(50)
        with silence.broken():
            await trio.sleep(1000)
        await trio.sleep(59)
        with silence.broken():
            pass
        await trio.sleep_forever()
    assert trio.current_time() - began == 50 + 1000 + 59 + 60


async def a_while() -> None:
    """Let what is due happen."""
    for _ in range(10):
        await trio.lowlevel.checkpoint()


async def test_while_the_loop_is_held_it_does_not_last(mock_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        silence = Silence(60.0, nursery.cancel_scope)
        nursery.start_soon(silence.watch)
        await wait_all_tasks_blocked()
        mock_clock.jump(100)  # a handler has just held the loop for so long
        await a_while()
        assert not nursery.cancel_scope.cancel_called
        mock_clock.autojump_threshold = 0
        await trio.sleep_forever()
    assert trio.current_time() - began == 100 + 60


async def test_nor_does_it_begin_while_something_is_passed_on(mock_clock: MockClock) -> None:
    passed_on = trio.Event()
    async with trio.open_nursery() as nursery:
        silence = Silence(60.0, nursery.cancel_scope)
        nursery.start_soon(silence.watch)
        await wait_all_tasks_blocked()
        with silence.broken():
            for _ in range(3):
                mock_clock.jump(100)
                await a_while()
            mock_clock.autojump_threshold = 0
            await trio.sleep(1000)
            passed_on.set()
        nursery.cancel_scope.cancel()
    assert passed_on.is_set()
