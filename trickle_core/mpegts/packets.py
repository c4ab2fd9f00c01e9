"""The transport stream packet: 188 bytes, a header of four, often an adaptation field.

Source: ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.5. A header travels here as one number of 32 bits, so that
a packet that is exactly what is due next is told by one comparison.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from attrs import frozen

from trickle_core.mpegts.units import CLOCK_WRAP

SIZE: Final = 188
HEADER: Final = 4
PAYLOAD: Final = 184
SYNC: Final = 0x47

LONGEST_RUN: Final = 256
"""Packets that are looked at together."""


@lru_cache(maxsize=LONGEST_RUN)
def headers_of(count: int) -> Struct:
    """The headers of so many packets."""
    return Struct(">" + "I184x" * count)


@lru_cache(maxsize=LONGEST_RUN)
def bodies_of(count: int) -> Struct:
    """What stands behind the headers of so many packets."""
    return Struct("4x184s" * count)


TRANSPORT_ERROR: Final = 0x800000
STARTS: Final = 0x400000
"""payload_unit_start_indicator: a PES or a section begins in this packet."""
SCRAMBLED: Final = 0xC0
ADAPTED: Final = 0x20
"""An adaptation field stands in front of the payload."""
HAS_PAYLOAD: Final = 0x10

DISCONTINUITY: Final = 0x80
RANDOM_ACCESS: Final = 0x40
HAS_PCR: Final = 0x10
_FIXED_FIELDS: Final = {HAS_PCR: 6, 0x08: 6, 0x04: 1}  # PCR, OPCR, splice countdown
_SIZED_FIELDS: Final = (0x02, 0x01)  # private data, extension: a length byte each

NULL_PID: Final = 0x1FFF
PIDS: Final = range(0x20, NULL_PID)
"""Those that a PMT or a stream has: below are MPEG's and DVB's own tables, above is padding."""

UNKNOWN: Final = -1
"""A header that no packet has: what is due where nothing is known."""


def plain_header(pid: int, counter: int) -> int:
    """The header of a packet of nothing but payload, in the middle of its unit."""
    return SYNC << 24 | pid << 8 | HAS_PAYLOAD | counter & 0xF


def pid_of(header: int) -> int:
    """The packet identifier in a header."""
    return header >> 8 & 0x1FFF


@frozen
class Cargo:
    """What a packet carries. ``stuffed``: its adaptation field is longer than what stands in it."""

    payload: bytes
    stuffed: bool = False
    discontinuity: bool = False


def cargo(header: int, body: bytes) -> Cargo | None:
    """What stands behind the header; None where the adaptation field does not fit the packet."""
    payload = bool(header & HAS_PAYLOAD)
    if not header & ADAPTED:
        return Cargo(body if payload else b"")
    length = body[0]
    if length >= PAYLOAD:
        return None
    flags = body[1] if length else 0
    return Cargo(
        body[length + 1 :] if payload else b"",
        stuffed=length == 0 or length > _fields(body, flags),
        discontinuity=bool(flags & DISCONTINUITY),
    )


def _fields(body: bytes, flags: int) -> int:
    """Bytes of an adaptation field, from its flags on, that say something.

    A field of flags alone whose flags say nothing is there to fill two bytes.
    """
    if flags == 0:
        return 0
    end = 2 + sum(size for flag, size in _FIXED_FIELDS.items() if flags & flag)
    for flag in _SIZED_FIELDS:
        if flags & flag and end < len(body):
            end += 1 + body[end]
    return end - 1


_STUFFING: Final = (
    b"",
    b"\x00",
    *(bytes([size - 1, 0]) + b"\xff" * (size - 2) for size in range(2, PAYLOAD + 1)),
)
"""Adaptation fields that say nothing, by their size."""


def stretched(field: bytes, size: int) -> bytes:
    """An adaptation field with ``size`` more bytes of stuffing at its end."""
    if not field:
        return _STUFFING[size]
    return bytes([field[0] + size]) + field[1:] + b"\xff" * size


def adaptation(flags: int, pcr: int | None = None) -> bytes:
    """An adaptation field; empty where it says nothing. ``pcr`` in 1/90000 s, modulo 33 bits."""
    if pcr is None:
        return bytes([1, flags]) if flags else b""
    # The extension, 27 MHz modulo 300, stays 0: nothing here is finer than 90 kHz.
    clock = (pcr % CLOCK_WRAP) << 15 | 0x3F << 9
    return bytes([7, flags | HAS_PCR]) + clock.to_bytes(6)
