"""Watching a stream without touching it: coded units, copied to whoever looks on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
from attrs import define

from trickle_core.mpegts.units import AccessUnit

VIEWER_BUFFER: Final = 256
"""Units that may wait for a viewer: some three seconds of picture and sound."""


@define(eq=False)
class _Viewer:
    units: trio.MemorySendChannel[AccessUnit]
    in_step: bool = False
    """Whether it has had every unit since a key frame: otherwise it waits for the next one."""


class Tap:
    """A place in the stream where coded units pass by.

    ``offer`` costs nothing while nobody looks on, and never waits: a viewer that lags loses what it
    cannot take, up to the next key frame.
    """

    def __init__(self) -> None:
        self._viewers: set[_Viewer] | None = set()
        """None: closed."""
        self._has_picture = False

    def offer(self, unit: AccessUnit) -> None:
        """Show a unit to everybody who looks on."""
        self._has_picture = self._has_picture or unit.stream.codec.is_video
        for viewer in self._viewers or ():
            self._show(viewer, unit)

    def _show(self, viewer: _Viewer, unit: AccessUnit) -> None:
        starts = unit.key if unit.stream.codec.is_video else not self._has_picture
        viewer.in_step = viewer.in_step or starts
        if not viewer.in_step:
            return
        try:
            viewer.units.send_nowait(unit)
        except trio.WouldBlock:
            viewer.in_step = False

    def close(self) -> None:
        """End every viewer's view: nothing more will pass."""
        viewers, self._viewers = self._viewers, None
        for viewer in viewers or ():
            viewer.units.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[trio.MemoryReceiveChannel[AccessUnit]]:
        """Look on, from the next key frame: the channel ends when the stream does."""
        units_in, units_out = trio.open_memory_channel[AccessUnit](VIEWER_BUFFER)
        viewer = _Viewer(units_in)
        if self._viewers is None:
            units_in.close()
        else:
            self._viewers.add(viewer)
        try:
            with units_in, units_out:
                yield units_out
        finally:
            if self._viewers is not None:
                self._viewers.discard(viewer)
