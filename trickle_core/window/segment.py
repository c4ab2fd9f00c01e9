"""One segment's bytes: written once, read by everybody from the same memory."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from attrs import define, field

from trickle_core.window.states import SEGMENT_TRANSITIONS, Input, SegmentState, step

if TYPE_CHECKING:
    from trickle_core.window.reader import Reader

Buffer = bytes | bytearray | memoryview

SMALL: Final = 16 * 1024
"""Pieces below this are joined when there are too many: kept one by one, a byte would cost 80, and
every reader a step of Python."""

RUN: Final = 64
"""So many small pieces in a row are joined. That copies a byte 130 times at worst (pieces of one
byte, joined until they are SMALL), usually once."""


@define(eq=False)
class Segment:
    """Bytes that only grow, addressed by their offset, and those who read them.

    No piece is changed once it is in: readers hold views of it while they send.
    """

    seq: int
    state: SegmentState = SegmentState.FRESH
    readers: dict[Reader, None] = field(factory=dict, init=False)
    """Open GETs, in their order of arrival."""
    sleepers: dict[Reader, None] = field(factory=dict, init=False)
    """Those of them that wait for more."""
    followers: int = field(default=0, init=False)
    """How many of them came from the segment before (see fairness.py)."""
    began: float = field(default=-math.inf, init=False)
    """When its first byte came, by the publisher's own time (see fairness.py)."""
    abandoned_at: float = field(default=math.inf, init=False)
    """When its last writer broke off."""
    size: int = field(default=0, init=False)
    """Bytes that have arrived."""
    _pieces: list[bytes | bytearray] = field(factory=list, init=False)
    _ends: list[int] = field(factory=list, init=False)
    _small: int = field(default=0, init=False)

    @property
    def fresh(self) -> bool:
        """Whether it is only waited for."""
        return self.state is SegmentState.FRESH

    @property
    def closed(self) -> bool:
        """Whether no byte will follow."""
        return self.state is SegmentState.CLOSED

    @property
    def pieces(self) -> int:
        """How many pieces of memory hold the bytes."""
        return len(self._pieces)

    def append(self, data: Buffer) -> None:
        """Take ``data``, which nobody may change any more (a memoryview is copied: it may be a
        window on something large). Raises LocalProtocolError on a closed segment.
        """
        self.state = step(SEGMENT_TRANSITIONS, self.state, Input.BYTES)
        self.size += len(data)
        self._pieces.append(bytes(data) if isinstance(data, memoryview) else data)
        self._ends.append(self.size)
        self._small = self._small + 1 if len(data) < SMALL else 0
        if self._small == RUN:
            self._join_run()

    def _join_run(self) -> None:
        joined = b"".join(self._pieces[-RUN:])
        self._pieces[-RUN:] = [joined]
        self._ends[-RUN:] = [self.size]
        self._small = 1 if len(joined) < SMALL else 0

    def close(self) -> None:
        """No byte will follow. Closing twice is legal."""
        self.state = step(SEGMENT_TRANSITIONS, self.state, Input.CLOSE)

    def read(self, start: int, max_bytes: int) -> list[Buffer]:
        """What is there from offset ``start``, at most ``max_bytes`` of it, without a copy."""
        found: list[Buffer] = []
        index = bisect_right(self._ends, start)
        while index < len(self._pieces) and max_bytes > 0:
            piece = self._pieces[index]
            skip = start - (self._ends[index] - len(piece))
            part = memoryview(piece)[skip : skip + max_bytes]
            found.append(part)
            start += len(part)
            max_bytes -= len(part)
            index += 1
        return found

    def wake(self) -> None:
        """Wake all who wait for more."""
        sleepers, self.sleepers = self.sleepers, {}
        for reader in sleepers:
            reader.waker()
