"""The other side of ``worker``: starts such a process, speaks with it, and sees to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from attrs import define

START: Final = 60.0
"""Seconds that a worker may take to begin: it imports much, and machines are slow at times."""
ANSWER: Final = 10.0
FAREWELL: Final = 2.0
"""Seconds in which it may end by itself."""


class BenchError(Exception):
    """Nothing can be measured here. The text is one line for the user."""


@define(eq=False)
class Worker:
    """One such process. One order at a time."""

    _process: trio.Process
    _rest: bytes = b""

    async def tell(self, **order: Any) -> None:
        """Send an order. A checkpoint."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        try:
            await self._process.stdin.send_all(json.dumps(order).encode() + b"\n")
        except trio.BrokenResourceError:
            raise await self._gone() from None

    async def ask(self) -> dict[str, Any]:
        """Ask for figures and wait for them."""
        await self.tell()
        return await self.answer(ANSWER)

    async def answer(self, patience: float) -> dict[str, Any]:
        """Wait for the next line. ``BenchError``: it ended, or said nothing for ``patience`` seconds."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with trio.move_on_after(patience):
            while b"\n" not in self._rest:
                piece = await self._process.stdout.receive_some()
                if not piece:
                    raise await self._gone()
                self._rest += piece
            line, _, self._rest = self._rest.partition(b"\n")
            answer: dict[str, Any] = json.loads(line)
            return answer
        raise BenchError(f"the process that is measured said nothing for {patience:g} s")

    async def _gone(self) -> BenchError:
        with trio.move_on_after(FAREWELL):
            await self._process.wait()
        return BenchError(f"the process that is measured ended: code {self._process.returncode}")


@asynccontextmanager
async def open_worker(role: str) -> AsyncIterator[tuple[Worker, dict[str, Any]]]:
    """Run a worker for the length of a block, and give what it says first. It has ended when the block has, also when
    that is cancelled: it gets a moment to do so by itself, then it is killed.

    It has a session of its own: a Ctrl-C is this process's to act upon.
    """
    arguments = [sys.executable, "-m", "trickle_trio.bench.worker", role]
    process = await trio.lowlevel.open_process(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        worker = Worker(process)
        yield worker, await worker.answer(START)
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None  # noqa: S101 - it was asked for
    assert process.stdout is not None  # noqa: S101 - it was asked for
    with trio.CancelScope(shield=True):
        await process.stdin.aclose()
        with trio.move_on_after(FAREWELL):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.stdout.aclose()
