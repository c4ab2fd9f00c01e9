"""Pacing, to the millisecond, on a clock that jumps."""

from __future__ import annotations

import trio
from trio.testing import MockClock, assert_checkpoints

from trickle_core.mpegts import CLOCK_RATE
from trickle_trio.stream.feed import LONGEST_BURST, Pacer

FRAME = CLOCK_RATE // 50
"""20 ms: a whole number of ticks and of milliseconds."""


async def sent(pacer: Pacer, first: int, count: int, work: float = 0.0) -> list[float]:
    """When each of so many frames was let go, from now on; each takes so much work then."""
    start, times = trio.current_time(), []
    for number in range(first, first + count):
        await pacer.wait(12_345_678 + number * FRAME)
        times.append(round(trio.current_time() - start, 6))
        await trio.sleep(work)
    return times


async def test_frames_leave_when_they_are_due(autojump_clock: MockClock) -> None:
    assert await sent(Pacer(), 0, 5) == [0.0, 0.02, 0.04, 0.06, 0.08]


async def test_work_between_them_does_not_add_up(autojump_clock: MockClock) -> None:
    times = await sent(Pacer(), 0, 3_000, work=0.013)
    assert times == [round(number * 0.02, 6) for number in range(3_000)]


async def test_after_a_stall_it_catches_up(autojump_clock: MockClock) -> None:
    pacer = Pacer()
    await sent(pacer, 0, 1)
    await trio.sleep(0.1)
    assert await sent(pacer, 1, 7) == [0.0, 0.0, 0.0, 0.0, 0.0, 0.02, 0.04]


async def test_after_a_long_stall_it_does_not_send_all_at_once(autojump_clock: MockClock) -> None:
    pacer = Pacer()
    await sent(pacer, 0, 1)
    await trio.sleep(60)
    times = await sent(pacer, 1, 200)
    burst = round(LONGEST_BURST / 0.02) + 1
    assert times[:burst] == [0.0] * burst
    assert times[burst:] == [round(0.02 * n, 6) for n in range(1, 201 - burst)]


async def test_it_says_how_late_a_unit_is(autojump_clock: MockClock) -> None:
    pacer = Pacer(burst=1.0)
    assert await pacer.wait(0) == 0.0
    assert await pacer.wait(FRAME) == 0.0
    await trio.sleep(0.5)
    assert round(await pacer.wait(2 * FRAME), 6) == 0.48
    await trio.sleep(10)
    assert round(await pacer.wait(3 * FRAME), 6) == 10.46
    assert round(await pacer.wait(4 * FRAME), 6) == 0.98


async def test_it_is_a_checkpoint_also_when_late(autojump_clock: MockClock) -> None:
    pacer = Pacer()
    await pacer.wait(0)
    await trio.sleep(1)
    with assert_checkpoints():
        await pacer.wait(FRAME)
