"""The whole service as one object that runs until it is cancelled."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve, field, frozen, validators

from trickle_trio.service.hosting import Address, host, open_listener, unwrapped

if TYPE_CHECKING:
    from trickle_trio.service.app import TrickleApp  # which can run itself, and so stands above

log: Final = logging.getLogger("trickle_trio")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@frozen(eq=False)
class Service:
    """A service that is ready to run, once: ``trio.run(service)``, or ``await nursery.start(service)``."""

    app: TrickleApp
    host: str = "127.0.0.1"
    port: int = field(default=8000, validator=[validators.ge(0), validators.lt(1 << 16)])

    async def __call__(
        self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run until cancelled; reports the address once it accepts connections.

        Cancelling is the way to stop: streams are stopped, their last segments finished, everything is closed, within
        a bounded time. Given to ``trio.run`` as it is, it also ends on SIGINT and SIGTERM, without an error; beside
        other tasks of yours these are yours. Raises OSError, in one line, where it cannot listen.
        """
        with unwrapped():
            if _is_whole_program():
                await self._run_alone(task_status)
            else:
                await self._run(task_status)

    async def _run_alone(self, task_status: trio.TaskStatus[Address]) -> None:
        with trio.open_signal_receiver(*_SIGNALS) as signals, _log_on_terminal():
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(_heed, signals, scope)
                with scope:
                    await self._run(task_status)
                nursery.cancel_scope.cancel()

    async def _run(self, task_status: trio.TaskStatus[Address]) -> None:
        listener = await open_listener(self.host, self.port)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_protected, listener, stop, task_status)
            try:
                await trio.sleep_forever()
            finally:
                stop.set()

    async def _run_protected(
        self, listener: socket.socket, stop: trio.Event, task_status: trio.TaskStatus[Address]
    ) -> None:
        """House streams and app in a nursery that a cancellation from outside does not reach: it ends by ``stop``.

        It is out of reach from the beginning, because a cancellation that reached a part of Hypercorn before the shield
        was up made it trip over its own closed channel. What still starts is given up as a whole.
        """
        with listener:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.shield = True
                with trio.CancelScope() as starting:
                    nursery.start_soon(_cancel_when, stop, starting)
                    address = await self._start_in(nursery, listener, stop)
                    log.info("Listening on %s (Ctrl-C ends it)", address)
                    task_status.started(address)
                if starting.cancelled_caught:
                    nursery.cancel_scope.cancel()

    async def _start_in(
        self, nursery: trio.Nursery, listener: socket.socket, stop: trio.Event
    ) -> Address:
        """Start the streams, then the app that shows them; return the address where it answers."""

        async def farewell() -> None:
            await stop.wait()
            await self.app.streams.close()

        self.app.guard = evolve(self.app.guard, bound=self.host)
        await nursery.start(self.app.streams.run)
        address: Address = await nursery.start(partial(host, self.app, listener, farewell))
        return address


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _is_whole_program() -> bool:
    """Whether nothing runs beside the service: only then are the process' signals ours to take.

    That is so in the first task of a run that has opened no nursery: ``trio.run(service)``, or a main function that
    does nothing else while it awaits the service.
    """
    task, above = trio.lowlevel.current_task(), trio.lowlevel.current_task().parent_nursery
    is_first = above is not None and above.parent_task is trio.lowlevel.current_root_task()
    is_alone = is_first and not task.child_nurseries
    return is_alone and threading.current_thread() is threading.main_thread()


async def _heed(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """Take every signal: one that came twice must not go off behind the end."""
    async for number in signals:
        log.info("%s: ending", signal.Signals(number).name)
        scope.cancel()


@contextmanager
def _log_on_terminal() -> Iterator[None]:
    """Show what the service says on stderr, where the program has set up no logging of its own."""
    if log.hasHandlers():
        yield
        return
    handler, level = logging.StreamHandler(), log.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
