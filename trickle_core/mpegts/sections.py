"""Sections of program tables (PSI): joined from packets, and their CRC.

Source: ISO/IEC 13818-1, 2.4.4; the CRC is its annex A.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define

from trickle_core.mpegts.packets import HAS_PAYLOAD, STARTS, UNKNOWN, is_discontinuous, payload_of

HEAD: Final = 3
"""Bytes of table_id and section_length."""

_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def mpeg_crc(data: bytes) -> int:
    """The CRC-32 of annex A: no reflection, no final inversion.

    The library's CRC has the same polynomial and the opposite bit order: mirrored bytes in and a
    mirrored number out make one of the other, at C's speed.
    """
    mirrored = crc32(data.translate(_MIRRORED)) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


@define
class SectionReader:
    """Joins the sections of one PID from its packets. Holds one section at most."""

    due: int = UNKNOWN
    """The next continuity counter."""
    _held: bytearray | None = None
    """The section that is being joined; None: nothing of use before the next start."""

    _latest: tuple[int, bytes] = (UNKNOWN, b"")
    """The latest packet: its header without the counter, and what stands behind it."""

    def read(self, header: int, body: bytes) -> Iterable[bytes]:
        """The sections that this packet completes, unchecked; none where it says again what the one
        before said: tables come with every key frame, and from some muxers with every picture.
        """
        packet = header & ~0xF, body
        if self._held is None and packet == self._latest and header & STARTS:
            self.due = header + 1 & 0xF
            return ()
        payload = payload_of(header, body)
        if payload is None or not header & HAS_PAYLOAD or self._is_repeated(header, body):
            return ()
        if self.due not in (UNKNOWN, header & 0xF) and not is_discontinuous(header, body):
            self._held = None
        self.due = header + 1 & 0xF
        self._latest = packet
        return self._start(payload) if header & STARTS else self._grow(payload)

    def _is_repeated(self, header: int, body: bytes) -> bool:
        """One repetition of a packet is legal (2.4.3.3).

        The same counter with another content is another muxer's, each of whose segments has one
        packet of tables.
        """
        return self.due == header + 1 & 0xF and self._latest[1] == body

    def _start(self, payload: bytes) -> Iterator[bytes]:
        # pointer_field: how much of this packet still belongs to the section before.
        begin = 1 + int.from_bytes(payload[:1])
        yield from self._grow(payload[1:begin])
        self._held = bytearray()
        yield from self._grow(payload[begin:])

    def _grow(self, data: bytes) -> Iterator[bytes]:
        if self._held is None:
            return
        self._held += data
        while section := self._whole():
            yield section

    def _whole(self) -> bytes:
        """The section at the front of what is held, taken out; empty where it is not whole."""
        held = self._held
        if not held or held[0] == 0xFF:  # 0xFF is no table: the rest of the packet is padding
            self._held = None if held else held
            return b""
        end = HEAD + (int.from_bytes(held[1:HEAD]) & 0xFFF)
        if len(held) < end:
            return b""
        section = bytes(held[:end])
        del held[:end]
        return section
