"""The threads that codecs run on."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

import outcome
import trio

T = TypeVar("T")

_Call = tuple[Callable[[], Any], trio.lowlevel.Task | None]


class CodecThread:
    """A thread for one station's codec, for the length of a ``with`` block: it is gone when the block is.

    ``trio.to_thread.run_sync`` would do, at twice the price (110 us of CPU a call against 57, on two
    cores), and its threads stay for ten seconds after the last call: a stream that is stopped has to
    leave none behind.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = Thread(target=self._work, name=name, daemon=True)

    async def run(self, call: Callable[[], T]) -> T:
        """Run a codec's call, for its result or its exception. One at a time.

        Blocks for its length. A cancellation takes effect before it, or when it has returned: a codec
        cannot be interrupted, and must not be used by two threads.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._calls.put((call, trio.lowlevel.current_task()))
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def post(self, call: Callable[[], None]) -> None:
        """Have a call made that nobody waits for, before those that come later. It must not raise.
        Never blocks.
        """
        self._calls.put((call, None))

    def _work(self) -> None:
        while item := self._calls.get():
            self._answer(*item)
            del item  # nor the frame in it, while there is nothing to do

    def _answer(self, call: Callable[[], Any], task: trio.lowlevel.Task | None) -> None:
        result = outcome.capture(call)
        if task is not None:
            self._token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread: at once, for ``run`` waits for its calls, or behind a call that was posted."""
        self._calls.put(None)
        self._thread.join()
