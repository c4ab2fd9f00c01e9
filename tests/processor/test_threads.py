from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from trickle_trio.processor.threads import ThreadRunner, _Call


class Hang:
    """A call that does not come back until it is let go; it knows no cancellation."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self) -> None:
        self.running.release()
        self.let_go.wait()

    async def wait_running(self) -> None:
        await trio.to_thread.run_sync(self.running.acquire)


@pytest.fixture
def hang() -> Iterator[Hang]:
    hanging = Hang()
    yield hanging
    hanging.let_go.set()


async def wait_until_back(runner: ThreadRunner) -> None:
    # A thread tells nobody that it came back late.
    while runner.hung:
        await trio.lowlevel.checkpoint()


async def test_it_runs_elsewhere_and_returns_or_raises() -> None:
    runner = ThreadRunner(1)
    assert await runner.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ValueError, match="invalid literal"):
        await runner.run(lambda: int("x"))
    assert (runner.abandoned, runner.hung) == (0, 0)


async def test_a_hung_call_is_given_up_at_once_and_counted(hang: Hang) -> None:
    runner = ThreadRunner(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run, hang)
        await hang.wait_running()
        nursery.cancel_scope.cancel()
    assert (runner.abandoned, runner.hung) == (1, 1)
    assert await runner.run(lambda: "others go on") == "others go on"
    hang.let_go.set()
    await wait_until_back(runner)
    assert (runner.abandoned, runner.hung) == (1, 0)


async def test_hung_calls_keep_their_places_so_that_their_number_is_bounded(hang: Hang) -> None:
    runner = ThreadRunner(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run, hang)
        nursery.start_soon(runner.run, hang)
        await hang.wait_running()
        await hang.wait_running()
        nursery.cancel_scope.cancel()
    began: list[bool] = []
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(runner.run, lambda: began.append(True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (runner.abandoned, runner.hung) == (2, 2)
    hang.let_go.set()
    await wait_until_back(runner)
    await runner.run(lambda: None)
    assert began == []


async def test_a_call_in_a_cancelled_scope_never_begins() -> None:
    runner = ThreadRunner(1)
    began: list[bool] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await runner.run(lambda: began.append(True))
    await runner.run(lambda: None)
    assert began == []
    assert runner.abandoned == 0


async def test_a_coroutine_that_nobody_awaits_is_closed(hang: Hang) -> None:
    async def never() -> None: ...

    made: Coroutine[Any, Any, None] = never()

    def late() -> object:
        hang()
        return made

    runner = ThreadRunner(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run, late)
        await hang.wait_running()
        nursery.cancel_scope.cancel()
    hang.let_go.set()
    await wait_until_back(runner)
    await runner.run(lambda: None)
    assert inspect.getcoroutinestate(made) == inspect.CORO_CLOSED


def test_a_result_that_crosses_a_cancellation_is_closed_too() -> None:
    async def never() -> None: ...

    made: Coroutine[Any, Any, None] = never()
    runner = ThreadRunner(1)
    # By hand: the thread is through before the task hears of it, and then the cancellation comes first.
    call = _Call(lambda: made)
    runner._work(call)
    runner._give_up(call)
    assert inspect.getcoroutinestate(made) == inspect.CORO_CLOSED
    assert (runner.abandoned, runner.hung) == (0, 0)


def test_a_call_given_up_before_its_thread_began_does_nothing() -> None:
    runner = ThreadRunner(1)
    began: list[bool] = []
    call = _Call(lambda: began.append(True))
    runner._give_up(call)
    runner._work(call)
    assert began == []
    assert (runner.abandoned, runner.hung) == (0, 0)


PROGRAM = """
import threading, time, torch, trio
from trickle_trio.processor.threads import ThreadRunner

working = threading.Event()

def work():
    pixels = torch.zeros(1, 3, 256, 256)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        working.set()
        pixels = torch.nn.functional.avg_pool2d(pixels, 9, stride=1, padding=4)
    print("done", flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ThreadRunner(1).run, work)
        await trio.to_thread.run_sync(working.wait)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def test_a_call_that_is_in_native_code_at_the_end_does_not_break_the_process() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
