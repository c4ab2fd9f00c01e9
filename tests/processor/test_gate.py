from __future__ import annotations

import pytest
import trio
import trio.testing

from trickle_trio.processor.gate import FrameGate


async def frame(gate: FrameGate, log: list[str], name: str, seconds: float) -> None:
    async with gate.frame():
        log.append(f"{name} in")
        await trio.sleep(seconds)
        log.append(f"{name} out")


async def update(gate: FrameGate, log: list[str], name: str, seconds: float = 0) -> None:
    async with gate.update():
        log.append(f"{name} in")
        await trio.sleep(seconds)
        log.append(f"{name} out")


async def test_frames_pass_together(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []
    gate = FrameGate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(frame, gate, log, "video", 2)
        await trio.sleep(1)
        nursery.start_soon(frame, gate, log, "audio", 2)
    assert log == ["video in", "audio in", "video out", "audio out"]


async def test_an_update_waits_for_frames_and_holds_later_ones(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    gate = FrameGate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(frame, gate, log, "one", 3)
        await trio.sleep(1)
        nursery.start_soon(update, gate, log, "update", 2)
        await trio.sleep(1)
        nursery.start_soon(frame, gate, log, "two", 1)
    assert log == ["one in", "one out", "update in", "update out", "two in", "two out"]


async def test_a_busy_stream_does_not_starve_updates(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    gate = FrameGate()

    async def stream(name: str) -> None:
        for number in range(20):
            await frame(gate, log, f"{name}{number}", 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream, "v")
        await trio.sleep(0.5)
        nursery.start_soon(stream, "a")
        await trio.sleep(0.1)
        nursery.start_soon(update, gate, log, "first")
        await trio.sleep(0.1)
        nursery.start_soon(update, gate, log, "second")
    assert log[:4] == ["v0 in", "a0 in", "v0 out", "a0 out"]
    assert log[4:8] == ["first in", "first out", "second in", "second out"]
    assert len(log) == 84


@pytest.mark.parametrize("what", ["frame", "update"])
async def test_a_cancelled_one_leaves_the_gate_as_it_was(
    what: str, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[str] = []
    gate = FrameGate()
    with trio.move_on_after(1):
        if what == "frame":
            await frame(gate, log, "hung", 10**6)
        else:
            await update(gate, log, "hung", 10**6)
    await update(gate, log, "update")
    await frame(gate, log, "frame", 1)
    assert log == ["hung in", "update in", "update out", "frame in", "frame out"]


async def test_an_update_given_up_while_it_waits_lets_frames_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    gate = FrameGate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(frame, gate, log, "long", 5)
        await trio.sleep(1)
        with trio.move_on_after(1):
            await update(gate, log, "update")
        await frame(gate, log, "short", 1)
    assert log == ["long in", "short in", "short out", "long out"]
