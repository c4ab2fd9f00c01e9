"""The threads that codecs run on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import outcome
import trio
from attrs import define

from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Stage
from trickle_trio.stream.times import loop_clock

T = TypeVar("T")
Item = TypeVar("Item")


class CodecThread:
    """A thread for one station's codec, for the length of a ``with`` block: it is gone when the block is.

    ``trio.to_thread.run_sync`` would do, at twice the price (110 us of CPU a call against 57, on two
    cores), and its threads stay for ten seconds after the last call: a stream that is stopped has to
    leave none behind. That a call has ended is heard over a pair of sockets, by the task that waits
    for it. ``TrioToken.run_sync_soon`` has one too, but a task of Trio's reads it, and wakes ours in
    the next round of the loop.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[outcome.Outcome[Any]] = SimpleQueue()
        self._time = loop_clock()
        self._bell, self._ear = socket.socketpair()
        self._ear.setblocking(False)  # noqa: FBT003  its signature
        self._under_way: tuple[float, Stage | None] | None = None
        """When the call began that is under way, and where its time is counted; None: none is."""
        self._thread = Thread(target=self._work, name=name, daemon=True)

    async def run(self, call: Callable[[], T], stage: Stage | None = None) -> T:
        """Run a codec's call, for its result or its exception. One at a time.

        ``stage``: where its time is counted. Blocks for its length. A cancellation takes effect
        before it, or when it has returned: a codec cannot be interrupted, and must not be used by two
        threads.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.begin(call, stage)
        result: T = await self.end()
        return result

    def over(
        self,
        items: Queue[Item],
        work: Callable[[list[Item]], T],
        stage: Stage,
        *,
        most: int = 1,
    ) -> Work[Item, T]:
        """Have the thread work on items as they come, at most ``most`` at a time: an async iterator of
        what ``work`` returns. Behind the last it is called with none, to finish.

        The next call begins when its result is asked for, or an item is there: in that moment, and
        not after a turn of the loop. Close ``items`` when no more results are asked for.
        """
        return Work(self, items, work, stage, most)

    def begin(self, call: Callable[[], Any], stage: Stage | None) -> None:
        """Begin a call. ``end`` waits for it."""
        self._under_way = self._time(), stage
        self._calls.put(call)

    async def end(self) -> Any:
        """Wait for a call, also for one that is still to begin, and give its result. As ``run``."""
        try:
            await trio.lowlevel.wait_readable(self._ear)
        except BaseException:
            if self._under_way is not None:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.wait_readable(self._ear)
                self._take()
            raise
        return self._take().unwrap()

    def _take(self) -> outcome.Outcome[Any]:
        self._ear.recv(1)
        if self._under_way is not None:
            began, stage = self._under_way
            if stage is not None:
                stage.took(self._time() - began)
        self._under_way = None
        return self._results.get()

    def _work(self) -> None:
        while call := self._calls.get():
            self._results.put(outcome.capture(call))
            del call  # nor the frame in it is kept while there is nothing to do
            self._bell.send(b"\0")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread. No call is under way, for ``run`` waits for its own, so this is quick."""
        self._calls.put(None)
        self._thread.join()
        self._bell.close()
        self._ear.close()


@define(eq=False)
class Work(Generic[Item, T]):
    """See ``CodecThread.over``."""

    _thread: CodecThread
    _items: Queue[Item]
    _work: Callable[[list[Item]], T]
    _stage: Stage
    _most: int
    _is_last: bool = False
    """The call that finishes has begun."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._is_last:
            raise StopAsyncIteration
        self._items.when_ready(self._begin)
        made: T = await self._thread.end()
        return made

    def _begin(self) -> None:
        batch = self._items.take(self._most)
        self._is_last = not batch
        self._thread.begin(partial(self._work, batch), self._stage if batch else None)
