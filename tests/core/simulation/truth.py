"""What was really published, written down beside the machines so that a reader's bytes can be
held against it.

A segment's bytes are a row of cells of 16 bytes, each with the segment's serial number and its own
place in the row. So bytes that are missing, doubled, mixed up or of two segments cannot look right.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from typing import Final

from attrs import define, field

CELL: Final = 16

KEPT: Final = 4_000
"""Segments remembered: many more than any server, buffer or slow reader holds."""


class Violation(AssertionError):
    """A promise was broken."""


def require(kept: object, promise: str, *details: object) -> None:
    """Say which promise was broken, if it was."""
    if not kept:
        raise Violation(" ".join((promise, *map(repr, details))))


class Fate(Enum):
    """What the writer knows of its segment."""

    WRITING = auto()
    ENDED = auto()
    """Written whole; no answer yet."""
    CONFIRMED = auto()
    LOST = auto()
    """Given up, by the machine or by the writer."""


@define(eq=False)
class Published:
    """One segment. Sizes in bytes."""

    serial: int
    author: int
    fate: Fate = Fate.WRITING
    seq: int = -1
    sent: int = 0
    """What a connection has taken."""
    arrived: int = 0
    """What a server has taken."""
    whole_there: bool = False
    """Whether a server saw its end."""

    def piece(self, cells: int) -> bytes:
        """The next so many cells, as they go out."""
        return row(self.serial, self.sent // CELL, cells)


@lru_cache(maxsize=1 << 12)
def row(serial: int, first: int, count: int) -> bytes:
    """A run of a segment's bytes."""
    return b"".join(b"%08d.%06d|" % (serial, index) for index in range(first, first + count))


@define(eq=False, repr=False)
class Book:
    """All segments, by serial number."""

    published: dict[int, Published] = field(factory=dict)
    latest: int = 0

    def begin(self, author: int) -> Published:
        """A writer sets out to write one."""
        self.latest += 1
        segment = Published(self.latest, author)
        self.published[self.latest] = segment
        self.published.pop(self.latest - KEPT, None)
        return segment

    def arrived(self, data: bytes, before: int, owner: int | None) -> int:
        """A server takes bytes into a segment that holds ``before`` bytes of serial ``owner``.
        Gives the serial number that they have.
        """
        serial = _serial(data)
        require(owner in (None, serial), "a half-written segment is appended to", owner, serial)
        segment = self.published[serial]
        first, count = before // CELL, len(data) // CELL
        require(data == row(serial, first, count), "bytes come out of order", serial, before)
        segment.arrived = before + len(data)
        return serial

    def source(self, body: bytes) -> Published | None:
        """Check that these are the first bytes of one segment, and say of which; None: too few to
        tell.
        """
        if len(body) < CELL:
            return None
        serial = _serial(body)
        segment = self.published[serial]
        expected = row(serial, 0, -(-len(body) // CELL))
        require(expected.startswith(body), "a reader's bytes are not what was published", serial)
        require(len(body) <= segment.arrived, "a reader has bytes that no server had", segment)
        return segment


def _serial(data: bytes) -> int:
    return int(data[:8])
