from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from trickle_trio.processor.errors import HandlerError
from trickle_trio.processor.loading import LoadState, ModelLoad


class Model:
    """Takes a second to load; fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.attempts: list[Mapping[str, Any]] = []

    async def load(self, params: Mapping[str, Any]) -> None:
        self.attempts.append(params)
        await trio.sleep(1)
        if len(self.attempts) <= self.failures:
            raise HandlerError("loader", f"failed {len(self.attempts)}") from OSError("no file")


def standing(guard: ModelLoad) -> LoadState:
    """Ask anew each time: a type checker remembers what an attribute was."""
    return guard.state


async def test_it_loads_once_and_tells_where_it_stands(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = Model()
    guard = ModelLoad(model.load)
    assert standing(guard) is LoadState.NOT_LOADED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guard.ensure, {"a": 1})
        await trio.testing.wait_all_tasks_blocked()
        assert standing(guard) is LoadState.LOADING
    assert standing(guard) is LoadState.LOADED
    await guard.ensure({"b": 2})
    assert model.attempts == [{"a": 1}]


async def test_a_second_call_waits_for_the_first(autojump_clock: trio.testing.MockClock) -> None:
    model = Model()
    guard = ModelLoad(model.load)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(guard.ensure, {})
    assert standing(guard) is LoadState.LOADED
    assert len(model.attempts) == 1


async def test_who_waits_shares_the_failure_and_who_comes_later_tries_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = Model(failures=1)
    guard = ModelLoad(model.load)
    caught: list[HandlerError] = []

    async def ask() -> None:
        with pytest.raises(HandlerError) as error:
            await guard.ensure({})
        caught.append(error.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert len(model.attempts) == 1
    assert standing(guard) is LoadState.FAILED
    assert [str(error) for error in caught] == ["loader failed 1"] * 3
    assert len({id(error) for error in caught}) == 3
    assert {type(error.__cause__) for error in caught} == {OSError}
    await guard.ensure({})
    assert standing(guard) is LoadState.LOADED
    assert guard.error is None
    assert len(model.attempts) == 2


async def test_when_the_first_is_cancelled_another_takes_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = Model()
    guard = ModelLoad(model.load)
    async with trio.open_nursery() as nursery:
        impatient = trio.CancelScope()

        async def first() -> None:
            with impatient:
                await guard.ensure({})

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(guard.ensure, {})
        nursery.start_soon(guard.ensure, {})
        await trio.testing.wait_all_tasks_blocked()
        impatient.cancel()
    assert standing(guard) is LoadState.LOADED
    assert len(model.attempts) == 2


async def test_cancelling_one_who_waits_leaves_the_attempt_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = Model()
    guard = ModelLoad(model.load)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guard.ensure, {})
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.5) as scope:
            await guard.ensure({})
        assert scope.cancelled_caught
        assert standing(guard) is LoadState.LOADING
    assert len(model.attempts) == 1
    assert standing(guard) is LoadState.LOADED


async def test_a_cancelled_load_can_be_asked_for_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = Model()
    guard = ModelLoad(model.load)
    with trio.move_on_after(0.5):
        await guard.ensure({})
    assert standing(guard) is LoadState.NOT_LOADED
    await guard.ensure({})
    assert len(model.attempts) == 2
