"""The packetised elementary stream: the header in front of one or more coded frames.

Source: ISO/IEC 13818-1, 2.4.3.6 and 2.4.3.7.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

PREFIX: Final = b"\x00\x00\x01"
LENGTH_END: Final = 6
"""Bytes up to the end of PES_packet_length: what follows is counted by it."""
LONGEST: Final = 0xFFFF
"""What PES_packet_length can say; 0 leaves it open, which only video may."""
_HEAD: Final = 9
"""Bytes up to the end of PES_header_data_length."""
_TIME: Final = 5
_BITS: Final = Struct(">BI")
"""The five bytes of a time stamp."""

_TIMES: Final = (0, 0, 1, 2)
"""How many time stamps there are, by PTS_DTS_flags. A DTS alone is not legal, and passed over."""

_FIXED: Final = Struct(">IHBBB")
"""Prefix and stream_id, PES_packet_length, two bytes of flags, PES_header_data_length."""


Pes: TypeAlias = tuple[bytes, int | None, int | None]
"""One PES taken apart: its data, pts and dts in 1/90000 s of 33 bits, None where the header has none."""


def open_pes(buffer: bytes | bytearray, end: int | None = None) -> Pes | None:
    """Take a whole PES apart, up to ``end``; None where it is malformed or scrambled.

    ``dts`` is None where there is none of its own: it equals ``pts`` then.
    """
    if len(buffer) < _HEAD or buffer[6] & 0xF0 != 0x80:  # '10', not scrambled
        return None
    times, start = _TIMES[buffer[7] >> 6], _HEAD + buffer[8]
    if not _HEAD + times * _TIME <= start <= len(buffer):
        return None
    pts = read_time(buffer, _HEAD) if times else None
    dts = read_time(buffer, _HEAD + _TIME) if times == 2 else None
    return bytes(memoryview(buffer)[start:end]), pts, dts


def read_time(data: bytes | bytearray, at: int = 0) -> int:
    """The PTS or DTS at ``at``: 33 bits in 3, 15 and 15, each followed by a marker bit.

    The marker bits are not checked: libavformat does not either, so muxers get away with wrong
    ones.
    """
    high: int
    low: int
    high, low = _BITS.unpack_from(data, at)
    return (high & 0xE) << 29 | low >> 2 & 0x3FFF8000 | low >> 1 & 0x7FFF


def write_time(mark: int, time: int) -> bytes:
    """A PTS or DTS, modulo 33 bits; ``mark`` is the nibble that says which of them it is."""
    low = (time & 0x3FFF8000) << 2 | (time & 0x7FFF) << 1 | 0x10001
    return _BITS.pack(mark << 4 | time >> 29 & 0xE | 1, low)


def pes_header(stream_id: int, size: int, pts: int, dts: int, *, spare: int = 0) -> bytes:
    """The header in front of ``size`` bytes; ``spare`` bytes of stuffing at its end.

    The length is left open where it does not fit; the caller takes care that only video does so.
    """
    if pts == dts:
        flags, rest, times = 0x80, _TIME + spare, write_time(2, pts)
    else:
        flags, rest, times = 0xC0, 2 * _TIME + spare, write_time(3, pts) + write_time(1, dts)
    length = _HEAD - LENGTH_END + rest + size
    counted = length if length <= LONGEST else 0
    # 0x84: data_alignment_indicator, a picture or audio frame begins right behind the header.
    return _FIXED.pack(0x100 | stream_id, counted, 0x84, flags, rest) + times + b"\xff" * spare
