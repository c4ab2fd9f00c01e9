"""What a demuxer reports."""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from attrs import frozen

from trickle_core.mpegts.units import AccessUnit, ElementaryStream


@frozen
class ProgramMap:
    """The program consists of these streams from here on. Those that are not carried are left out."""

    streams: tuple[ElementaryStream, ...]


class DamageReason(Enum):
    """What was wrong with the bytes."""

    SYNC_LOST = auto()
    """Bytes that are no transport stream: at the beginning, or between packets."""
    TRUNCATED = auto()
    """The segment ended within a packet, or within a unit whose length was told."""
    PACKETS_LOST = auto()
    """The continuity counter jumped."""
    TRANSPORT_ERROR = auto()
    """A packet that a demodulator had marked as broken."""
    SCRAMBLED = auto()
    """The stream is encrypted. Told once, until packets in the clear come."""
    BAD_SECTION = auto()
    """A program table with a wrong CRC."""
    BAD_PES = auto()
    """No PES header where one must be, or one that contradicts itself."""
    WRONG_END = auto()
    """A PES went on after its end, or ended before its length: the publisher's statement is wrong."""
    OVERSIZED = auto()
    """A unit above the demuxer's bound; it was thrown away."""
    NO_TIMESTAMP = auto()
    """A unit before any time stamp; it was thrown away."""
    BAD_FRAME = auto()
    """Bytes between audio frames that are no audio frame; they were skipped."""


@frozen
class Damage:
    """Something was lost or wrong; ``pid`` None: no stream can be named."""

    pid: int | None
    reason: DamageReason


TsEvent: TypeAlias = ProgramMap | AccessUnit | Damage
