"""A queue between two stations: bounded, in order, ended by its senders, closed by its reader."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.stream.handing import Queue


async def test_what_is_put_in_comes_out_in_order_and_then_the_end() -> None:
    queue = Queue[int](3)
    with queue.sender() as sender:
        assert [sender.offer(item) for item in range(4)] == [True, True, True, False]
        assert len(queue) == 3
    assert [item async for item in queue] == [0, 1, 2]
    assert not await queue.wait()


async def test_it_ends_with_the_last_of_its_senders() -> None:
    queue = Queue[int](3)
    first, second = queue.sender(), queue.sender()
    first.close()
    first.close()
    second.offer(1)
    assert await anext(queue) == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect_end, queue)
        await wait_all_tasks_blocked()
        second.close()


async def _expect_end(queue: Queue[int]) -> None:
    with pytest.raises(StopAsyncIteration):
        await anext(queue)


async def test_a_full_queue_holds_its_senders_back() -> None:
    """Saturation: with room for so many, no more are in, and none is lost."""
    queue = Queue[int](2)
    sent: list[int] = []

    async def send() -> None:
        with queue.sender() as sender:
            for item in range(10):
                await sender.send(item)
                sent.append(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert sent == [0, 1]
        assert queue.is_waited_for
        assert await anext(queue) == 0
        await wait_all_tasks_blocked()
        assert sent == [0, 1, 2]
        assert [item async for item in queue] == list(range(1, 10))


async def test_when_two_leave_at_once_both_that_wait_come_in() -> None:
    queue = Queue[int](2)
    senders = [queue.sender() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for item, sender in enumerate(senders):
            nursery.start_soon(sender.send, item)
        await wait_all_tasks_blocked()
        assert len(queue) == 2
        queue.take(1)
        queue.take(1)
        await wait_all_tasks_blocked()
        assert len(queue) == 2
        assert not queue.is_waited_for


async def test_without_room_each_item_waits_for_its_reader() -> None:
    queue = Queue[int](0)
    sender = queue.sender()
    assert not sender.offer(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send, 1)
        await wait_all_tasks_blocked()
        assert queue.take(1) == []
        assert await anext(queue) == 1


async def test_the_newest_wins_where_that_is_asked_for() -> None:
    queue = Queue[int](2)
    sender = queue.sender()
    assert [sender.push(item) for item in range(4)] == [None, None, 0, 1]
    assert queue.take(9) == [2, 3]


async def test_a_cancelled_reader_loses_nothing_and_may_come_back() -> None:
    queue = Queue[int](2)
    sender = queue.sender()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(anext, queue)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sender.offer(1)
    assert await anext(queue) == 1


async def test_a_cancelled_sender_has_put_nothing_in(autojump_clock: MockClock) -> None:
    queue = Queue[int](1)
    sender = queue.sender()
    sender.offer(1)
    with trio.move_on_after(1) as scope:
        await sender.send(2)
    assert scope.cancelled_caught
    assert not queue.is_waited_for
    assert queue.take(9) == [1]


async def test_a_reader_gives_others_their_turn() -> None:
    queue = Queue[int](9)
    turns: list[str] = []
    with queue.sender() as sender:
        for item in range(3):
            sender.offer(item)

    async def read() -> None:
        turns.extend([f"read {item}" async for item in queue])

    async def other() -> None:
        await trio.lowlevel.checkpoint()
        turns.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(other)
    assert turns.index("other") < 3 or turns[-1] == "other"


class TestClosing:
    async def test_nothing_can_be_put_into_a_closed_queue(self) -> None:
        queue = Queue[int](2)
        sender = queue.sender()
        sender.offer(1)
        with queue:
            pass
        with pytest.raises(trio.BrokenResourceError):
            sender.offer(2)
        assert not await queue.wait()

    async def test_whoever_waits_for_room_then_is_told(self) -> None:
        queue = Queue[int](1)
        sender = queue.sender()
        sender.offer(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect, trio.BrokenResourceError, sender.send, 2)
            await wait_all_tasks_blocked()
            queue.close()

    async def test_and_so_is_who_waits_at_an_end_that_is_closed(self) -> None:
        queue = Queue[int](1)
        sender, _other = queue.sender(), queue.sender()
        sender.offer(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect, trio.ClosedResourceError, sender.send, 2)
            await wait_all_tasks_blocked()
            sender.close()

    async def test_a_word_that_was_left_is_forgotten(self) -> None:
        queue = Queue[int](1)
        sender = queue.sender()
        done: list[int] = []
        queue.when_ready(lambda: done.append(1))
        queue.close()
        sender.close()
        assert done == []


async def _expect(kind: type[Exception], call: object, item: int) -> None:
    assert callable(call)
    with pytest.raises(kind):
        await call(item)


class TestWord:
    """What a reader wants done when something is there."""

    async def test_it_is_done_at_once_where_something_is(self) -> None:
        queue = Queue[int](1)
        queue.sender().offer(1)
        taken: list[int] = []
        queue.when_ready(lambda: taken.extend(queue.take(1)))
        assert taken == [1]

    async def test_or_in_the_moment_in_which_it_is_put_in_and_once(self) -> None:
        queue = Queue[int](5)
        sender = queue.sender()
        taken: list[int] = []
        queue.when_ready(lambda: taken.extend(queue.take(9)))
        sender.offer(1)
        assert taken == [1]
        sender.offer(2)
        assert taken == [1]

    async def test_the_end_is_something_too(self) -> None:
        queue = Queue[int](5)
        sender = queue.sender()
        taken: list[list[int]] = []
        queue.when_ready(lambda: taken.append(queue.take(9)))
        sender.close()
        assert taken == [[]]


@given(
    st.integers(0, 4),
    st.lists(st.lists(st.integers(), max_size=8), min_size=1, max_size=4),
    st.lists(st.sampled_from(["take", "next", "pause"]), max_size=20),
)
@settings(max_examples=60)
def test_whatever_the_pace_nothing_is_lost_or_doubled(
    room: int, given_items: list[list[int]], reads: list[str]
) -> None:
    """Several senders and a reader with moods: each sender's items come out in its order."""
    got: list[tuple[int, int]] = []

    async def send(queue: Queue[tuple[int, int]], number: int) -> None:
        with queue.sender() as sender:
            for item in given_items[number]:
                await sender.send((number, item))
                assert len(queue) <= max(room, 1)

    async def main() -> None:
        queue = Queue[tuple[int, int]](room)
        async with trio.open_nursery() as nursery:
            with queue.sender():
                for number in range(len(given_items)):
                    nursery.start_soon(send, queue, number)
                await wait_all_tasks_blocked()
            for mood in reads:
                if mood == "pause":
                    await wait_all_tasks_blocked()
                elif await queue.wait():
                    got.extend(queue.take(1 if mood == "next" else 3))
            got.extend([item async for item in queue])

    trio.run(main)
    for number, items in enumerate(given_items):
        assert [item for sender, item in got if sender == number] == items
