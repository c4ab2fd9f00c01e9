"""Handing items from station to station.

Trio's memory channels would do. They serve any number of readers, and pay for that with an exception
and some bookkeeping an item; and who reads is always a task, which has to be woken before anything
can be done with what has come. Here there is one reader, and it may leave word what is to be done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

import trio

T = TypeVar("T")


class _State(Enum):
    OPEN = auto()
    ENDED = auto()
    """Nobody will put anything in any more; what waits can still be taken."""
    CLOSED = auto()
    """Nobody will take anything."""


class Closing:
    """Closed behind a ``with`` block."""

    __slots__ = ()

    def close(self) -> None:
        """Close it. May be repeated."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Queue(Closing, Generic[T]):
    """Items that wait for one reader, at most ``room`` of them; with none, each waits with its sender.

    This is the reader's end, an async iterator: it ends behind the last item when every sender has
    closed its own end. Close it when nothing more is to be taken.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._items: deque[T] = deque()
        self._state = _State.OPEN
        self._senders = 0
        self._word: Callable[[], None] | None = None
        """What the reader wants done when something is there."""
        self._blocked = trio.lowlevel.ParkingLot()
        """Those who wait for room."""
        self._is_full = False
        """Somebody may be among them: a parking lot is slow to ask."""

    def sender(self) -> Sender[T]:
        """An end to put items in."""
        self._senders += 1
        return Sender(self)

    def when_ready(self, word: Callable[[], None]) -> None:
        """Leave word what to do when there is an item to take, or the end: at once, or as soon as
        there is, from the task that puts it in. It is done once, and must not block.
        """
        if self._items or self._state is not _State.OPEN:
            word()
            return
        self._word = word
        if self._is_full:
            self._make_room(1)  # where there is none, a reader that waits is some

    async def wait(self) -> bool:
        """Wait until there is an item to take; False: there will be none. Cancelling is safe."""
        if self._items or self._state is not _State.OPEN:
            await trio.lowlevel.checkpoint()
        while not self._items and self._state is _State.OPEN:
            self.when_ready(partial(trio.lowlevel.reschedule, trio.lowlevel.current_task()))
            await trio.lowlevel.wait_task_rescheduled(self._forget)
        return bool(self._items)

    def _forget(self, _: object) -> trio.lowlevel.Abort:
        self._word = None
        return trio.lowlevel.Abort.SUCCEEDED

    def take(self, most: int) -> list[T]:
        """Take what waits, at most so many; nothing where nothing does. Does not block."""
        items = self._items
        taken = [items.popleft() for _ in range(min(most, len(items)))]
        if self._is_full:
            self._make_room(len(taken))
        return taken

    def _make_room(self, count: int) -> None:
        self._blocked.unpark(count=count)
        self._is_full = bool(self._blocked)

    def __len__(self) -> int:
        return len(self._items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not await self.wait():
            raise StopAsyncIteration
        item = self._items.popleft()
        if self._is_full:
            self._make_room(1)
        return item

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._blocked)

    def close(self) -> None:
        """Take nothing any more: who puts something in fails from now on."""
        self._become(_State.CLOSED)
        self._items.clear()
        self._word = None

    def _become(self, state: _State) -> None:
        self._state = state
        self._blocked.unpark_all()

    # -- for senders

    async def _wait_for_room(self) -> None:
        self._is_full = True
        await self._blocked.park()

    def _offer(self, item: T) -> bool:
        if self._word is None and len(self._items) >= self.room:
            return False
        self._put(item)
        if (word := self._word) is not None and self._items:
            self._word = None
            word()
        return True

    def _put(self, item: T) -> None:
        self._items.append(item)

    def _leave(self) -> None:
        self._senders -= 1
        self._blocked.unpark_all()  # one of them may have been the one that leaves
        if not self._senders and self._state is _State.OPEN:
            self._end()
            self._become(_State.ENDED)
            if (word := self._word) is not None:
                self._word = None
                word()

    def _end(self) -> None:
        """For queues of other kinds: what they have kept back is to be taken now."""


class Sender(Closing, Generic[T]):
    """An end of a queue to put items in. Close it when nothing more will come from here.

    Everything that puts something in raises ``trio.ClosedResourceError`` when this end is closed, and
    ``trio.BrokenResourceError`` when nobody takes anything any more.
    """

    __slots__ = ("_is_closed", "_queue")

    def __init__(self, queue: Queue[T]) -> None:
        self._queue = queue
        self._is_closed = False

    def offer(self, item: T) -> bool:
        """Put an item in; False: there is no room. Does not block."""
        if self._is_closed:
            raise trio.ClosedResourceError
        if self._queue._state is _State.CLOSED:  # noqa: SLF001 - two halves of one thing
            raise trio.BrokenResourceError
        return self._queue._offer(item)  # noqa: SLF001 - likewise

    async def send(self, item: T) -> None:
        """Put an item in; blocks while there is no room. Cancelling is safe: then it is not in.

        No checkpoint where there is room: every station waits for its input anyway, and each turn
        that it takes for nothing is one more round of the event loop.
        """
        while not self.offer(item):
            await self._queue._wait_for_room()  # noqa: SLF001 - two halves of one thing

    def push(self, item: T) -> T | None:
        """Put an item in where the newest wins: returns the oldest, which had to go where there was
        no room. Does not block.
        """
        if self.offer(item):
            return None
        [oldest] = self._queue.take(1)
        self.offer(item)
        return oldest

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for room."""
        return self._queue.is_waited_for

    def close(self) -> None:
        """Nothing more will come from here. May be repeated."""
        if not self._is_closed:
            self._is_closed = True
            self._queue._leave()  # noqa: SLF001 - two halves of one thing
