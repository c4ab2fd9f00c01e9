from __future__ import annotations

import logging
import types
from collections.abc import Generator
from typing import Any

import pytest
import trio

from trickle_trio.processor.watch import LoopWatch


class Clock:
    """Time that passes only where the code under test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def hold(self, *steps: float) -> str:
        for step in steps:
            self.now += step
            await trio.lowlevel.checkpoint()
        return "done"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LoopWatch:
    return LoopWatch("video handler 'slow'", threshold=0.1, interval=60.0, clock=clock)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_a_step_that_holds_the_loop_is_told_with_the_handlers_name(
    watch: LoopWatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert await watch.drive(clock.hold(0.01, 0.25, 0.01)) == "done"
    (message,) = warnings(caplog)
    assert message.startswith("video handler 'slow' held the event loop for 250 ms in one step")
    assert caplog.records[0].name == "trickle_trio.processor"
    assert caplog.records[0].levelno == logging.WARNING
    assert watch.blocked == 1


async def test_many_short_steps_are_no_block(
    watch: LoopWatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await watch.drive(clock.hold(*[0.09] * 20))
    assert watch.blocked == 0
    assert warnings(caplog) == []


async def test_time_between_the_steps_is_not_the_handlers(
    watch: LoopWatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.drive, clock.hold(0.01, 0.01))
        nursery.start_soon(clock.hold, 5.0, 5.0)
    assert warnings(caplog) == []


async def test_warnings_come_at_a_bounded_rate_and_count_what_they_kept_back(
    watch: LoopWatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        await watch.drive(clock.hold(0.2))
    assert len(warnings(caplog)) == 1
    clock.now += 60.0
    await watch.drive(clock.hold(0.2))
    assert len(warnings(caplog)) == 2
    assert "(5 such steps since the last warning)" in warnings(caplog)[1]
    assert watch.blocked == 6


async def test_first_calls_can_be_spared(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    watch = LoopWatch("it", spared=1, clock=clock)
    await watch.drive(clock.hold(2.0))
    assert warnings(caplog) == []
    await watch.drive(clock.hold(2.0))
    assert len(warnings(caplog)) == 1


async def test_exceptions_and_cancellation_pass_both_ways(watch: LoopWatch) -> None:
    seen: list[str] = []

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("mine")

    async def hangs() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append("cancelled inside")
            raise

    with pytest.raises(KeyError, match="mine"):
        await watch.drive(fails())
    with trio.CancelScope() as scope:
        scope.cancel()
        await watch.drive(hangs())
    assert scope.cancelled_caught
    assert seen == ["cancelled inside"]


async def test_a_handler_may_catch_what_is_thrown_in(watch: LoopWatch) -> None:
    async def survives() -> str:
        with trio.move_on_after(0):
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return "survived"

    assert await watch.drive(survives()) == "survived"


async def pause() -> None:
    await trio.lowlevel.checkpoint()


async def test_awaitables_that_are_no_coroutines_are_driven_too(watch: LoopWatch) -> None:
    class Later:
        def __await__(self) -> Generator[Any, Any, int]:
            yield from pause().__await__()
            return 7

    @types.coroutine
    def old() -> Generator[Any, Any, int]:
        yield from pause().__await__()
        return 8

    assert await watch.drive(Later()) == 7
    assert await watch.drive(old()) == 8


async def test_closing_midway_closes_the_handler(watch: LoopWatch) -> None:
    closed: list[bool] = []

    async def waits() -> None:
        try:
            await trio.sleep_forever()
        finally:
            closed.append(True)

    driven = watch.drive(waits())
    driven.send(None)
    driven.close()
    assert closed == [True]
