"""A container in a channel: bytes that are no transport stream, read by libav.

libav reads from a file that blocks, so it does that on a thread of its own, from a pipe of the
system's, which bounds what is under way. Who cancels calls a read that waits back, and the thread
ends.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from trickle_core.mpegts import AccessUnit, ProgramMap
from trickle_trio.media.sources import PipeSource, SourceError, TrackSettings
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.threads import CodecThread


@define(eq=False)
class Container:
    """One container, from its first byte to its last. ``program`` and ``unit`` are given what is in
    it, in order; they may wait, and hold back who writes.
    """

    settings: TrackSettings
    program: Callable[[ProgramMap], Awaitable[None]]
    unit: Callable[[AccessUnit], Awaitable[None]]
    meters: Meters
    _source: PipeSource = field(init=False)
    _bytes: trio.lowlevel.FdStream = field(init=False)
    _read: trio.Event = field(factory=trio.Event)
    """All of it has been."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read what is written until ``end``, or until libav has had enough of it. A container that
        cannot be read is counted, not raised. Cancelling is safe, nothing is left.
        """
        reading, writing = os.pipe()
        with open(reading, "rb", buffering=0) as file:  # noqa: PTH123, ASYNC230  a descriptor
            async with trio.lowlevel.FdStream(writing) as self._bytes:
                self._source = PipeSource(file, shown="the input", tracks=self.settings)
                task_status.started()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._call_back)
                    await self._pass_on()
                    nursery.cancel_scope.cancel()
        self._read.set()

    async def write(self, data: bytes) -> None:
        """The next bytes. Blocks while the pipe is full; what comes behind the end is left out."""
        try:
            await self._bytes.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.meters.error("damage", "bytes behind the end of a container")

    async def end(self) -> None:
        """No more bytes will be written: wait until all that is in them has been passed on."""
        await self._bytes.aclose()
        await self._read.wait()

    async def _call_back(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._source.close()

    async def _pass_on(self) -> None:
        with CodecThread("trickle container") as thread:
            try:
                await thread.run(self._source.open)
                await self.program(ProgramMap(self._source.streams))
                while units := await thread.run(self._source.read):
                    for unit in units:
                        await self.unit(unit)
            except SourceError as error:
                self.meters.error("damage", str(error))
