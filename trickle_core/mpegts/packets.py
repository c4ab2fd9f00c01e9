"""The transport stream packet: 188 bytes, a header of four, often an adaptation field.

Source: ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.5. A header travels here as one number of 32 bits, so that
a packet that is exactly what is due next is told by one comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from trickle_core.mpegts.units import CLOCK_WRAP

SIZE: Final = 188
HEADER: Final = 4
PAYLOAD: Final = 184
SYNC: Final = 0x47

LONGEST_RUN: Final = 256
"""Packets that are looked at together."""


PACKET: Final = Struct(">I184s")
"""A header, and what stands behind it."""


def headers_of(packets: memoryview) -> bytes:
    """The headers of some packets, one behind the other."""
    return packets.cast("I")[:: SIZE // HEADER].tobytes()


def cut_headers_out(packets: bytearray, start: int) -> None:
    """Leave only the bodies of the packets that stand behind ``start``.

    A byte of each header at a time, so that the machine moves bytes and nothing is made a packet.
    """
    for size in range(SIZE, PAYLOAD, -1):
        del packets[start::size]


@lru_cache(maxsize=LONGEST_RUN)
def _payloads_of(count: int) -> Struct:
    return Struct("184s" * count)


def full_payloads(content: bytes, start: int) -> Sequence[bytes]:
    """The content from ``start`` on, as far as it fills packets of nothing but payload."""
    count = (len(content) - start) // PAYLOAD
    if count <= LONGEST_RUN:
        return _payloads_of(count).unpack_from(content, start)
    payloads: list[bytes] = []
    while count > 0:
        run = min(count, LONGEST_RUN)
        payloads += _payloads_of(run).unpack_from(content, start)
        start, count = start + run * PAYLOAD, count - run
    return payloads


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
_FIXED_ENDS: Final = tuple(
    2 + sum(size for flag, size in _FIXED_FIELDS.items() if flags & flag) for flags in range(256)
)
"""Where in a body those of the adaptation field end, by its flags."""
_SIZED_FIELDS: Final = (0x02, 0x01)  # private data, extension: a length byte each

NULL_PID: Final = 0x1FFF
PIDS: Final = range(0x20, NULL_PID)
"""Those that a PMT or a stream has: below are MPEG's and DVB's own tables, above is padding."""

UNKNOWN: Final = -1
"""A header that no packet has: what is due where nothing is known."""


def plain_header(pid: int, counter: int) -> int:
    """The header of a packet of nothing but payload, in the middle of its unit."""
    return SYNC << 24 | pid << 8 | HAS_PAYLOAD | counter & 0xF


def payload_of(header: int, body: bytes) -> bytes | None:
    """What a packet carries; None where its adaptation field does not fit it."""
    start = 0
    if header & ADAPTED:
        start = body[0] + 1
        if start > PAYLOAD:
            return None
    return body[start:] if header & HAS_PAYLOAD else b""


def is_stuffed(header: int, body: bytes) -> bool:
    """Whether the adaptation field of a packet is longer than what stands in it."""
    if not header & ADAPTED:
        return False
    length, flags = body[0], body[1]
    # A field of flags alone whose flags say nothing is there to fill two bytes.
    if length == 0 or flags == 0:
        return True
    end = _FIXED_ENDS[flags]
    for flag in _SIZED_FIELDS:
        if flags & flag and end < len(body):
            end += 1 + body[end]
    return length >= end


def is_discontinuous(header: int, body: bytes) -> bool:
    """Whether a packet says that the counter before it means nothing."""
    return bool(header & ADAPTED and body[0] and body[1] & DISCONTINUITY)


STUFFING: Final = (
    b"",
    b"\x00",
    *(bytes([size - 1, 0]) + b"\xff" * (size - 2) for size in range(2, PAYLOAD + 1)),
)
"""Adaptation fields that say nothing, by their size."""


def stretched(field: bytes, size: int) -> bytes:
    """An adaptation field with ``size`` more bytes of stuffing at its end."""
    if not field:
        return STUFFING[size]
    return bytes([field[0] + size]) + field[1:] + b"\xff" * size


def adaptation(flags: int, pcr: int | None = None) -> bytes:
    """An adaptation field; empty where it says nothing. ``pcr`` in 1/90000 s, modulo 33 bits."""
    if pcr is None:
        return bytes([1, flags]) if flags else b""
    # The extension, 27 MHz modulo 300, stays 0: nothing here is finer than 90 kHz.
    clock = (pcr % CLOCK_WRAP) << 15 | 0x3F << 9
    return (7 << 56 | (flags | HAS_PCR) << 48 | clock).to_bytes(8)
